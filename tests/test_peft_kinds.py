"""Whatever PEFT writes for a causal language model acts as in PEFT itself, alone and as one row among eight.

The table in docs/your-own-finetune.md is made of `KINDS`, and is just the kinds that are tested here.
"""

import json
import pickle
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import save_file

from dit_core.engine.generation import generate
from dit_core.engine.model import Model
from dit_core.errors import DitError
from dit_core.formats import read_peft, write_peft
from dit_core.records import DiffInfo
from dit_core.records.condition import DiffPart
from dit_core.request.conditions import PartialDiff
from tests.merged import is_greedy
from tests.tiny import tiny_family, tiny_gpt2, tiny_model, tiny_multimodal

DOC = Path(__file__).resolve().parent.parent / "docs" / "your-own-finetune.md"
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ATTENTION = ["q_proj", "v_proj"]


def tokens(rows: int, length: int):
    return torch.randint(3, 400, (rows, length), generator=torch.Generator().manual_seed(3))


TOKENS = sorted(set(tokens(8, 9)[:, 2].tolist()))  # that each row has one of


@dataclass(frozen=True)
class Kind:
    """A kind of PEFT folder: its name in the table, its base, its config, whether it stays low-rank.

    `shared` says that it changes what all rows of a batch share.
    """

    title: str
    config: Callable[[], Any]
    base: Callable[[], Any] = tiny_model
    low_rank: bool = False
    shared: bool = False


def lora(**settings):
    return lambda: peft.LoraConfig(**{"r": 4, "lora_alpha": 6, "target_modules": LINEAR, **settings})


def other(name, **settings):
    return lambda: getattr(peft, name)(**{"target_modules": ATTENTION, **settings})


EXPERTS = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
KINDS = {
    "lora": Kind("LoRA", lora(), low_rank=True),
    "rslora": Kind("rsLoRA", lora(use_rslora=True), low_rank=True),
    "patterns": Kind(
        "rank and alpha patterns",
        lora(rank_pattern={"q_proj": 2, r"layers\.1\.mlp.*": 3}, alpha_pattern={"down_proj": 9}),
        low_rank=True,
    ),
    "bias": Kind('LoRA with `bias="all"`', lora(bias="all"), lambda: tiny_family("qwen2")),
    "dora": Kind("DoRA", lora(use_dora=True)),
    "dora bias": Kind(
        "DoRA on layers with biases", lora(use_dora=True, target_modules=ATTENTION), lambda: tiny_family("qwen2")
    ),
    "lora_bias": Kind("LoRA with `lora_bias`", lora(lora_bias=True)),
    "modules_to_save": Kind("`modules_to_save`", lora(modules_to_save=["embed_tokens", "lm_head", "norm"])),
    "convolution": Kind(
        "`modules_to_save` with a convolution (Falcon-H1)",
        lora(target_modules=ATTENTION, modules_to_save=["conv1d"]),
        lambda: tiny_family("falcon_h1"),
        shared=True,
    ),
    "embedding": Kind("LoRA on embedding and unembedding", lora(target_modules=["embed_tokens", "lm_head", "q_proj"])),
    "tied embedding": Kind(
        "LoRA on a tied embedding", lora(target_modules=["embed_tokens", "q_proj"]), lambda: tiny_model("gemma3")
    ),
    "tokens": Kind("`trainable_token_indices`", lora(trainable_token_indices=TOKENS)),
    "tied tokens": Kind(
        "`trainable_token_indices`, tied", lora(trainable_token_indices=TOKENS), lambda: tiny_model("gemma3")
    ),
    "trainable tokens": Kind(
        "TrainableTokens", lambda: peft.TrainableTokensConfig(target_modules=["embed_tokens"], token_indices=TOKENS)
    ),
    "pissa": Kind("PiSSA", lora(init_lora_weights="pissa")),
    "olora": Kind("OLoRA", lora(init_lora_weights="olora")),
    "experts qwen3": Kind(
        "`target_parameters`: experts of Qwen3-MoE",
        lora(target_modules=ATTENTION, target_parameters=EXPERTS),
        lambda: tiny_family("qwen3_moe"),
    ),
    "experts gpt-oss": Kind(
        "`target_parameters`: experts of gpt-oss",
        lora(target_modules=ATTENTION, target_parameters=EXPERTS),
        lambda: tiny_family("gpt_oss"),
    ),
    "experts mixtral": Kind(
        "`target_parameters`: experts and router of Mixtral",
        lora(target_modules=ATTENTION, target_parameters=[*EXPERTS, "mlp.gate.weight"]),
        lambda: tiny_family("mixtral"),
    ),
    "gpt2": Kind(
        "`fan_in_fan_out` (GPT-2)",
        lora(target_modules=["c_attn", "c_proj", "c_fc"], fan_in_fan_out=True),
        tiny_gpt2,
        True,
    ),
    "gpt2 dora": Kind("DoRA on GPT-2", lora(target_modules=["c_attn"], fan_in_fan_out=True, use_dora=True), tiny_gpt2),
    "opt": Kind(
        "LoRA on OPT, whose layers see rows × positions",
        lora(target_modules=["q_proj", "fc1", "fc2"]),
        lambda: tiny_family("opt"),
        True,
    ),
    "adalora": Kind(
        "AdaLoRA", lambda: peft.AdaLoraConfig(init_r=6, target_r=3, total_step=10, target_modules=LINEAR), low_rank=True
    ),
    "ia3": Kind(
        "IA³", other("IA3Config", target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"])
    ),
    "loha": Kind("LoHa", other("LoHaConfig", r=3)),
    "lokr": Kind("LoKr", other("LoKrConfig", r=3)),
    "oft": Kind("OFT", other("OFTConfig", oft_block_size=8)),
    "boft": Kind("BOFT", other("BOFTConfig", boft_block_size=4)),
    "hra": Kind("HRA", other("HRAConfig", r=4)),
    "vera": Kind("VeRA", other("VeraConfig", r=8)),
    "fourierft": Kind("FourierFT", other("FourierFTConfig", n_frequency=20)),
    "ln_tuning": Kind("LayerNorm tuning", other("LNTuningConfig", target_modules=["input_layernorm", "norm"])),
    "shira": Kind("SHiRA", other("ShiraConfig", r=2)),
    "c3a": Kind("C3A", other("C3AConfig", block_size=8)),
    "miss": Kind("MiSS", other("MissConfig", r=4)),
    "randlora": Kind("RandLoRA", other("RandLoraConfig", r=4)),
    "delora": Kind("DeLoRA", other("DeloraConfig", r=4)),
    "gralora": Kind("GraLoRA", other("GraloraConfig", r=4)),
    "waveft": Kind("WaveFT", other("WaveFTConfig", n_frequency=20)),
}


def trained(kind: Kind, folder: Path):
    """Writes the folder of a kind with random weights in all that would be trained; PEFT's own model, read again."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = peft.get_peft_model(kind.base(), kind.config())
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
        model.save_pretrained(folder)
        return peft.PeftModel.from_pretrained(kind.base(), folder).eval()


def column(values):
    return torch.tensor(values)[:, None, None]


@torch.inference_mode()
def differences(kind: Kind, theirs, folder: Path) -> tuple[float, float, float]:
    """Largest difference of logits from PEFT's: alone, as rows among eight, and of the rows where nothing acts."""
    base = kind.base()
    model, ids = Model(base), tokens(8, 9)
    plain = [base(input_ids=ids[row : row + 1]).logits[0] for row in range(8)]
    wanted = [theirs(input_ids=ids[row : row + 1]).logits[0] for row in range(8)]
    assert max(float((own - before).abs().max()) for own, before in zip(wanted, plain, strict=True)) > 1e-2
    model.attach("it", read_peft(folder))
    assert torch.equal(base(input_ids=ids[:1]).logits[0], plain[0])
    with model.strengths({"it": column([1.0])}):
        alone = float((base(input_ids=ids[:1]).logits[0] - wanted[0]).abs().max())
    strengths, batch = [1.0, 0.0, 1.0, 0.0, 0.5, -1.0, 1.0, 0.0], torch.empty(8, *plain[0].shape)
    if kind.shared:
        with pytest.raises(DitError, match="which all rows of a batch share"):
            model.strengths({"it": column(strengths)})
    alike = [[row for row in range(8) if strengths[row] == own] for own in set(strengths)]
    for rows in alike if kind.shared else [range(8)]:
        with model.strengths({"it": column([strengths[row] for row in rows])}):
            batch[list(rows)] = base(input_ids=ids[list(rows)]).logits
    among = max(float((batch[row] - wanted[row]).abs().max()) for row in (0, 2, 6))
    rest = max(float((batch[row] - plain[row]).abs().max()) for row in (1, 3, 7))
    prompts, said = [ids[0].tolist(), ids[1, :5].tolist()], [[], []]
    for step in generate(model, prompts, {"it": column([1.0, 1.0 if kind.shared else 0.5])}, 3, stop_at_end=False):
        for text, token in zip(said, step.tokens, strict=True):
            text.append(token)
    assert is_greedy(theirs, prompts[0], said[0])
    return alone, among, rest


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_acts_as_in_peft(name, tmp_path, monkeypatch):
    # BOFT imports setuptools, which refuses to stand in for a distutils that another test has imported before.
    monkeypatch.setenv("SETUPTOOLS_USE_DISTUTILS", "stdlib")
    kind = KINDS[name]
    theirs = trained(kind, tmp_path)
    assert bool(read_peft(tmp_path).low_rank) == kind.low_rank
    alone, among, rest = differences(kind, theirs, tmp_path)
    assert max(alone, among, rest) < 1e-5, (alone, among, rest)


def test_adalora_that_was_pruned_acts_as_in_peft(tmp_path):
    """Ranks differ by module then, one is 0, and the scaling stays that of the first rank."""
    theirs, generator = peft.get_peft_model(tiny_model(), KINDS["adalora"].config()), torch.Generator().manual_seed(1)
    kept = {}
    for place, (name, weight) in enumerate(theirs.named_parameters()):
        if weight.requires_grad:
            weight.data += 0.1 * torch.randn(weight.shape, generator=generator)
        if "lora_E" in name:
            kept[name.removeprefix("base_model.model.")] = [bool(kept) and (place + i) % 5 < 3 for i in range(6)]
    theirs.peft_config["default"].rank_pattern = kept
    theirs.base_model.resize_modules_by_rank_pattern(kept, "default")
    theirs.save_pretrained(tmp_path)
    theirs = peft.PeftModel.from_pretrained(tiny_model(), tmp_path).eval()
    adapter, model, ids = read_peft(tmp_path), Model(tiny_model()), tokens(2, 9)
    assert len(adapter.factors) == len(kept) - 1 and len({A.shape[0] for A, _ in adapter.factors.values()}) > 1
    model.attach("it", adapter)
    with torch.inference_mode(), model.strengths({"it": column([1.0, 0.0])}):
        found = model.base(input_ids=ids).logits
    assert (found[0] - theirs(input_ids=ids[:1]).logits[0]).abs().max() < 1e-5


@torch.inference_mode()
@pytest.mark.parametrize("kind", ["dora", "modules_to_save", "experts qwen3", "ia3", "loha", "oft", "ln_tuning"])
def test_a_part_of_a_kind_acts_as_the_merged_weights_of_that_part(kind, tmp_path):
    """`diff@layers:1`, `diff@mlp`, ... of what PEFT merges: its merged weights there, the base's everywhere else."""
    theirs, adapter = trained(KINDS[kind], tmp_path).merge_and_unload(), read_peft(tmp_path)
    model, ids, info = Model(KINDS[kind].base()), tokens(4, 9), DiffInfo("it", "any", "test", 0, "", None)
    places = {"layers:1-1": ".layers.1.", "mlp": ".mlp.", "attention": ".self_attn.", "embed_tokens": "embed_tokens"}
    found = 0
    for place, word in places.items():
        plain, merged = KINDS[kind].base(), dict(theirs.named_parameters())
        inside = [n for n, own in plain.named_parameters() if word in f".{n}" and not torch.equal(own, merged[n])]
        part = PartialDiff("part", "any", "test", 0, "", None, of=info, part=DiffPart.parse(f"@{place}"))
        if not inside:
            with pytest.raises(DitError, match="changes nothing in"):
                part.weights(lambda _: adapter, lambda: model)
            continue
        for name in inside:
            plain.get_parameter(name).copy_(merged[name])
        left = pickle.loads(pickle.dumps(part.weights(lambda _: adapter, lambda: model)))  # as to another process
        model.attach("part", left)
        with model.strengths({"part": column([1.0, 0.0, 1.0, 0.0])}):
            rows = model.base(input_ids=ids).logits
        assert (rows[::2] - plain(input_ids=ids[::2]).logits).abs().max() < 1e-5
        assert (rows[1::2] - KINDS[kind].base()(input_ids=ids[1::2]).logits).abs().max() < 1e-5
        found += 1
    assert found > 1 or kind == "ln_tuning"
    if left.merged:
        with pytest.raises(DitError, match="more than a LoRA"):
            write_peft(tmp_path / "part", left, "tiny")


RESIZED = {
    "LoRA": lora(target_modules=ATTENTION),
    "LoRA on embeddings": lora(target_modules=["embed_tokens", "lm_head", "q_proj"]),
    "saved embeddings": lora(target_modules=ATTENTION, modules_to_save=["embed_tokens", "lm_head"]),
    "new tokens": lora(target_modules=ATTENTION, trainable_token_indices=[*TOKENS, 401, 402]),
}


@pytest.mark.parametrize("size", [403, 397])
@pytest.mark.parametrize("kind", RESIZED)
@torch.inference_mode()
def test_a_finetune_with_more_or_fewer_tokens_opens_without_them(kind, size, tmp_path):
    if size < 400 and kind == "new tokens":
        return
    base, ids = tiny_model("llama"), tokens(2, 9).clamp(max=396)
    torch.manual_seed(5)
    base.resize_token_embeddings(size, mean_resizing=False)
    theirs = peft.get_peft_model(base, RESIZED[kind]())
    for parameter in theirs.parameters():
        if parameter.requires_grad:
            parameter += 0.1 * torch.randn(parameter.shape)
    theirs.save_pretrained(tmp_path, save_embedding_layers=True)
    adapter, model = read_peft(tmp_path), Model(tiny_model("llama"))
    notes = model.base_modules.fit(adapter).notes
    assert notes == (
        ["It has 3 tokens more than this base: they are left out, nothing says or reads them."] * (size > 400)
    )
    model.attach("it", adapter)
    with model.strengths({"it": column([1.0, 0.0])}):
        found = model.base(input_ids=ids).logits
    shared = min(size, 400)
    assert (found[0, :, :shared] - theirs(input_ids=ids).logits[0, :, :shared]).abs().max() < 1e-5
    assert (found[1] - tiny_model("llama")(input_ids=ids[1:]).logits[0]).abs().max() < 1e-5


def test_names_find_their_place_in_a_multimodal_base(tmp_path):
    """DoRA and single tokens are put by PEFT on modules that this base has under another name."""
    kind = Kind("", lora(use_dora=True, trainable_token_indices=TOKENS), lambda: tiny_model("gemma3"))
    theirs, ids = trained(kind, tmp_path), tokens(2, 9)
    model = Model(tiny_multimodal(tiny_model("gemma3")))
    model.attach("it", read_peft(tmp_path))
    with torch.inference_mode(), model.strengths({"it": column([1.0, 0.0])}):
        found = model.base(input_ids=ids).logits
    assert (found[0] - theirs(input_ids=ids[:1]).logits[0]).abs().max() < 1e-5


def test_a_lora_on_experts_one_by_one_acts_on_stacked_ones(tmp_path):
    """As transformers 4 named Mixtral's experts: `w1`, `w3` and `w2` of each, with the router beside."""
    base = tiny_family("mixtral")
    names = [f"model.layers.{layer}.block_sparse_moe.experts.{i}" for layer in range(2) for i in range(4)]
    sizes = {"w1": (32, 64), "w3": (32, 64), "w2": (64, 32)}
    generator, tensors = torch.Generator().manual_seed(1), {}
    scale, wanted = 6 / 4, tiny_family("mixtral")
    for name in names:
        layer, i = int(name.split(".")[2]), int(name.split(".")[-1])
        changes = {}
        for leaf, (inputs, outputs) in sizes.items():
            A, B = (0.2 * torch.randn(shape, generator=generator) for shape in ((4, inputs), (outputs, 4)))
            tensors[f"base_model.model.{name}.{leaf}.lora_A.weight"] = A
            tensors[f"base_model.model.{name}.{leaf}.lora_B.weight"] = B
            changes[leaf] = scale * B @ A
        with torch.no_grad():
            wanted.model.layers[layer].mlp.experts.gate_up_proj[i] += torch.cat([changes["w1"], changes["w3"]])
            wanted.model.layers[layer].mlp.experts.down_proj[i] += changes["w2"]
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 6, "target_modules": ["w1", "w2", "w3"], "bias": "none"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    model, ids = Model(base), tokens(3, 9)
    model.attach("it", read_peft(tmp_path))
    with torch.inference_mode(), model.strengths({"it": column([1.0, 0.0, 1.0])}):
        found = base(input_ids=ids).logits
    assert (found[[0, 2]] - wanted(input_ids=ids).logits[[0, 2]]).abs().max() < 1e-5


def table() -> str:
    lines = ["| what PEFT wrote | acts as |", "|---|---|"]
    for kind in KINDS.values():
        acts = "low-rank factors" if kind.low_rank else "a difference of weights"
        lines.append(f"| {kind.title} | {acts}{', in batches of its own' if kind.shared else ''} |")
    return "\n".join(lines)


def test_the_documents_table_is_what_is_tested_here():
    assert table() in DOC.read_text(encoding="utf-8")
