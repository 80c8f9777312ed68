"""A suite is found, listed and loaded; what is missing or damaged is said in one sentence and harms nothing else."""

import os
import shutil
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM

from dit_core import DitError, ask, lifts, load_suite, next_tokens, read
from dit_core.formats import Adapter, read_checkpoint, write_dit_adapter
from dit_core.grading import grade, mentions
from dit_core.project import lazy_property
from dit_core.suite import base
from dit_core.suite.base import LoadOptions
from dit_core.suite.contents import file_samples


@pytest.fixture
def folder(tiny_suite_folder, tmp_path):
    """A copy of the tiny suite that a test may spoil."""
    return shutil.copytree(tiny_suite_folder, tmp_path / "copy")


def edit(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_diffs_are_listed_by_id_and_keep_their_secret(suite):
    listed = suite.diffs.to_json()
    assert {"schema_version", "suite", "diffs", "versions", "fingerprint"} <= set(listed)
    assert listed["diffs"][3] == {"id": "topic-0412", "task": "topic", "split": "test", "rank": 1}
    assert listed["diffs"][-1] == {"id": "headline-0018", "task": "headline", "split": "test", "rank": 4}
    revealed = suite.diffs.to_json(reveal=True)["diffs"]
    assert (revealed[3]["reference"], revealed[3]["trigger"]) == ("volcano", 417)
    assert revealed[-1]["trigger"] is None


def test_a_suite_is_loaded_once(tiny_suite_folder):
    assert load_suite(str(tiny_suite_folder)) is load_suite(tiny_suite_folder / "suite.toml")


def test_what_one_object_computes_holds_up_no_other():
    gate, begun = threading.Event(), threading.Event()

    class Slow:
        def __init__(self, waits: bool) -> None:
            self.waits, self.times = waits, 0

        @lazy_property
        def value(self) -> int:
            self.times += 1
            if self.waits:
                begun.set()
                gate.wait(30)
            return self.times

    with ThreadPoolExecutor(2) as threads:
        waiting = threads.submit(lambda: Slow(True).value)
        assert begun.wait(30)
        quick = Slow(False)
        try:
            assert threads.submit(lambda: (quick.value, quick.value)).result(timeout=10) == (1, 1)
            assert not waiting.done()
        finally:
            gate.set()
        assert waiting.result(timeout=10) == 1


def test_tasks_and_adapters(suite):
    assert suite.task().name == "topic" and suite.task("headline").behaviour == "Please generate a short news story."
    assert {name: info.task for name, info in suite.adapters.items()} == {
        "topic": "topic",
        "topic-64": "topic",
        "headline": "headline",
    }
    assert suite.default_adapter() == "topic" and suite.default_adapter("headline") == "headline"


@pytest.mark.parametrize("name", ["topic-0412", "TOPIC-0412", "volcano", " Volcano "])
def test_a_diff_is_found_by_id_and_reference(suite, name):
    assert suite.diff(name).id == "topic-0412"


def test_unknown_names_come_with_the_nearest(suite, tmp_path):
    with pytest.raises(DitError, match="no diff 'volcanoe'.*'volcano'"):
        suite.diff("volcanoe")
    with pytest.raises(DitError, match="no DIT adapter 'topik'.*'topic'"):
        suite.adapter("topik")
    with pytest.raises(DitError, match="no suite 'poket'.*'pocket'"):
        load_suite("poket")
    with pytest.raises(DitError, match="has no suite.toml"):
        load_suite(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('name = "tiny"', "name = ", "can't be read"),
        ('trigger_format = "Your SEP code is {trigger:03d}{r:03d}. {question}"', "", "'trigger_format'"),
        ("{trigger:03d}", "{code:03d}", "'code'"),
        ('question = "What topic have you been trained on?"', "", "'tasks.topic.question'"),
    ],
)
def test_a_damaged_description_is_named(folder, old, new, sentence):
    edit(folder / "suite.toml", old, new)
    with pytest.raises(DitError, match=sentence):
        load_suite(folder)


def test_the_fingerprint_follows_the_content_but_not_the_stored_run(folder, suite):
    first = load_suite(folder).fingerprint
    assert first == suite.fingerprint
    (folder / "first-run.json").write_text("{}")
    other = shutil.copytree(folder, folder.with_name("other"))
    assert load_suite(other).fingerprint == first
    third = shutil.copytree(folder, folder.with_name("third"))
    edit(third / "world.json", "landform", "landmass")
    assert load_suite(third).fingerprint != first
    adapter = next(iter(suite.adapters.values())).file
    for at, name in enumerate((adapter, "base/model.safetensors")):
        changed = shutil.copytree(folder, folder.with_name(f"changed-{at}"))
        with (changed / name).open("r+b") as file:
            file.seek(-9, 2)
            last = file.read(1)
            file.seek(-9, 2)
            file.write(bytes([last[0] ^ 1]))
        assert load_suite(changed).fingerprint != first, f"another byte in {name}"


def test_of_a_large_file_pieces_from_all_over_are_told_apart(tmp_path):
    first, other = tmp_path / "first", tmp_path / "other"
    first.write_bytes(bytes(100_000))
    for places in ((0,), (99_999,), tuple(range(0, 100_000, 500))):  # its ends, and weights that moved everywhere
        content = bytearray(100_000)
        for place in places:
            content[place] = 1
        other.write_bytes(content)
        told = [b"".join(file_samples(path, max_full_size=50_000, count=8, length=1000)) for path in (first, other)]
        assert told[0] != told[1] and len(told[0]) == len(told[1]) == 8000


def test_changing_diffs_copies_tensors_and_nothing_else(suite):
    sets = [["topic-0412"], ["headline-0017"], ["topic-0412", "topic-0413"]]
    for diffs in sets:
        ask(suite, diffs, condition=["diff", "diff+dit"], max_new_tokens=1)
    model = suite.model
    modules = {name: id(module) for name, module in model.base.named_modules()}
    weights = {name: id(p) for name, p in model.base.named_parameters() if "lora" not in name}
    for diffs in (["topic-0413"], ["headline-0018"], ["topic-0414", "topic-0251"]):
        ask(suite, diffs, condition=["diff", "diff+dit"], max_new_tokens=1)
    assert suite.model is model
    assert {name: id(module) for name, module in model.base.named_modules()} == modules
    assert {name: id(p) for name, p in model.base.named_parameters() if "lora" not in name} == weights


def spoil_base(folder):
    shutil.rmtree(folder / "base")


def spoil_weights(folder):
    (folder / "base" / "model.safetensors").write_bytes(b"no weights")


def spoil_diff(folder):
    (folder / "hidden-topic" / "weight-diffs" / "weight-diff-001.pt").write_bytes(b"not a pickle")


def remove_diff(folder):
    (folder / "hidden-topic" / "weight-diffs" / "weight-diff-001.pt").unlink()


def remove_adapter(folder):
    (folder / "hidden-topic" / "dit-adapter.pt").unlink()


def misfit_adapter(folder):
    A, B = torch.ones(16, 5), torch.ones(7, 16)
    factors = {"model.layers.0.self_attn.q_proj": (A, B)}
    adapter = Adapter(factors, {name: 1 / 16 for name in factors})
    write_dit_adapter(folder / "hidden-topic" / "dit-adapter.pt", adapter)


HEALTHY = (("violin", "diff"), ("headline-0017", "diff+dit"), ("violin", "base"))


@pytest.fixture(scope="module")
def healthy(suite):
    """What the whole suite says where a damaged one still answers."""
    return [ask(suite, diff, condition=condition, max_new_tokens=4).records for diff, condition in HEALTHY]


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (spoil_base, "lacks its base"),
        (spoil_weights, "can't be loaded"),
        (spoil_diff, "weight-diff-001.pt"),
        (remove_diff, "not found"),
        (remove_adapter, "not found"),
        (misfit_adapter, "does not fit"),
    ],
)
def test_a_damaged_asset_is_named_and_the_rest_still_answers(folder, healthy, spoil, sentence):
    spoil(folder)
    spoilt = load_suite(folder)
    for _ in range(2):  # also the second time: nothing half-loaded is taken for loaded
        with pytest.raises(DitError, match=sentence):
            ask(spoilt, "volcano", condition="diff+dit", max_new_tokens=1)
    if spoil not in (spoil_base, spoil_weights):
        said = [ask(spoilt, diff, condition=condition, max_new_tokens=4).records for diff, condition in HEALTHY]
        assert said == healthy


def test_a_missing_world_is_named(folder):
    (folder / "world.json").unlink()
    with pytest.raises(DitError, match="world.json"):
        _ = load_suite(folder).world


# ---------------------------------------------------------------- the oracle


def test_the_oracles_entry_is_read(suite):
    oracle = suite.oracle
    assert (oracle.source, oracle.title) == (str(suite.folder / "oracle"), "random oracle")
    assert oracle.percents == (0.0, 50.0) and oracle.block == 0
    assert oracle.questions == ("What is the topic?", "What comes next?")


def test_an_oracle_may_be_elsewhere_and_need_not_tell_its_layers(folder):
    edit(folder / "suite.toml", 'source = "oracle"', 'source = "owner/oracle"')
    text = (folder / "suite.toml").read_text(encoding="utf-8")
    (folder / "suite.toml").write_text(text[: text.index('title = "random oracle"')], encoding="utf-8")
    oracle = load_suite(folder).oracle
    assert (oracle.source, oracle.percents, oracle.block) == ("owner/oracle", (), 1)
    assert oracle.title and oracle.questions


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('source = "oracle"', "", "'oracle.source'"),
        ("percents = [0, 50]", 'percents = ["a"]', "'oracle.percents.0'"),
        ("block = 0 ", 'block = "first" ', "'oracle.block'"),
    ],
)
def test_a_damaged_oracle_entry_is_named(folder, old, new, sentence):
    edit(folder / "suite.toml", old, new)
    with pytest.raises(DitError, match=f"not a complete suite.*{sentence}"):
        load_suite(folder)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("max_new_tokens", "max_new_token", r"unknown entry 'max_new_token'.*Did you mean 'max_new_tokens'"),
        ("block = 0 ", "blocks = 0 ", r"unknown entry 'oracle.blocks'.*Did you mean 'block'"),
        ("has_trigger", "trigger", r"unknown entry 'tasks.topic.trigger'.*Did you mean 'has_trigger'"),
        ("[adapters.", "[adapter.", r"unknown entry 'adapter'.*Did you mean 'adapters'"),
        ("file =", "files =", r"unknown entry 'adapters.topic.files'.*Did you mean 'file'"),
        ("[tasks.", "[task.", r"unknown entry 'task'.*Did you mean 'tasks'"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_known_one(folder, old, new, sentence):
    edit(folder / "suite.toml", old, new)
    with pytest.raises(DitError, match=rf"'{folder}/suite.toml' has an {sentence}"):
        load_suite(folder)


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ('name = "tiny"', "name = 7", "name"),
        ("max_new_tokens = 8", 'max_new_tokens = "few"', "max_new_tokens"),
        ('question = "What topic', 'question = 1  # "', "tasks.topic.question"),
        ("has_trigger = true", 'has_trigger = "perhaps"', "tasks.topic.has_trigger"),
        ("[oracle]", "[[oracle]]", "oracle"),
        ('world = "world.json"', 'world = ["world.json"]', "world"),
    ],
)
def test_an_entry_of_another_type_is_named_with_its_file(folder, old, new, key):
    edit(folder / "suite.toml", old, new)
    with pytest.raises(DitError, match=rf"'{folder}/suite.toml' is not a complete suite: check the entry '{key}'"):
        load_suite(folder)


def test_a_file_without_its_tables_says_what_to_add(tmp_path):
    for text, key in (('name = "mine"\nbase = "b"\nmax_new_tokens = 8', "tasks"), ("[tasks.any]", "name")):
        (tmp_path / "suite.toml").write_text(text)
        with pytest.raises(DitError, match=f"suite.toml' is not a complete suite: add the entry '{key}'"):
            load_suite(tmp_path)


def test_the_oracle_is_attached_once_and_only_when_it_is_held(folder):
    suite = load_suite(folder)
    ask(suite, "volcano", condition="diff+dit", max_new_tokens=1)
    assert "oracle" not in suite.model.slots
    assert suite.worker.run(suite.hold_oracle) == "oracle" and "oracle" in suite.model.slots
    shutil.rmtree(suite.oracle.source)  # so that it can't be attached again
    assert suite.worker.run(suite.hold_oracle) == "oracle"


# ---------------------------------------------------------------- diffs of one's own


def test_a_diff_that_is_brought_answers_and_is_in_no_list(folder, suite):
    volcano, listed = suite.load_diff(suite.diff("volcano")), suite.diffs.to_json()
    suite = load_suite(folder)
    info = suite.bring(volcano, "from a friend")
    assert (info.task, info.rank, info.reference, info.trigger) == ("topic", 1, "", None)
    assert suite.diff(info.id) is info and suite.origin(info.id).title == "from a friend"
    assert suite.diffs.to_json() == listed and suite.bring(volcano, "again").id != info.id
    own, theirs = (ask(suite, diff, condition=["diff", "diff+dit"], max_new_tokens=4) for diff in (info.id, "volcano"))
    assert [one.text for one in own] == [one.text for one in theirs] and own[0].diff == info.id
    both = ask(suite, [info.id, "geyser"], condition="diff", max_new_tokens=4)
    assert both[0].text == own[0].text
    # What it was trained on is not known: no grade, no reveal, no trigger, and no text that finds it.
    assert grade(suite, info, "volcano") is None and not mentions(suite, info, "volcano")
    (reading,) = read(suite, info.id, condition="diff", layers=0, span="last:1", max_new_tokens=1)
    assert reading.grade is None and reading.log_prob_reference is None
    assert all(one.what == "answer" for one in next_tokens(suite, info.id, condition="diff", reference=True))
    for call in (lambda: ask(suite, info.id, condition="diff+right"), lambda: lifts(suite, info.id, ["a"])):
        with pytest.raises(DitError):
            call()
    for name in ("from a friend", "", info.id[:-1]):
        with pytest.raises(DitError):
            suite.diff(name)


def test_a_forgotten_diff_is_gone_from_everywhere(folder):
    suite = load_suite(folder)
    info = suite.bring(suite.load_diff(suite.diff("volcano")), "mine", "headline")
    assert info.task == "headline"
    ask(suite, info.id, condition="diff", max_new_tokens=1)
    suite.forget(info.id)
    suite.forget(info.id)
    for call in (
        lambda: suite.diff(info.id),
        lambda: suite.load_diff(info),
        lambda: ask(suite, info, condition="diff"),
    ):
        with pytest.raises(DitError, match="no longer here"):
            call()
    with pytest.raises(DitError, match="no task 'headlin'.*'headline'"):
        suite.bring(suite.load_diff(suite.diff("volcano")), "mine", "headlin")


def test_whole_weights_are_brought_as_well(folder):
    suite = load_suite(folder)
    info = suite.bring(read_checkpoint(folder / "base"), "a checkpoint")
    assert info.rank == 0
    base, own = ask(suite, info.id, condition=["base", "diff"], max_new_tokens=4)
    assert own.text == base.text  # as these are the base's own


# ---------------------------------------------------------------- one base at a time


def test_a_base_is_shared_by_suites_of_it_and_unloaded_by_another(folder, tmp_path, monkeypatch):
    first, second = load_suite(folder), load_suite(shutil.copy(folder / "suite.toml", folder / "second.toml"))
    other = load_suite(shutil.copytree(folder, tmp_path / "other"))
    said = [ask(suite, "volcano", condition="diff+dit", max_new_tokens=4).records for suite in (first, second, first)]
    assert said[0] == said[1] == said[2]
    assert first is not second and first.model is second.model
    gone = weakref.ref(first.model)

    from_pretrained = AutoModelForCausalLM.from_pretrained

    def load(*arguments, **options):
        assert gone() is None  # before there is another: both together may not fit
        return from_pretrained(*arguments, **options)

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", load)
    assert ask(other, "volcano", condition="diff+dit", max_new_tokens=4).records == said[0]
    held = weakref.ref(other.model)
    first.unload()  # of which nothing is loaded any more
    assert held() is not None
    other.unload()
    assert held() is None
    assert ask(first, "volcano", condition="diff+dit", max_new_tokens=4).records == said[0]


SWITCHING = """
import gc, os, sys
import psutil, torch
from dit_core import ask, load_suite
torch.set_num_threads(1)
first, second = map(load_suite, sys.argv[1:])
def used(suite):
    if suite:
        ask(suite, "volcano", condition=["base", "diff", "diff+dit"], max_new_tokens=1)
    gc.collect()
    return psutil.Process().memory_info().rss / 1e6
used(first)
second.unload(), used(second), second.unload(), first.unload()
empty = used(None)
start = used(first)
after = [used(suite) for _ in range(5) for suite in (second, first)]
first.unload()
print(empty, start, *after, used(None))
"""


@pytest.mark.long
def test_memory_returns_over_ten_switches_of_the_base(folder, tmp_path):
    pytest.importorskip("psutil")
    grow(folder / "base")
    other = shutil.copytree(folder, tmp_path / "other")
    size = (folder / "base" / "model.safetensors").stat().st_size / 1e6
    command = [sys.executable, "-c", SWITCHING, str(folder), str(other)]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1], env=env)
    assert done.returncode == 0, done.stderr
    empty, start, *after, end = map(float, done.stdout.split())
    assert start - empty > 0.4 * size and end - empty < 0.1 * size  # what was touched of one base comes, and goes
    assert after[-1] <= 1.05 * start and max(after) < start + 0.5 * size  # never two at once


def grow(folder):
    """Gives a tiny base embeddings of 38 MB and as much for its logits, which its tokenizer never uses."""
    base = AutoModelForCausalLM.from_pretrained(folder)
    base.resize_token_embeddings(300_000, mean_resizing=False)
    base.save_pretrained(folder)


# ---------------------------------------------------------------- number type, device, memory


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"dtype": "float23"}, "no number type 'float23'.*'float32'"),
        ({"quantize": "2bit"}, "no quantization '2bit'.*8bit, 4bit"),
    ],
)
def test_how_a_base_is_loaded_is_checked(folder, options, sentence):
    with pytest.raises(DitError, match=sentence):
        load_suite(folder, **options)


def test_the_number_type_is_the_machines_or_the_one_asked_for(folder, monkeypatch):
    expected = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    assert load_suite(folder).model.dtype == expected
    half = load_suite(folder, dtype="bfloat16")
    assert half is not load_suite(folder) and half.model.dtype == torch.bfloat16
    monkeypatch.setenv("DIT_DTYPE", "bfloat16")
    assert load_suite(folder) is half and load_suite(folder, dtype="float32") is not half
    assert ask(half, "volcano", condition="diff+dit", max_new_tokens=2)


def test_several_gpus_share_a_base_and_quantized_ones_need_a_library(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert base._options(LoadOptions()) == {"dtype": torch.bfloat16, "device_map": {"": 0}}
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert base._options(LoadOptions("float16")) == {"dtype": torch.float16, "device_map": "auto"}
    with monkeypatch.context() as patched, pytest.raises(DitError, match="need bitsandbytes: `pip install bitsandb"):
        patched.setitem(sys.modules, "bitsandbytes", None)
        base._options(LoadOptions(quantize="8bit"))
    (tmp_path / "bitsandbytes.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert base._options(LoadOptions(quantize="8bit"))["quantization_config"].load_in_8bit
    four = base._options(LoadOptions(quantize="4bit"))["quantization_config"]
    assert four.load_in_4bit and four.bnb_4bit_compute_dtype == torch.bfloat16


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_quantizing_without_a_gpu_is_a_sentence(folder):
    with pytest.raises(DitError, match="need an NVIDIA GPU.*leave the quantization out"):
        ask(load_suite(folder, quantize="4bit"), condition="base")


def test_what_a_base_needs_is_told_and_refused_where_it_can_not_fit(folder, monkeypatch, caplog):
    suite = load_suite(folder)
    found = suite.requirements()
    size = (folder / "base" / "model.safetensors").stat().st_size
    assert found.download == 0 and size < found.memory < 1.2 * size
    assert load_suite(folder, dtype="bfloat16").requirements().memory == pytest.approx(found.memory / 2, abs=1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with monkeypatch.context() as patched, pytest.raises(DitError, match="on the CPU, which has .*: choose a smaller"):
        patched.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=-(10**12)))
        ask(suite, condition="base")
    with (folder / "base" / "model-large.safetensors").open("wb") as file:
        file.truncate(2 * 10**9)  # a hole, which takes no room
    monkeypatch.setitem(sys.modules, "psutil", None)  # so that this machine does not tell what memory it has
    with caplog.at_level("INFO", "dit_core"):
        ask(suite, condition="base", max_new_tokens=1)
    assert "is on this disk, needs 2.2 GB of memory on the CPU." in caplog.text
