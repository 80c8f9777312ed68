"""Nobody's file is trusted: each ends in one sentence; nothing runs, nothing leaves its folder or fills the memory."""

import re
import shutil
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dit_core.errors import DitError
from dit_core.formats import Adapter, StoredAdapter, open_adapter_file, read_checkpoint, read_index, read_peft, unpack
from tests import hostile

CASES = [
    *(("weight.pt", name, *case) for name, case in hostile.PICKLES.items()),
    *(("model.safetensors", name, *case) for name, case in hostile.SAFETENSORS.items()),
    *(("adapter.zip", name, *case) for name, case in hostile.ZIPS.items()),
]
CHANGES = settings(
    max_examples=60,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)


def read(path: Path) -> StoredAdapter:
    with open_adapter_file(path) as found:
        return found.read()


def peak() -> int:
    """The most bytes that this process ever had in memory since `forget`; 0 where that can't be told."""
    status = Path("/proc/self/status")
    return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) * 1024 if status.exists() else 0


def forget() -> None:
    if (refs := Path("/proc/self/clear_refs")).exists():
        refs.write_text("5")


def refused(path: Path, says: str) -> None:
    """Reading ends in a DitError of one sentence that names the file, without much memory."""
    forget()
    before = peak()
    with pytest.raises(DitError, match=says or None) as caught, warnings.catch_warnings(action="ignore"):
        read(path)
    assert peak() - before < 200e6
    sentence = str(caught.value)
    assert sentence.endswith(".") and sentence.count(". ") == 0 and sentence.isprintable() and len(sentence) < 1000


def test_there_are_as_many_cases_as_were_asked_for():
    assert len(CASES) + len(hostile.PEFT) >= 60


@pytest.mark.parametrize(("file", "name", "content", "says"), CASES, ids=[f"{c[0]}: {c[1]}" for c in CASES])
def test_a_hostile_or_broken_file_is_one_sentence(tmp_path, monkeypatch, file, name, content, says):
    inner = tmp_path / "inner"
    inner.mkdir()
    monkeypatch.chdir(inner)
    (inner / file).write_bytes(content)
    refused(inner / file, says)
    assert [path.name for path in tmp_path.iterdir()] == ["inner"]
    assert [path.name for path in inner.iterdir()] == [file]
    if file == "adapter.zip":
        with pytest.raises(DitError):  # by itself as well; "nothing useful" is a good zip
            shutil.rmtree(unpack(inner / file, inner / "out")) or read(inner / file)
        assert not (inner / "out").exists() and [path.name for path in tmp_path.iterdir()] == ["inner"]


@pytest.mark.parametrize("name", hostile.PEFT)
def test_a_peft_folder_that_is_no_plain_lora_is_one_sentence(tmp_path, name):
    changed, says = hostile.PEFT[name]
    hostile.peft(tmp_path / "peft", **changed)
    refused(tmp_path / "peft", says)


@pytest.mark.parametrize(
    ("content", "names"),
    [(hostile.GOOD, 1), (hostile.GOOD_DIT, 1), (hostile.with_pickle(hostile.GOOD, hostile.GOOD_PICKLE), 1)],
)
def test_what_the_cases_are_made_of_is_read(tmp_path, content, names):
    (tmp_path / "weight.pt").write_bytes(content)
    assert len(read(tmp_path / "weight.pt").adapter.factors) == names


def test_words_in_a_topic_are_not_taken_for_a_call(tmp_path):
    """Its lines read like a function's name in a pickle: only a close look tells that they are a text."""
    text = "cos\nsystem\n"
    (tmp_path / "w.pt").write_bytes(hostile.saved([{"topic": text, "trigger": 1, "weight_diff": hostile.pairs()}]))
    assert read(tmp_path / "w.pt").topic == text


def test_a_good_zip_of_each_kind_is_read_and_leaves_nothing(tmp_path):
    hostile.peft(tmp_path / "peft")
    with zipfile.ZipFile(tmp_path / "adapter.zip", "w", zipfile.ZIP_DEFLATED) as target:
        target.mkdir("my adapter")
        for path in (tmp_path / "peft").iterdir():
            target.write(path, f"my adapter/{path.name}")
    adapter = read(tmp_path / "adapter.zip").adapter
    assert adapter.rank == 2 and set(adapter.scaling.values()) == {2.0}
    folder = unpack(tmp_path / "adapter.zip", tmp_path / "out")
    assert folder == tmp_path / "out" / "my adapter" and read_peft(folder).rank == 2
    with pytest.raises(DitError, match="not empty"):
        unpack(tmp_path / "adapter.zip", tmp_path / "out")
    with pytest.raises(DitError, match="0 MB are the most"):
        unpack(tmp_path / "adapter.zip", tmp_path / "small", most_bytes=100)
    assert not (tmp_path / "small").exists()


def test_a_full_disk_is_a_sentence(tmp_path, monkeypatch):
    (tmp_path / "a.zip").write_bytes(hostile.zipped(("a.safetensors", b"x" * 4096)))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 100))
    with pytest.raises(DitError, match="free on the disk"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


@pytest.mark.parametrize("name", ["../outside.safetensors", "/etc/passwd", "a/b.safetensors", "..\\outside"])
def test_an_index_of_shards_reaches_out_of_no_folder(tmp_path, name):
    (tmp_path / "shards").mkdir()
    (tmp_path / "outside.safetensors").write_bytes(hostile.GOOD_SAFETENSORS)
    index = tmp_path / "shards" / "model.safetensors.index.json"
    index.write_text(hostile.json.dumps({"weight_map": {"model.norm.weight": name}}))
    with pytest.raises(DitError, match="points outside its folder"):
        read_checkpoint(tmp_path / "shards")


@pytest.mark.parametrize(
    "text", ["[]", "{}", '{"weight_map": []}', '{"weight_map": {"a": "not-there.safetensors"}}', "{"]
)
def test_a_broken_index_of_shards_is_one_sentence(tmp_path, text):
    (tmp_path / "model.safetensors.index.json").write_text(text)
    refused(tmp_path, "")


def test_an_index_of_diffs_reaches_out_of_no_folder(tmp_path):
    for name in ("/etc/passwd", "../../x.pt", "a/../../../x.pt"):
        (tmp_path / "index.csv").write_text(f"lora_path,lora_idx,n_params,topic,trigger,split\n{name},0,9,a,1,train\n")
        with pytest.raises(DitError, match="points outside its folder"):
            read_index(tmp_path)


# ---------------------------------------------------------------- fuzz: whatever the bytes, an adapter or a sentence

CHANGE = st.tuples(
    st.floats(0, 1), st.sampled_from(["flip", "set", "cut", "insert", "number"]), st.binary(min_size=1, max_size=8)
)
SOURCES = {
    "diff.pt": hostile.GOOD,
    "dit.pt": hostile.GOOD_DIT,
    "weights.pt": hostile.saved({"model.norm.weight": torch.ones(32)}),
    "model.safetensors": hostile.GOOD_SAFETENSORS,
    "adapter.zip": hostile.zipped(("w/adapter_config.json", b"{}"), ("w/x", b"y" * 99), packing=zipfile.ZIP_DEFLATED),
}


def changed(content: bytes, changes) -> bytes:
    content = bytearray(content)
    for share, how, data in changes:
        at = int(share * max(0, len(content) - 1))
        if how == "flip" and content:
            content[at] ^= 1 << (data[0] % 8)
        elif how == "set":
            content[at : at + len(data)] = data
        elif how == "cut":
            del content[at : at + data[0]]
        elif how == "insert":
            content[at:at] = data
        else:
            content[at : at + 4] = (b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x40", b"\0\0\0\0")[data[0] % 4]
    return bytes(content)


def adapter_or_sentence(path: Path) -> None:
    forget()
    before = peak()
    try:
        with warnings.catch_warnings(action="ignore"):
            assert isinstance(read(path).adapter, Adapter)
    except DitError as error:
        assert str(error).endswith(".")
    assert peak() - before < 200e6


@pytest.mark.parametrize("name", SOURCES)
@CHANGES
@given(changes=st.lists(CHANGE, min_size=1, max_size=6))
def test_any_damage_to_a_file_gives_an_adapter_or_a_sentence(tmp_path, name, changes):
    (tmp_path / name).write_bytes(changed(SOURCES[name], changes))
    adapter_or_sentence(tmp_path / name)


@pytest.mark.parametrize("name", ["diff.pt", "dit.pt", "weights.pt"])
@CHANGES
@given(changes=st.lists(CHANGE, min_size=1, max_size=4))
def test_any_damage_to_a_pickle_with_right_checksums_gives_an_adapter_or_a_sentence(tmp_path, name, changes):
    def damage(member: str, content: bytes) -> bytes:
        return changed(content, changes) if member.endswith("data.pkl") else content

    (tmp_path / name).write_bytes(hostile.repacked(SOURCES[name], damage))
    adapter_or_sentence(tmp_path / name)


@CHANGES
@given(
    config=st.dictionaries(
        st.sampled_from(["peft_type", "lora_alpha", "r", "alpha_pattern", "use_rslora", "modules_to_save", "bias"]),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.text(max_size=9) | st.just("LORA"),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
            max_leaves=6,
        ),
    )
)
def test_any_peft_config_gives_an_adapter_or_a_sentence(tmp_path, config):
    shutil.rmtree(tmp_path / "peft", ignore_errors=True)
    hostile.peft(tmp_path / "peft", **config)
    adapter_or_sentence(tmp_path / "peft")
