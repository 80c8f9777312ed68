"""The repository as a Hugging Face Space: its card, its files, and `app.py` under a stand-in for ZeroGPU."""

import json
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from dit_core.suite import Suite, load_suite
from dit_core.ui import space
from dit_core.verbalize import ask, stream
from tests.serving import free_port

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


# ---------------------------------------------------------------- ZeroGPU


@pytest.fixture(scope="module")
def suite(tiny_suite_folder) -> Suite:
    return load_suite(tiny_suite_folder)


def test_nothing_of_it_is_imported_elsewhere():
    code = "import sys, app; assert not {'spaces', 'torch', 'gradio'} & set(sys.modules)"
    env = {k: v for k, v in os.environ.items() if k != "SPACES_ZERO_GPU"} | {"PYTHONPATH": str(STUBS)}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, check=True, timeout=120)


def test_duration_grows_with_the_request_and_ends(suite):
    def lasting(**options) -> int:
        return space.seconds(partial(ask, suite, diff="topic-0412", **options))

    assert 10 < lasting() < lasting(max_new_tokens=100) < lasting(max_new_tokens=400)
    assert lasting(max_new_tokens=20) < lasting(max_new_tokens=20, span="last:10")
    assert lasting(max_new_tokens=100_000) == space.LONGEST


def test_calls_run_elsewhere_and_give_the_same(suite, monkeypatch):
    """In this process: what is sent away is a call of plain data, and what comes back is what it gives here."""
    sent = []

    def elsewhere(call):
        sent.append(call)
        return (value for _, value in space.on_gpu(call))

    here = ask(suite, diff="topic-0412", condition=["diff", "dit"])
    monkeypatch.setattr(suite.worker, "elsewhere", elsewhere)
    assert ask(suite, diff="topic-0412", condition=["diff", "dit"]) == here
    assert [*stream(suite, diff="topic-0412", condition=["diff", "dit"])][-1] == here
    assert [call.func.__name__ for call in sent] == ["ask", "stream"]


def same(found, expected) -> bool:
    """Whether two answers are equal, numbers to 1e-4: another process may add up in another order."""
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(same(found[key], expected[key]) for key in expected)
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(same, found, expected))
    return found == (pytest.approx(expected, rel=1e-4, abs=1e-4) if isinstance(expected, float) else expected)


def test_the_app_keeps_the_rules_of_zero_gpu(suite, tmp_path):
    """`app.py` as the platform starts it: every answer comes from the GPU's process and equals the plain one."""
    from gradio_client import Client

    from dit_core import lens
    from dit_core.oracle import read

    port, log = free_port(), tmp_path / "calls.jsonl"
    own = {"SPACES_ZERO_GPU": "true", "SPACE_ID": "someone/dit-explorer", "STUB_SPACES_LOG": str(log)}
    own |= {"PYTHONPATH": os.pathsep.join([str(STUBS), str(ROOT)]), "GRADIO_SERVER_PORT": str(port)}
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
        assert same(client.predict("topic-0412", api_name="/norms"), lens.norms(suite, "topic-0412").to_json())
        with pytest.raises(Exception, match="Did you mean|no layer|layers"):
            client.predict("topic-0412", ["diff"], layers="99", api_name="/oracle")
    finally:
        app.kill()
        app.wait()
    calls = [json.loads(line) for line in log.read_text().splitlines()]
    assert [call["call"] for call in calls] == ["stream", "stream", "stream", "norms", "stream"]
    assert calls[0]["seconds"] < calls[2]["seconds"]
