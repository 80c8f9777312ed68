"""Published suites through the real hub client, against a hub on this machine: what is fetched, what goes wrong.

No test here needs a network but the ones marked `hub`, which ask the real one and are left out by default.
"""

import errno
import gc
import json
import os
import pickle
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import huggingface_hub
import pytest
import torch

from dit_core import DitError, ask, load_suite, read
from dit_core.cli import output
from dit_core.cli.output import console_progress
from dit_core.hub import Fetcher, HubPath, parse_source, watch_downloads
from dit_core.hub.cache import cached_repositories, delete_repositories
from dit_core.hub.progress import progress_bar_class
from dit_core.suite import Suite, base, generic_suite
from dit_core.suite import catalog as finding
from dit_core.suite import suite as whole
from dit_core.suite.diffs import source_size
from dit_core.suite.limits import PUBLIC, serving
from dit_core.suite.user_diffs import bring_source
from dit_core.trust import measured_reliability
from tests.hub_artefacts import BASES, LORAS, ORACLES, tiny_base, write_hub
from tests.hub_server import TOKEN, connect, running

QWEN = "hidden-topic/qwen3-1.7b"
NEEDED = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    return write_hub(tmp_path_factory.mktemp("hub"))


@pytest.fixture
def hub(folders, tmp_path, monkeypatch):
    """A hub with all artefacts, and a client with an empty cache that knows it."""
    with running() as hub:
        for repo, folder in folders.items():
            hub.publish(repo, folder)
        connect(monkeypatch, hub.url, tmp_path / "cache")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own-cache"))
        anew()
        yield hub
        anew()


def anew() -> None:
    """As in another process: no suite is known, and no base is loaded."""
    finding._published_suite.cache_clear()
    finding._generic.cache_clear()
    whole._LOADED_BASE.clear()


def said(suite: Suite, diff: str = "volcano", condition="diff+dit", **options) -> list[str]:
    return [one.text for one in ask(suite, diff, condition=condition, max_new_tokens=4, **options)]


def refused(call) -> str:
    """The one sentence that a call is refused with."""
    with pytest.raises(DitError) as caught:
        call()
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
    return str(caught.value)


# ---------------------------------------------------------------- a suite by name


def test_listing_asks_for_the_index_alone(hub):
    suite = load_suite(QWEN)
    assert not hub.asked
    assert [(d.id, d.split, d.rank) for d in suite.diffs] == [
        ("topic-0000", "train", 1),
        ("topic-0001", "test", 1),
        ("topic-0002", "test", 1),
    ]
    assert hub.files() == [f"{LORAS}/{QWEN}/index.csv"]
    assert "volcano" not in json.dumps(suite.diffs.to_json())


@pytest.mark.parametrize("model", BASES)
def test_a_suite_by_name_answers_as_the_same_artefacts_in_one_model(hub, model):
    suite = load_suite(f"hidden-topic/{model}")
    found = ask(suite, "volcano", condition=["base", "diff", "diff+dit*0.5"], max_new_tokens=1)
    base = suite.worker.run(lambda: suite.model)
    assert type(base.base).__name__.startswith("Qwen3" if "qwen" in model else "Gemma3")
    wanted = {f"{BASES[model]}/{name}" for name in NEEDED} | {
        f"{LORAS}/hidden-topic/{model}/{name}"
        for name in ("index.csv", "dit-adapter.pt", "weight-diffs/weight-diff-000.pt")
    }
    assert set(hub.files()) == wanted
    # The same with weights into which all was added by hand, in a model that never saw PEFT.
    merged = tiny_base(model)
    add(merged, suite.load_diff(suite.diff("volcano")), 1.0)
    add(merged, suite.load_adapter("topic"), 0.5)
    with torch.inference_mode():
        logits = merged(input_ids=torch.tensor([base.encode("What topic have you been trained on?")])).logits[0, -1]
    assert found[2].token_probabilities[0] == pytest.approx(float(logits.softmax(-1).max()), rel=1e-3)
    assert len({one.token_probabilities for one in found}) == 3


@torch.no_grad()
def add(model, adapter, strength: float) -> None:
    """Adds an adapter to the weights of a plain model, whatever stands before its text model's names."""
    modules = {name: module for name, module in model.named_modules() if "vision" not in name}
    for name, (A, B) in adapter.factors.items():
        (own,) = (m for path, m in modules.items() if path.partition(".layers.")[2] == name.partition(".layers.")[2])
        own.weight += strength * adapter.scaling[name] * (B.float() @ A.float())


def test_a_second_diff_of_the_same_file_and_a_second_process_fetch_nothing(hub):
    suite = load_suite(QWEN)
    first = said(suite, ["violin", "volcano"])
    hub.forget()
    assert said(suite, "violin") == first[:1] and not hub.asked
    anew()
    assert said(load_suite(QWEN), ["violin", "volcano"]) == first
    assert not hub.files()


def test_the_oracle_and_other_adapters_are_fetched_when_they_are_asked(hub):
    suite = load_suite(QWEN)
    said(suite)
    hub.forget()
    assert read(suite, "volcano", condition="diff", layers=0, block=0, span="last:1", max_new_tokens=2)
    oracle = ORACLES["qwen3-1.7b"]
    assert set(hub.files()) == {f"{oracle}/adapter_config.json", f"{oracle}/adapter_model.safetensors"}
    hub.forget()
    assert said(suite, condition="diff+dit:trigger", question=suite.adapter("trigger").question)
    assert hub.files() == [f"{LORAS}/hidden-topic-trigger-inversion/qwen3-1.7b/dit-adapter.pt"]


def test_results_say_the_revisions_and_a_suite_keeps_to_them(hub, folders, tmp_path):
    suite = load_suite(QWEN)
    commits = {repo: hub.newest(repo) for repo in (LORAS, BASES["qwen3-1.7b"])}
    suite.diffs  # noqa: B018  the first look fixes the commit
    other = shutil.copytree(folders[LORAS], tmp_path / "newer")
    shutil.rmtree(other / QWEN / "weight-diffs")
    assert hub.publish(LORAS, other) != commits[LORAS]
    table = ask(suite, "volcano", condition="diff+dit", max_new_tokens=1)
    assert table.to_json()["revisions"] == suite.revisions == commits


def test_progress_is_told_in_bytes(hub, folders):
    seen = []
    with watch_downloads(lambda done, total, what: seen.append((done, total, what))):
        said(load_suite(QWEN))
    base_folder = folders[BASES["qwen3-1.7b"]]
    config, weights = ((base_folder / name).stat().st_size for name in ("config.json", "model.safetensors"))
    own = [(done, total) for done, total, what in seen if what == BASES["qwen3-1.7b"]]
    assert own.pop(0) == (config, config)  # a download of its own, which tells the commit
    assert own[-1][0] == own[-1][1] > weights and sum(done == total for done, total in own) == 1
    assert all(before <= after for before, after in zip(own, own[1:], strict=False))


def test_where_no_calibration_can_be_fitted_nobody_is_told_to_fit_one(hub):
    assert "calibration', and the suite lists none" in refused(lambda: measured_reliability(load_suite(QWEN)))


def test_bars_of_one_download_in_many_threads_never_tell_a_step_back():
    seen = []
    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with watch_downloads(lambda *told: seen.append(told)), progress_bar_class("a/b") as Bar:
            bars = [Bar(total=4_000, unit="B"), Bar(total=4_000, unit="B")]

            def some(_):
                for _ in range(500):
                    for bar in bars:
                        bar.update(1)

            with ThreadPoolExecutor(8) as threads:
                list(threads.map(some, range(8)))
    finally:
        sys.setswitchinterval(switch)
    assert [done for done, _, _ in seen] == list(range(1, 4_001))
    assert {told[1:] for told in seen} == {(4_000, "a/b")}


def test_a_terminal_is_told_of_large_downloads_alone(hub, monkeypatch, capsys):
    with console_progress():
        said(load_suite(QWEN))
    assert "GB" not in capsys.readouterr().err
    anew()
    connect(monkeypatch, hub.url, Path(huggingface_hub.constants.HF_HUB_CACHE) / "other")
    monkeypatch.setattr(output, "_SMALL_DOWNLOAD", 50_000)
    monkeypatch.setattr(base, "LARGE_BYTES", 50_000)
    with console_progress():
        said(load_suite(QWEN))
    repo = re.escape(BASES["qwen3-1.7b"])
    shown = capsys.readouterr().err
    assert re.search(rf"^{repo}: downloads 0 MB, needs 0 MB of memory", shown, re.M)
    assert len(re.findall(rf"^{repo}: 0 MB of 0 MB$", shown, re.M)) == 1


def test_what_a_suite_takes_is_told_before_anything_large_is_fetched(hub, folders):
    suite, repo = load_suite(QWEN), BASES["qwen3-1.7b"]
    needs = suite.requirements()
    assert hub.files() == [f"{repo}/config.json"]
    size = {name: (folders[repo] / name).stat().st_size for name in NEEDED}
    assert needs.download == sum(size.values()) - size["config.json"]
    assert size["model.safetensors"] < needs.memory < 1.2 * size["model.safetensors"]
    assert str(needs).startswith(f"{repo}: downloads 0 MB, needs 0 MB of memory on ")
    assert said(suite) and suite.requirements().download == 0


def test_what_was_fetched_is_listed_and_can_be_removed(hub):
    assert cached_repositories() == []
    said(load_suite(QWEN))
    found = {one.repo: one for one in cached_repositories()}
    assert set(found) == {LORAS, BASES["qwen3-1.7b"]}
    assert found[LORAS].revisions == (hub.newest(LORAS),) and found[LORAS].size > 10_000
    sentence = refused(lambda: delete_repositories([LORAS, "Qwen/Qwen3-1.7"]))
    assert "'Qwen/Qwen3-1.7B'" in sentence and len(cached_repositories()) == 2
    assert delete_repositories([LORAS]) == found[LORAS].size
    assert [one.repo for one in cached_repositories()] == [BASES["qwen3-1.7b"]]
    anew()
    assert said(load_suite(QWEN))


def test_a_suite_comes_out_of_a_pickle_as_it_is_here(hub):
    generic = generic_suite(BASES["qwen3-1.7b"])
    for suite in (load_suite(QWEN, dtype="bfloat16"), generic):
        assert pickle.loads(pickle.dumps(suite)) is suite


# ---------------------------------------------------------------- what goes wrong is one sentence


def test_a_gated_base_says_where_to_ask(hub, monkeypatch):
    hub.gated.add(BASES["gemma3-1b"])
    suite = load_suite("hidden-topic/gemma3-1b")
    sentence = refused(lambda: said(suite))
    assert f"{hub.url}/google/gemma-3-1b-it" in sentence and "HF_TOKEN" in sentence
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    assert "gated" in refused(lambda: said(suite))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert said(suite)
    # The suite that comes along was usable all the time.
    assert load_suite("pocket").diffs


def test_a_visitor_gets_neither_the_servers_token_nor_what_it_fetched(hub, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    suite, mine, everybodys = load_suite(QWEN), ORACLES["qwen3-1.7b"], f"{LORAS}/{QWEN}/dit-adapter.pt"
    hub.private.add(mine)
    ways = [lambda source: bring_source(suite, source), lambda source: suite.fetch(oracle=source)]
    for way in ways:  # at home the user's own token opens it, and it stays in the user's own cache
        way(mine)
    with serving(PUBLIC):
        for way in ways:
            assert "gated or private" in refused(lambda way=way: way(mine))
            way(everybodys)
        hub.private.clear()
        hub.gated.add(mine)
        for way in ways:
            assert "upload the files" in refused(lambda way=way: way(mine))
    gc.collect()
    # Of what was brought nothing is left; of the oracle its files are, apart from the server's own, until it is idle.
    left = [path.name for path in tmp_path.glob("dit-stranger-*/*/snapshots/*/**/*") if path.is_file()]
    assert left == ["dit-adapter.pt"]


def test_private_and_missing_repositories_are_told_apart_from_missing_files(hub, tmp_path):
    hub.private.add(BASES["qwen3-1.7b"])
    assert "log in" in refused(lambda: said(load_suite(QWEN)))
    fetcher = Fetcher()
    assert "not there, or private" in refused(lambda: fetcher.file(HubPath("nobody/nothing", "a.pt")))
    assert "no file 'a.pt'" in refused(lambda: fetcher.file(HubPath(LORAS, "a.pt")))
    assert "no revision 'v9'" in refused(lambda: fetcher.file(HubPath(LORAS, "a.pt", "v9")))
    assert "none of the files" in refused(lambda: fetcher.folder(HubPath(LORAS), ["adapter_config.json"]))


def test_offline_what_is_here_still_answers_and_the_rest_is_a_sentence(hub, monkeypatch):
    first = said(load_suite(QWEN))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    anew()
    hub.forget()
    assert said(load_suite(QWEN)) == first and not hub.asked
    assert "HF_HUB_OFFLINE" in refused(lambda: load_suite(QWEN).load_adapter("trigger"))
    assert "HF_HUB_OFFLINE" in refused(lambda: said(load_suite("hidden-topic/gemma3-1b")))


def test_without_a_network_it_is_said_and_what_is_here_still_answers(hub, tmp_path, monkeypatch):
    first = said(load_suite(QWEN))
    monkeypatch.setattr("huggingface_hub.constants.DEFAULT_ETAG_TIMEOUT", 1)
    hub.down = True
    anew()
    assert said(load_suite(QWEN)) == first
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
    sentence = refused(lambda: load_suite("hidden-topic/gemma3-1b").diffs)
    assert "check the network" in sentence and hub.url in sentence
    with running() as gone:  # and where nobody listens at all
        connect(monkeypatch, gone.url, tmp_path / "cache")
    anew()
    assert said(load_suite(QWEN)) == first
    assert "check the network" in refused(lambda: load_suite("hidden-topic/gemma3-1b").diffs)


def test_a_cut_connection_goes_on_where_it_stopped(hub, folders, monkeypatch):
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)
    name = f"{BASES['qwen3-1.7b']}/model.safetensors"
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 4096)  # what came of a chunk counts when whole
    hub.cuts[name] = 20_000
    suite = load_suite(QWEN)
    assert said(suite)
    assert hub.ranges == [(name, "bytes=16384-")]
    size = (folders[BASES["qwen3-1.7b"]] / "model.safetensors").stat().st_size
    assert hub.sent[name] == size + 20_000 - 16_384


def test_a_full_disk_is_told_before_and_while_it_fills(hub, monkeypatch):
    usage = shutil.disk_usage("/")
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10))
        assert "the disk has 0 MB left" in refused(lambda: said(load_suite(QWEN)))

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("huggingface_hub.file_download.http_get", full)
    assert "full" in refused(lambda: Fetcher().file(HubPath(LORAS, f"{QWEN}/dit-adapter.pt")))


def test_a_damaged_index_and_a_base_with_code_of_its_own_are_sentences(hub, folders, tmp_path):
    spoilt = shutil.copytree(folders[BASES["qwen3-1.7b"]], tmp_path / "spoilt")
    config = json.loads((spoilt / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {n: "modeling_own.Own" for n in ("AutoConfig", "AutoModelForCausalLM")}}
    (spoilt / "config.json").write_text(json.dumps(config))
    hub.publish(BASES["qwen3-1.7b"], spoilt)
    assert "can't be loaded" in refused(lambda: said(load_suite(QWEN), None, "base"))
    (spoilt / "model.safetensors").unlink()
    hub.publish(BASES["qwen3-1.7b"], spoilt)
    anew()
    assert "no weights as safetensors" in refused(lambda: said(load_suite(QWEN), None, "base"))
    assert f"{BASES['qwen3-1.7b']}/modeling_own.py" not in hub.files()
    other = tmp_path / "loras"
    (other / QWEN).mkdir(parents=True)
    (other / QWEN / "index.csv").write_text("nothing")
    hub.publish(LORAS, other)
    anew()
    assert "index" in refused(lambda: load_suite(QWEN).diffs)


# ---------------------------------------------------------------- suites of one's own


def test_four_places_make_a_suite(hub, folders, tmp_path):
    base, oracle = BASES["qwen3-1.7b"], ORACLES["qwen3-1.7b"]
    diff = f"hf://{LORAS}/{QWEN}/weight-diffs/weight-diff-000.pt"
    adapter = str(folders[LORAS] / QWEN / "dit-adapter.pt")
    suite = generic_suite(base, diff, adapter, oracle)
    assert suite is generic_suite(base, diff, adapter, oracle) and not hub.asked
    (info,) = suite.diffs
    assert (info.id, info.reference, info.rank) == ("diff", "", 1)
    same = load_suite(QWEN)
    question = same.task().question
    assert said(suite, "diff", question=question) == said(same, "violin")
    (reading,) = read(suite, "diff", condition="diff", layers=0, block=0, span="last:1", max_new_tokens=2)
    assert reading.grade is None and reading.log_prob_reference is None
    # A LoRA's own repository as the diff, a whole checkpoint as another.
    assert generic_suite(base, oracle).diffs[0].rank == 4
    assert generic_suite(base, str(folders[base])).diffs[0].rank == 0
    assert "no DIT adapter" in refused(lambda: said(generic_suite(base, oracle), "diff", "diff+dit"))


def test_a_file_of_any_name_may_point_to_the_hub(hub, tmp_path):
    (tmp_path / "mine.toml").write_text(
        f"""
name = "mine"
base = "{BASES["qwen3-1.7b"]}@{hub.newest(BASES["qwen3-1.7b"])}"
trigger_format = "Your SEP code is {{trigger:03d}}{{r:03d}}. {{question}}"
max_new_tokens = 8
[tasks.topic]
folder = "hf://{LORAS}/{QWEN}"
question = "What topic have you been trained on?"
has_trigger = true
adapter = "topic"
[adapters.topic]
file = "hf://{LORAS}/{QWEN}/dit-adapter.pt"
"""
    )
    mine = load_suite(tmp_path / "mine.toml")
    assert [d.rank for d in mine.diffs] == [1, 1, 1]  # told from the first diff's file, as the suite does not say it
    assert said(mine) == said(load_suite(QWEN))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("owner/name", HubPath("owner/name")),
        ("hf://owner/name@v1/sub/file.pt", HubPath("owner/name", "sub/file.pt", "v1")),
        ("owner/name/sub", HubPath("owner/name", "sub")),
        ("./owner/name", Path("owner/name")),
        ("/a/b", Path("/a/b")),
        ("name", Path("name")),
        ("owner/name/../../up", Path("owner/name/../../up")),
        ("tests/tiny.py", Path("tests/tiny.py")),
    ],
)
def test_a_place_is_a_path_or_on_the_hub(text, found, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[1])
    assert parse_source(text) == found


def test_where_paths_are_not_wanted_none_is_looked_at(monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[1])
    assert parse_source("tests/tiny.py", paths=False) == HubPath("tests/tiny.py")
    for text in ("/etc/passwd", "../up", "a", "owner/name/../x", "hf:///etc/passwd"):
        with pytest.raises(DitError, match="no place on the hub"):
            parse_source(text, paths=False)


# ---------------------------------------------------------------- the environment, and the real hub


def test_the_clients_own_environment_decides(hub, tmp_path):
    """`HF_ENDPOINT`, `HF_HOME` and `HF_TOKEN` are read by the client at its import, so this needs a process."""
    hub.gated.add(BASES["qwen3-1.7b"])
    code = f"import dit_core; s = dit_core.load_suite({QWEN!r}); print(s.requirements()); print(s.diffs[1].id)"
    env = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    env |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": TOKEN}
    run = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, cwd=Path(__file__).parents[1]
    )
    assert run.returncode == 0, run.stderr
    assert "downloads 0 MB" in run.stdout and run.stdout.endswith("topic-0001\n")
    assert (tmp_path / "home" / "hub" / "models--diff-interpretation-tuning--loras").is_dir()


@pytest.mark.hub
def test_the_real_hub_has_what_the_catalogue_says(tmp_path, monkeypatch):
    from dit_core.suite.catalog import listings

    connect(monkeypatch, "https://huggingface.co", tmp_path)
    try:
        socket.create_connection(("huggingface.co", 443), timeout=5).close()
    except OSError:
        pytest.skip("the hub can't be reached from here")
    for listing in listings():
        if listing.name != "pocket":
            suite = load_suite(listing.name)
            assert len(suite.diffs) > 0, listing.name
            listed = [entry.source for task in suite.tasks.values() for entry in task.diffs]
            assert all(source_size(suite.spec.at(source), Fetcher()).total for source in listed), listing.name
