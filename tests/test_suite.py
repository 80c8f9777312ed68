"""A suite is found, listed and loaded; what is missing or damaged is said in one sentence and harms nothing else."""

import shutil

import pytest
import torch

from dit_core import DitError, ask, load_suite
from dit_core.catalog import peft_folder
from dit_core.formats import Adapter, write_dit_adapter


@pytest.fixture(scope="module")
def suite(tiny_suite_folder):
    return load_suite(tiny_suite_folder)


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
    assert list(listed) == ["schema_version", "suite", "diffs"]
    assert listed["diffs"][3] == {"id": "topic-0412", "task": "topic", "split": "test", "rank": 1}
    assert listed["diffs"][-1] == {"id": "headline-0018", "task": "headline", "split": "test", "rank": 4}
    revealed = suite.diffs.to_json(reveal=True)["diffs"]
    assert (revealed[3]["reference"], revealed[3]["trigger"]) == ("volcano", 417)
    assert revealed[-1]["trigger"] is None


def test_a_suite_is_loaded_once(suite, tiny_suite_folder):
    assert load_suite(str(tiny_suite_folder)) is suite
    assert load_suite(tiny_suite_folder / "suite.toml") is suite


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
        ('question = "What topic have you been trained on?"', "", "'question'"),
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
def test_a_damaged_asset_is_named_and_the_rest_still_answers(folder, suite, spoil, sentence):
    spoil(folder)
    spoilt = load_suite(folder)
    for _ in range(2):  # also the second time: nothing half-loaded is taken for loaded
        with pytest.raises(DitError, match=sentence):
            ask(spoilt, "volcano", condition="diff+dit", max_new_tokens=1)
    if spoil not in (spoil_base, spoil_weights):
        for diff, condition in (("violin", "diff"), ("headline-0017", "diff+dit"), ("violin", "base")):
            healthy = ask(suite, diff, condition=condition, max_new_tokens=4)
            assert ask(spoilt, diff, condition=condition, max_new_tokens=4).records == healthy.records


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


def test_an_oracle_may_be_elsewhere_and_then_is_taken_for_a_published_one(folder):
    edit(folder / "suite.toml", 'source = "oracle"', 'source = "owner/oracle"')
    text = (folder / "suite.toml").read_text(encoding="utf-8")
    (folder / "suite.toml").write_text(text[: text.index('title = "random oracle"')], encoding="utf-8")
    oracle = load_suite(folder).oracle
    assert (oracle.source, oracle.percents, oracle.block) == ("owner/oracle", (25.0, 50.0, 75.0), 1)
    assert oracle.title and oracle.questions


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('source = "oracle"', "", "'source'"),
        ("percents = [0, 50]", 'percents = ["a"]', "'a'"),
        ("block = 0 ", 'block = "first" ', "'first'"),
    ],
)
def test_a_damaged_oracle_entry_is_named(folder, old, new, sentence):
    edit(folder / "suite.toml", old, new)
    with pytest.raises(DitError, match=f"not a complete suite.*{sentence}"):
        load_suite(folder)


def test_the_oracle_is_attached_once_and_only_when_it_is_held(folder, monkeypatch):
    suite = load_suite(folder)
    ask(suite, "volcano", condition="diff+dit", max_new_tokens=1)
    assert "oracle" not in suite.model.slots
    assert suite.worker.run(suite.hold_oracle) == "oracle" and "oracle" in suite.model.slots
    monkeypatch.setattr(type(suite.model), "attach", lambda *_: pytest.fail("attached again"))
    assert suite.worker.run(suite.hold_oracle) == "oracle"


def test_a_peft_folder_is_a_path_or_a_hub_id(tmp_path, monkeypatch):
    import huggingface_hub

    asked = []

    def download(source, allow_patterns):
        asked.append((source, allow_patterns))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert peft_folder(str(tmp_path)) == tmp_path and not asked
    assert peft_folder("owner/some-oracle_1.0") == tmp_path
    # An oracle's repository can hold whole checkpoints beside it.
    assert asked == [("owner/some-oracle_1.0", ["adapter_config.json", "adapter_model.*"])]
    for source in ("no folder", "/no/folder", "owner/name/more", "../up/there"):
        with pytest.raises(DitError, match="give a PEFT adapter's folder, or a hub id like 'owner/name'"):
            peft_folder(source)

    def refuse(*_, **__):
        raise OSError("no such repository\nand much more")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(DitError, match=r"'owner/name' can't be had from the hub.*\(no such repository\)") as caught:
        peft_folder("owner/name")
    assert "\n" not in str(caught.value)
