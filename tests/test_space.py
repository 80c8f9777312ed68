"""The repository as a Hugging Face Space: its card, its files, and `app.py` under a stand-in for ZeroGPU."""

import json
import os
import pickle
import re
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
import torch

from dit_core.formats import Adapter, write_weight_diffs
from dit_core.methods import oracle
from dit_core.methods.verbalize import ask, stream
from dit_core.suite.offload import RemoteCall
from dit_core.trust.control_diffs import RANDOM, control
from dit_core.ui.server import space
from tests.serving import free_port
from tests.visits import visit

ROOT = Path(__file__).resolve().parent.parent
STUBS = ROOT / "tests" / "stubs"
COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}


def packages(name: str) -> dict[str, str]:
    """What a requirements file asks for, by package."""
    lines = (ROOT / name).read_text().splitlines()
    found = (re.fullmatch(r"([\w-]+)(?:\[[^]]*\])?(.*)", line.strip()) for line in lines if not line.startswith("#"))
    return {match[1].lower().replace("_", "-"): match[2] for match in found if match}


# ---------------------------------------------------------------- what the platform reads


def test_the_card_is_valid():
    from huggingface_hub import SpaceCard

    card = SpaceCard.load(ROOT / "README.md").data
    for name in ("title", "emoji", "license", "short_description"):
        assert getattr(card, name), name
    assert card.sdk == "gradio" and (ROOT / card.app_file).is_file()
    assert {card.colorFrom, card.colorTo} <= COLOURS and len(card.emoji) <= 2
    assert len(card.short_description) <= 60
    assert card.python_version == "3.12", "a text: YAML reads 3.10 as 3.1"
    assert card.sdk_version == packages("constraints.txt")["gradio"].removeprefix("==")


def test_requirements_leave_the_platforms_own_packages_alone():
    wanted = packages("requirements.txt")
    assert "spaces" not in wanted
    assert re.fullmatch(r">=[\d.]+", wanted["gradio"])
    # Installed before the rest: one of the versions that ZeroGPU knows, and one that the rest accepts.
    torch = packages("pre-requirements.txt")["torch"]
    assert torch in ("==2.8.0", "==2.9.1", "==2.10.0", "==2.11.0")
    least = wanted["torch"].removeprefix(">=")
    assert [int(n) for n in torch.removeprefix("==").split(".")] >= [int(n) for n in least.split(".")]


def test_no_file_needs_large_file_storage():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.splitlines()
    if not listed:
        pytest.skip("not a git repository")
    large = [name for name in listed if (ROOT / name).is_file() and (ROOT / name).stat().st_size > 10_000_000]
    assert not large


@pytest.mark.network
def test_requirements_resolve_for_the_platform(tmp_path):
    from huggingface_hub import SpaceCard

    card = SpaceCard.load(ROOT / "README.md").data
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--target", str(tmp_path)]
    command += ["--python-version", card.python_version, "--only-binary", ":all:", "-r", "requirements.txt"]
    command += ["-r", "pre-requirements.txt", f"gradio[oauth,mcp]=={card.sdk_version}", "spaces"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr


@pytest.mark.network
@pytest.mark.parametrize("python", ["3.12", "3.13"])
def test_the_versions_that_are_tested_are_there_for_later_pythons(python, tmp_path):
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--target", str(tmp_path)]
    command += ["--python-version", python, "--only-binary", ":all:", "-r", "requirements.txt", "-c", "constraints.txt"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr


# ---------------------------------------------------------------- ZeroGPU


def test_nothing_of_it_is_imported_elsewhere():
    code = "import sys, app; assert not {'spaces', 'torch', 'gradio'} & set(sys.modules)"
    env = {k: v for k, v in os.environ.items() if k != "SPACES_ZERO_GPU"} | {"PYTHONPATH": str(STUBS)}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, check=True, timeout=120)


def test_duration_grows_with_the_request_and_ends(suite):
    def lasting(**options) -> int:
        return space.seconds(RemoteCall(options.pop("function", ask), suite, ("topic-0412",), options))

    assert 10 < lasting() < lasting(max_new_tokens=100) < lasting(max_new_tokens=400)
    assert lasting() == lasting(condition=["base", "diff"]) < lasting(condition=["base"] * 10, samples=50)
    assert lasting() < lasting(function=oracle.stream)
    assert lasting(max_new_tokens=100_000) == space.LONGEST
    assert lasting(max_new_tokens=-100_000) == lasting(samples=-5) == space.BEGINNING


def test_calls_run_elsewhere_and_give_the_same(suite, monkeypatch):
    """In this process: what is sent away is a call of plain data, and what comes back is what it gives here."""
    sent = []

    def elsewhere(call):
        sent.append(call.function.__name__)
        return (value for _, value in space.on_gpu(call))

    here = ask(suite, diff="topic-0412", condition=["diff", "dit"])
    monkeypatch.setattr(suite.worker, "offload", elsewhere)
    assert ask(suite, diff="topic-0412", condition=["diff", "dit"]) == here
    assert [*stream(suite, diff="topic-0412", condition=["diff", "dit"])][-1] == here
    assert sent == ["ask", "stream"]


def test_an_adapter_can_be_sent_without_tensors(suite):
    for own in (
        suite.load_diff(suite.diffs[0]),
        Adapter({}, {}, {"b.bias": torch.eye(3).bfloat16()[:, 1]}, tied=False),
    ):
        sent = pickle.loads(pickle.dumps(own))
        assert (sent.scaling, sent.tied) == (own.scaling, own.tied)
        for name in ("factors", "weights"):
            mine, theirs = getattr(own, name), getattr(sent, name)
            assert list(mine) == list(theirs)
            torch.testing.assert_close([*theirs.values()], [*mine.values()], rtol=0, atol=0)


def test_only_the_diffs_that_are_named_go_along(suite):
    adapter = suite.load_diff(suite.diffs[0])
    mine, others = (suite.bring(adapter, title) for title in ("mine", "somebody else's"))
    both = suite.user_diffs_in(({"diff": [mine.id]}, control(others, RANDOM)))
    assert [own.origin.title for own in both] == ["mine", "somebody else's"]
    [one] = suite.user_diffs_in(((mine,), {}))
    assert one.info == mine and not suite.user_diffs_in((("own-1",), {}))
    for info in (mine, others):
        suite.forget(info.id)


def test_a_table_is_never_pickled_to_find_whose_diffs_it_is_about(suite):
    """Only the `diff` of each record is looked at, however often a table is streamed."""
    mine, pickled = suite.bring(suite.load_diff(suite.diffs[0]), "mine"), []

    @dataclass(frozen=True)
    class Counted:
        diff: str
        text: str

        def __reduce__(self):
            pickled.append(self)
            return Counted, (self.diff, self.text)

    try:
        for _ in range(3):
            table = suite.table("counted", [Counted("topic-0412", "x" * 1000)] * 100)
        assert not pickled and "brought" not in table.extra
        table = suite.table("counted", [Counted("", mine.id), Counted(mine.id, "")])
        assert not pickled and table.extra["brought"] == {mine.id: asdict(suite.origin(mine.id))}
        assert suite.user_diffs_in([(table, {"layers": [0]})]) and not suite.user_diffs_in([Counted("", mine.id)])
    finally:
        suite.forget(mine.id)


def same(found, expected) -> bool:
    """Whether two answers are equal, numbers to 1e-4: another process may add up in another order."""
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(same(found[key], expected[key]) for key in expected)
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(same, found, expected))
    return found == (pytest.approx(expected, rel=1e-4, abs=1e-4) if isinstance(expected, float) else expected)


SETTING = {"SPACES_ZERO_GPU": "true", "PYTHONPATH": os.pathsep.join([str(STUBS), str(ROOT)])}


def calls(log: Path) -> list[dict]:
    return [json.loads(line) for line in log.read_text().splitlines()]


@pytest.mark.slow
def test_all_that_a_page_can_run_is_sent_to_the_gpu(suite, tmp_path):
    """Every tab, with a diff of the visitor's own: each finds what it finds at home."""
    write_weight_diffs(tmp_path / "mine.pt", [(suite.load_diff(suite.diffs[0]), "", None)])
    own = SETTING | {"STUB_SPACES_LOG": str(tmp_path / "calls.jsonl"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "tests.visits", str(suite.folder), str(tmp_path / "mine.pt")]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | own, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    found, expected = json.loads(done.stdout), visit(suite, str(tmp_path / "mine.pt"))
    for name in expected:
        assert same(found[name], expected[name]), name
    sent = {call["call"] for call in calls(tmp_path / "calls.jsonl")}
    assert sent >= {"ask", "stream", "targets", "read", "target_of", "norms", "lifts"}
    assert sent >= {"difference_lens", "similarities", "steer", "log_probabilities", "_references", "_changes"}


@pytest.mark.long
def test_the_app_keeps_the_rules_of_zero_gpu(suite, tmp_path):
    """`app.py` as the platform starts it: every answer comes from the GPU's process and equals the plain one."""
    from gradio_client import Client

    from dit_core.methods import lens
    from dit_core.methods.oracle import read

    port, log = free_port(), tmp_path / "calls.jsonl"
    own = SETTING | {"SPACE_ID": "someone/dit-explorer", "STUB_SPACES_LOG": str(log), "GRADIO_SERVER_PORT": str(port)}
    command = [sys.executable, "app.py", "--suite", str(suite.folder)]
    app = subprocess.Popen(command, cwd=ROOT, env=os.environ | own, stdout=subprocess.PIPE, text=True)
    try:
        assert str(port) in app.stdout.readline()
        client = Client(f"http://127.0.0.1:{port}/", verbose=False)
        asked = client.predict("topic-0412", ["diff", "diff+dit"], max_new_tokens=8, api_name="/ask")
        plain = ask(suite, diff="topic-0412", condition=["diff", "diff+dit"], max_new_tokens=8)
        assert same(asked, plain.to_json())
        again = client.predict("headline-0017", ["diff"], max_new_tokens=8, api_name="/ask")
        assert same(again, ask(suite, diff="headline-0017", condition="diff", max_new_tokens=8).to_json())
        found = client.predict("topic-0412", ["diff"], layers="0", api_name="/oracle")
        expected = read(suite, diff="topic-0412", condition="diff", layers="0").to_json()
        assert same(found["readings"], expected["readings"])
        found = client.predict("topic-0412", ["diff"], api_name="/norms")
        assert same(found, lens.norms(suite, "topic-0412").to_json())
        with pytest.raises(Exception, match="Did you mean|no layer|layers"):
            client.predict("topic-0412", ["diff"], layers="99", api_name="/oracle")
    finally:
        app.kill()
        app.wait()
    made = calls(log)
    assert [call["call"] for call in made] == ["stream", "stream", "stream", "norms", "stream"]
    assert made[0]["seconds"] < made[2]["seconds"]
