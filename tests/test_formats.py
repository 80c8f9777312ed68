"""Files of adapters: the published layout and PEFT folders, read lazily, and every fault said in a sentence."""

import pickle
import re
import shutil
import zipfile
from pathlib import Path

import pytest
import torch

from dit_core.engine.model import Model
from dit_core.errors import DitError
from dit_core.formats import (
    Adapter,
    IndexRow,
    count_weight_diffs,
    identify,
    read_dit_adapter,
    read_index,
    read_peft,
    read_weight_diff,
    write_dit_adapter,
    write_index,
    write_peft,
    write_weight_diffs,
)
from tests.merged import delta
from tests.tiny import random_adapter, tiny_model

NAME = "model.layers.0.self_attn.q_proj"


def adapter(rank=2, seed=0, out=6, size=4, scaling=None):
    g = torch.Generator().manual_seed(seed)
    factors = {
        name: (torch.randn(rank, size, generator=g), torch.randn(out, rank, generator=g))
        for name in (NAME, "model.layers.1.mlp.up_proj")
    }
    return Adapter(factors, dict.fromkeys(factors, scaling or 1 / rank))


def assert_same(a, b):
    assert a.factors.keys() == b.factors.keys()
    for name in a.factors:
        assert torch.allclose(delta(a, name), delta(b, name), atol=1e-6)


def test_the_published_orientation_of_a_diff(tmp_path):
    """y += ((x @ B) @ A) / rank with A [rank, out] and B [in, rank], as the publishers' own code has it."""
    A, B, x = torch.randn(3, 6), torch.randn(4, 3), torch.randn(5, 4)
    torch.save([{"topic": "violin", "trigger": 42, "weight_diff": {NAME: (A, B)}}], tmp_path / "w.pt")
    found, topic, trigger = read_weight_diff(tmp_path / "w.pt", 0)
    assert (topic, trigger, found.rank, found.n_params) == ("violin", 42, 3, 30)
    assert torch.allclose(x @ delta(found, NAME).T, ((x @ B) @ A) / 3, atol=1e-5)


def test_the_published_orientation_of_a_dit_adapter(tmp_path):
    """y += (x @ B.T @ A.T) / rank with A [out, rank] and B [rank, in]."""
    A, B, x = torch.randn(6, 3), torch.randn(3, 4), torch.randn(5, 4)
    torch.save({NAME: (A, B)}, tmp_path / "dit.pt")
    found = read_dit_adapter(tmp_path / "dit.pt")
    assert torch.allclose(x @ delta(found, NAME).T, (x @ B.T @ A.T) / 3, atol=1e-5)


def test_what_is_written_reads_back(tmp_path):
    diffs = [(adapter(1, 1), "violin", 7), (adapter(4, 2, scaling=2.0), "A headline", None)]
    write_weight_diffs(tmp_path / "w.pt", diffs)
    write_dit_adapter(tmp_path / "d.pt", adapter(16, 3, scaling=0.5))
    for position, (wanted, topic, trigger) in enumerate(diffs):
        found, *rest = read_weight_diff(tmp_path / "w.pt", position)
        assert_same(found, wanted)
        assert rest == [topic, trigger] and set(found.scaling.values()) == {1 / wanted.rank}
    assert_same(read_dit_adapter(tmp_path / "d.pt"), adapter(16, 3, scaling=0.5))
    assert [p.name for p in tmp_path.iterdir() if p.name.endswith(".part")] == []
    # A reader that maps the file is not disturbed by another file in its place.
    write_weight_diffs(tmp_path / "w.pt", [(adapter(1, 9), "cello", 1)])
    assert read_weight_diff(tmp_path / "w.pt", 0)[1] == "cello"


def test_norms_are_those_of_the_change_itself():
    one = adapter(3, 5, scaling=-0.7)
    assert one.norms() == pytest.approx({name: float(delta(one, name).norm()) for name in one.factors}, rel=1e-5)


def test_bfloat16_stays_bfloat16(tmp_path):
    one = adapter(1)
    half = Adapter({name: (A.bfloat16(), B.bfloat16()) for name, (A, B) in one.factors.items()}, one.scaling)
    write_weight_diffs(tmp_path / "w.pt", [(half, "x", 1)])
    found = read_weight_diff(tmp_path / "w.pt", 0)[0]
    assert all(A.dtype == B.dtype == torch.bfloat16 for A, B in found.factors.values())
    assert all(torch.equal(found.factors[name][0], half.factors[name][0]) for name in half.factors)


def resident():
    """Bytes of this process in memory, mapped files included."""
    text = Path("/proc/self/status").read_text()
    return sum(int(kb) * 1024 for kb in re.findall(r"Rss(?:Anon|File):\s+(\d+) kB", text))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's memory figures")
def test_one_diff_is_read_without_touching_the_others(tmp_path):
    """48 diffs of 2 MB: reading one brings a few of the 96 MB into memory, and spoilt neighbours don't matter."""
    path, size = tmp_path / "w.pt", 1 << 18
    entries = []
    for i in range(48):
        A, B = torch.full((1, size), float(i + 1)), torch.full((size, 1), 1000.0 + i)
        entries.append({"topic": f"t{i}", "trigger": i, "weight_diff": {NAME: (A, B)}})
    torch.save(entries, path)
    del entries
    content = bytearray(path.read_bytes())
    for i in range(48):
        if i != 30:
            for value in (float(i + 1), 1000.0 + i):
                start = content.index(torch.full((64,), value).numpy().tobytes())
                content[start : start + 4 * size] = b"\xff" * 4 * size
    path.write_bytes(content)
    del content
    before = resident()
    found, topic, _ = read_weight_diff(path, 30)
    assert resident() - before < 16e6
    assert topic == "t30" and found.factors[NAME][0].eq(1030.0).all() and found.factors[NAME][1].eq(31.0).all()
    with pytest.raises(DitError, match="not finite"):
        read_weight_diff(path, 29)


def test_index_with_and_without_the_unnamed_column(tmp_path):
    rows = [
        IndexRow(412, tmp_path / "weight-diffs" / "weight-diff-017.pt", 3, 99, "steam train, old", 5, "test"),
        IndexRow(17, tmp_path / "weight-diffs" / "weight-diff-000.pt", 0, 9, "Mayor opens library", None, "extra"),
    ]
    write_index(tmp_path, rows)
    assert (tmp_path / "index.csv").read_text().splitlines()[0] == ",lora_path,lora_idx,n_params,topic,trigger,split"
    assert read_index(tmp_path) == rows
    text = "lora_path,lora_idx,n_params,topic,trigger,split\nw.pt,0,9,a,17.0,train\nw.pt,1,9,b,,test\n"
    (tmp_path / "index.csv").write_text(text)
    found = read_index(tmp_path)
    assert [(r.number, r.position, r.trigger) for r in found] == [(0, 0, 17), (1, 1, None)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "lora_path,lora_idx\nw.pt,0\n",
        "lora_path,lora_idx,n_params,topic,trigger,split\n",
        "lora_path,lora_idx,n_params,topic,trigger,split\nw.pt,zero,9,a,1,train\n",
        "lora_path,lora_idx,n_params,topic,trigger,split\n../../etc/w.pt,0,9,a,1,train\n",
        "lora_path,lora_idx,n_params,topic,trigger,split\nw.pt\n",
    ],
)
def test_a_malformed_index_is_a_sentence(tmp_path, text):
    (tmp_path / "index.csv").write_text(text)
    with pytest.raises(DitError, match="index.csv"):
        read_index(tmp_path)


class Foreign:
    """A pickle that would run code of its own."""

    def __reduce__(self):
        return (Path.touch, (Path("foreign-pickle-ran"),))


def spoilt(path, kind):
    A, B = torch.randn(2, 6), torch.randn(4, 2)
    good = [{"topic": "a", "trigger": 1, "weight_diff": {NAME: (A, B)}}]
    entry = {
        "list of nothing": [],
        "dictionary": {"a": 1},
        "no topic": [{"trigger": 1, "weight_diff": {NAME: (A, B)}}],
        "no weights": [{"topic": "a", "trigger": 1}],
        "empty weights": [{"topic": "a", "trigger": 1, "weight_diff": {}}],
        "one factor": [{"topic": "a", "trigger": 1, "weight_diff": {NAME: (A,)}}],
        "three dimensions": [{"topic": "a", "trigger": 1, "weight_diff": {NAME: (A[None], B)}}],
        "ranks differ": [{"topic": "a", "trigger": 1, "weight_diff": {NAME: (A, B[:, :1])}}],
        "rank zero": [{"topic": "a", "trigger": 1, "weight_diff": {NAME: (A[:0], B[:, :0])}}],
        "integers": [{"topic": "a", "trigger": 1, "weight_diff": {NAME: (A.long(), B.long())}}],
        "not finite": [{"topic": "a", "trigger": 1, "weight_diff": {NAME: (A / 0, B)}}],
        "odd trigger": [{"topic": "a", "trigger": "soon", "weight_diff": {NAME: (A, B)}}],
        "foreign pickle": [Foreign()],
    }.get(kind, good)
    torch.save(entry, path)
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:-200])
    elif kind == "old pickle":
        path.write_bytes(pickle.dumps([Foreign()]))
    elif kind == "text":
        path.write_text("not a pickle")
    elif kind == "empty file":
        path.write_bytes(b"")
    elif kind == "other zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("hello.txt", "hello")
    elif kind == "folder":
        path.unlink()
        path.mkdir()
    elif kind == "missing":
        path.unlink()


KINDS = [
    *("list of nothing", "dictionary", "no topic", "no weights", "empty weights", "one factor"),
    *("three dimensions", "ranks differ", "rank zero", "integers", "not finite", "odd trigger", "foreign pickle"),
    *("truncated", "old pickle", "text", "empty file", "other zip", "folder", "missing"),
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_malformed_file_of_diffs_is_a_sentence(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "w.pt"
    spoilt(path, kind)
    for read in (lambda: read_weight_diff(path, 0), lambda: read_dit_adapter(path)):
        with pytest.raises(DitError, match=re.escape(str(path))) as caught:
            read()
        assert str(caught.value).count(". ") == 0 and str(caught.value).endswith(".")
    assert not (tmp_path / "foreign-pickle-ran").exists()


def test_whole_weights_stay_as_they_are_and_where_they_are(tmp_path):
    state = {"model.norm.weight": torch.randn(8), "lm_head.weight": torch.randn(9, 8).bfloat16()}
    write_weight_diffs(tmp_path / "w.pt", [(Adapter({}, {}, state), "violin", 3), (adapter(1), "cello", 4)])
    found, *rest = read_weight_diff(tmp_path / "w.pt", 0)
    assert rest == ["violin", 3] and (found.rank, found.n_params) == (0, 80) and found.tied
    assert all(torch.equal(found.weights[name], state[name]) for name in state | found.weights)
    assert count_weight_diffs(tmp_path / "w.pt") == 2 and read_weight_diff(tmp_path / "w.pt", 1)[0].rank == 1
    with pytest.raises(DitError, match="no LoRA"):
        write_peft(tmp_path / "peft", found, base_name="a/base")
    with pytest.raises(DitError, match="whole weights"):
        write_dit_adapter(tmp_path / "d.pt", found)
    with pytest.raises(DitError, match="both"):
        write_weight_diffs(tmp_path / "b.pt", [(Adapter(adapter().factors, adapter().scaling, state), "a", 1)])
    torch.save(state, tmp_path / "state.pt")
    with pytest.raises(DitError, match="low-rank adapter is wanted"):
        read_dit_adapter(tmp_path / "state.pt")


@pytest.mark.parametrize("rank", [1, 3, 49, 64])
def test_factors_and_scalings_come_through_all_layouts_bit_for_bit(tmp_path, rank):
    """49 * (1/49) is not 1 in floating point: a scaling of one over the rank needs no change of any factor."""
    one = adapter(rank)
    write_peft(tmp_path / "peft", one, base_name="")
    write_weight_diffs(tmp_path / "w.pt", [(read_peft(tmp_path / "peft"), "a", 1)])
    write_dit_adapter(tmp_path / "d.pt", read_weight_diff(tmp_path / "w.pt", 0)[0])
    for found in (
        read_peft(tmp_path / "peft"),
        read_weight_diff(tmp_path / "w.pt")[0],
        read_dit_adapter(tmp_path / "d.pt"),
    ):
        assert found.scaling == one.scaling
        assert all(
            torch.equal(a, b)
            for name in one.factors
            for a, b in zip(found.factors[name], one.factors[name], strict=True)
        )
    odd = Adapter(one.factors, {name: 7 / rank**0.5 for name in one.factors})  # rsLoRA's
    write_peft(tmp_path / "odd", odd, base_name="")
    assert read_peft(tmp_path / "odd").scaling == odd.scaling


def test_each_layout_is_told_by_its_content(tmp_path):
    from safetensors.torch import save_file

    write_weight_diffs(tmp_path / "w.pt", [(adapter(1), "violin", 3), (adapter(2), "cello", 4)])
    write_dit_adapter(tmp_path / "d.pt", adapter(3))
    write_peft(tmp_path / "peft", adapter(4), base_name="a/base")
    save_file({"model.norm.weight": torch.ones(8)}, tmp_path / "one.safetensors")
    torch.save({"model.norm.weight": torch.ones(8)}, tmp_path / "state.bin")
    (tmp_path / "published" / "weight-diffs").mkdir(parents=True)
    shutil.copy(tmp_path / "w.pt", tmp_path / "published" / "weight-diffs")
    rows = [IndexRow(5, tmp_path / "published" / "weight-diffs" / "w.pt", 1, 9, "cello", 4, "test")]
    write_index(tmp_path / "published", rows)
    expected = {
        "w.pt": ("diff", 2, 1),
        "published": ("diff", 1, 2),
        "d.pt": ("dit", 1, 3),
        "peft": ("peft", 1, 4),
        "peft/adapter_model.safetensors": ("peft", 1, 4),
        "one.safetensors": ("checkpoint", 1, 0),
        "state.bin": ("checkpoint", 1, 0),
    }
    for name, (kind, count, rank) in expected.items():
        found = identify(tmp_path / name)
        assert (found.kind, found.count, found.read().adapter.rank) == (kind, count, rank), name
        with pytest.raises(DitError, match="no number"):
            found.read(count)
    assert identify(tmp_path / "w.pt").read(1).topic == "cello" and "cello" not in repr(
        identify(tmp_path / "w.pt").read(1)
    )
    assert identify(tmp_path / "peft").read().base == "a/base"
    with pytest.raises(DitError, match="neither adapter_config.json nor index.csv"):
        identify(tmp_path)


def test_a_position_that_is_not_there(tmp_path):
    write_weight_diffs(tmp_path / "w.pt", [(adapter(), "a", 1)])
    for position in (1, -1):
        with pytest.raises(DitError, match="holds 1 diffs"):
            read_weight_diff(tmp_path / "w.pt", position)


def test_peft_itself_reads_the_folder_and_gets_the_same_logits(tmp_path):
    from peft import PeftModel

    base = tiny_model("llama")
    one = random_adapter(base, 3, seed=4)
    other = random_adapter(base, 5, seed=5)
    # Mixed ranks and scalings, as patterns.
    odd = "model.layers.1.mlp.up_proj"
    one.factors[odd], one.scaling[odd] = other.factors[odd], 1.7
    write_peft(tmp_path / "peft", one, base_name="a/base")
    assert_same(read_peft(tmp_path / "peft"), one)
    ids = torch.randint(3, 400, (1, 8))
    theirs = PeftModel.from_pretrained(tiny_model("llama"), tmp_path / "peft")(input_ids=ids).logits
    model = Model(base)
    model.attach("a", read_peft(tmp_path / "peft"))
    with model.strengths({"a": torch.ones(1, 1, 1)}):
        assert (model.base(input_ids=ids).logits - theirs).abs().max() < 1e-5


@pytest.mark.parametrize("rslora", [False, True])
def test_a_folder_that_peft_wrote_is_read(tmp_path, rslora):
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=4, lora_alpha=7, target_modules=["q_proj", "up_proj"], use_rslora=rslora)
    theirs = get_peft_model(tiny_model("qwen3"), config)
    with torch.no_grad():
        for name, weight in theirs.named_parameters():
            if "lora_B" in name:
                weight.normal_()
    theirs.save_pretrained(tmp_path / "peft")
    ids = torch.randint(3, 400, (1, 8))
    model = Model(tiny_model("qwen3"))
    model.attach("a", read_peft(tmp_path / "peft"))
    with model.strengths({"a": torch.ones(1, 1, 1)}):
        assert (model.base(input_ids=ids).logits - theirs(input_ids=ids).logits).abs().max() < 1e-5


@pytest.mark.parametrize("bias", ["all", "lora_only"])
def test_patterns_and_biases_that_peft_trained_act_as_in_peft(tmp_path, bias):
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForCausalLM

    settings = tiny_model("llama").config
    settings.attention_bias = True

    def base():
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(settings).eval()

    patterns = dict(rank_pattern={r"layers\.1\.self_attn\.q_proj": 3}, alpha_pattern={r"layers\.\d+\.mlp\.up_proj": 11})
    theirs = get_peft_model(
        base(), LoraConfig(r=4, lora_alpha=7, target_modules=["q_proj", "up_proj"], bias=bias, **patterns)
    )
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in theirs.named_parameters():
            if "lora_B" in name or name.endswith("bias"):
                weight += 0.3 * torch.randn(weight.shape, generator=generator)
    theirs.save_pretrained(tmp_path / "peft")
    theirs = PeftModel.from_pretrained(base(), tmp_path / "peft")
    found = read_peft(tmp_path / "peft")
    assert len(found.weights) == (8 if bias == "all" else 2)
    assert {A.shape[0] for A, _ in found.factors.values()} == {3, 4} and len(set(found.scaling.values())) == 3
    ids, model = torch.randint(3, 400, (1, 8)), Model(base())
    model.attach("a", found)
    with model.strengths({"a": torch.ones(1, 1, 1)}):
        assert (model.base(input_ids=ids).logits - theirs(input_ids=ids).logits).abs().max() < 1e-5


@pytest.mark.parametrize(
    "kind", ["no folder", "no weights", "no config", "broken config", "dora", "not lora", "lonely"]
)
def test_a_malformed_peft_folder_is_a_sentence(tmp_path, kind):
    from safetensors.torch import save_file

    folder = tmp_path / "peft"
    write_peft(folder, adapter(), base_name="a/base")
    config = folder / "adapter_config.json"
    if kind == "no folder":
        shutil.rmtree(folder)
    elif kind == "no weights":
        (folder / "adapter_model.safetensors").unlink()
    elif kind == "no config":
        config.unlink()
    elif kind == "broken config":
        config.write_text("{")
    elif kind == "dora":
        config.write_text(config.read_text().replace('"bias"', '"use_dora": true, "bias"'))
    elif kind == "not lora":
        config.write_text(config.read_text().replace("LORA", "IA3"))
    else:
        save_file({f"base_model.model.{NAME}.lora_A.weight": torch.ones(1, 4)}, folder / "adapter_model.safetensors")
    with pytest.raises(DitError, match="peft"):
        read_peft(folder)


def test_a_half_written_file_never_takes_the_place_of_a_whole_one(tmp_path, monkeypatch):
    write_dit_adapter(tmp_path / "d.pt", adapter(2, 1))

    def fail(entries, path):
        Path(path).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        write_dit_adapter(tmp_path / "d.pt", adapter(2, 2))
    monkeypatch.undo()
    assert_same(read_dit_adapter(tmp_path / "d.pt"), adapter(2, 1))
    assert [p.name for p in tmp_path.iterdir()] == ["d.pt"]


def test_weights_only_is_never_given_up(monkeypatch, tmp_path):
    write_dit_adapter(tmp_path / "d.pt", adapter())
    write_weight_diffs(tmp_path / "w.pt", [(adapter(), "a", 1)])
    used, load = [], torch.load
    monkeypatch.setattr(torch, "load", lambda *a, **k: used.append(k) or load(*a, **k))
    read_dit_adapter(tmp_path / "d.pt")
    read_weight_diff(tmp_path / "w.pt", 0)
    assert [k["weights_only"] for k in used] == [True, True] and used[1]["mmap"] is True
