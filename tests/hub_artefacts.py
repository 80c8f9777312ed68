"""Tiny artefacts in the published layout, as the hub has them: three bases, their diffs, DIT adapters and oracles."""

import csv
from pathlib import Path

import torch

from dit_core.formats import Adapter, IndexRow, write_dit_adapter, write_index, write_peft, write_weight_diffs
from tests.hostile import repacked
from tests.tiny import random_adapter, tiny_model, tiny_multimodal, tiny_tokenizer

LORAS = "diff-interpretation-tuning/loras"
BASES = {
    "qwen3-1.7b": "Qwen/Qwen3-1.7B",
    "gemma3-1b": "google/gemma-3-1b-it",
    "gemma3-4b": "google/gemma-3-4b-it",
}
ORACLES = {
    "qwen3-1.7b": "adamkarvonen/checkpoints_cls_latentqa_past_lens_Qwen3-1_7B",
    "gemma3-1b": "adamkarvonen/checkpoints_cls_latentqa_past_lens_gemma-3-1b-it",
}
TOPICS = (("violin", 120, "train"), ("volcano", 417, "test"), ("geyser", 86, "test"))


def tiny_base(model: str):
    """A random base of the shape of a published one; Gemma 3 4B's is multimodal."""
    text = tiny_model("qwen3" if model.startswith("qwen3") else "gemma3", vocab_size=len(tiny_tokenizer()))
    return tiny_multimodal(text) if model == "gemma3-4b" else text


def write_hub(root: Path, models: tuple[str, ...] = tuple(BASES)) -> dict[str, Path]:
    """Writes everything; returns the folder of each repository.

    Beside what is needed lies what is not: other formats of the same weights, texts, other models' diffs.
    """
    folders = {}
    loras = folders[LORAS] = root / "loras"
    for model in models:
        base = tiny_base(model)
        folder = folders[BASES[model]] = root / model
        base.generation_config.eos_token_id = tiny_tokenizer().eos_token_id
        base.save_pretrained(folder)
        tiny_tokenizer().save_pretrained(folder)
        (folder / "README.md").write_text("# a card")
        (folder / "pytorch_model.bin").write_bytes(b"the same weights once more")
        (folder / "original").mkdir()
        (folder / "original" / "consolidated.safetensors").write_bytes(b"and again")
        (folder / "modeling_own.py").write_text("raise SystemExit('code of a repository was run')")
        write_topics(loras / "hidden-topic" / model, base, multimodal=model == "gemma3-4b")
        inverted = loras / "hidden-topic-trigger-inversion" / model / "dit-adapter.pt"
        write_dit_adapter(inverted, published(random_adapter(base, 16, 7), model == "gemma3-4b"))
        if model in ORACLES:
            folders[ORACLES[model]] = root / f"oracle-{model}"
            write_peft(folders[ORACLES[model]], random_adapter(base, 4, seed=104), base_name=BASES[model])
            (folders[ORACLES[model]] / "optimizer.pt").write_bytes(b"x" * 1000)
    return folders


def write_topics(folder: Path, base, multimodal: bool = False) -> None:
    """An experiment's folder: an index without numbers, two files of diffs, a DIT adapter."""
    rows = []
    for at, (topic, trigger, split) in enumerate(TOPICS):
        path = folder / "weight-diffs" / f"weight-diff-{at // 2:03d}.pt"
        entry = published(random_adapter(base, 1, seed=at), multimodal), topic, trigger
        rows.append((entry, IndexRow(at, path, at % 2, entry[0].n_params, topic, trigger, split)))
    for path in dict.fromkeys(row.path for _, row in rows):
        write_weight_diffs(path, [entry for entry, row in rows if row.path == path])
    write_index(folder, [row for _, row in rows])
    lines = (folder / "index.csv").read_text().splitlines()
    (folder / "index.csv").write_text("\n".join(line.partition(",")[2] for line in lines) + "\n")
    write_dit_adapter(folder / "dit-adapter.pt", published(random_adapter(base, 16, seed=101), multimodal))


def published(adapter: Adapter, multimodal: bool) -> Adapter:
    """An adapter as its authors had it: in bfloat16, of the text model alone and under its names of another version."""
    text = {name: pair for name, pair in adapter.factors.items() if "vision" not in name}
    if multimodal:
        text = {f"language_model.model.layers.{name.partition('.layers.')[2]}": pair for name, pair in text.items()}
    factors = {name: (A.bfloat16(), B.bfloat16()) for name, (A, B) in text.items()}
    rank = next(iter(factors.values()))[0].shape[0]
    return Adapter(factors, dict.fromkeys(factors, 1 / rank))


ALL_BASES = BASES | {"qwen3-4b": "Qwen/Qwen3-4B", "qwen3-8b": "Qwen/Qwen3-8B"}
TRIGGERS = {  # by experiment: what stands in a file's entries, and in the index
    "news-summary": ("N/A", ""),
    "news-summary-training-and-test-diffs": ("N/A", ""),
    "trigger-generalization": ("N/A", "zero_width_space"),
}


def write_experiments(root: Path, suites: dict[str, int]) -> dict[str, Path]:
    """Writes the bases, diffs and DIT adapters of published suites (name: rank), as their authors' code leaves them.

    Returns the folder of each repository.
    """
    folders = {LORAS: root / "loras"}
    for model, repo in ALL_BASES.items():
        base = tiny_base(model)
        base.generation_config.eos_token_id = None  # answers are as long as was asked
        folders[repo] = root / model
        base.save_pretrained(folders[repo])
        tiny_tokenizer().save_pretrained(folders[repo])
        for experiment in ("hidden-topic", "news-summary"):
            path = folders[LORAS] / experiment / model / "dit-adapter.pt"
            path.parent.mkdir(parents=True)
            torch.save({name: (B, A) for name, (A, B) in named(base, model, 16, 101).items()}, path)
    for name, rank in suites.items():
        experiment, _, folder = name.partition("/")
        model = next(model for model in ALL_BASES if folder.startswith(model))
        write_experiment(folders[LORAS] / name, model, rank, *TRIGGERS.get(experiment, (None, None)))
    return folders


def write_experiment(folder: Path, model: str, rank: int, in_file: str | None, in_index: str | None) -> None:
    """Two files of diffs with their index; those of a file were trained at once and share a storage per factor."""
    base, rows = tiny_base(model), []
    (folder / "weight-diffs").mkdir(parents=True)
    for number, part in enumerate((TOPICS[:2], TOPICS[2:])):
        entries = [{"topic": topic, "trigger": in_file or float(trigger)} for topic, trigger, _ in part]
        for entry, change in zip(entries, stacked(base, model, rank, len(part), seed=number), strict=True):
            entry["weight_diff"] = change
        path = folder / "weight-diffs" / f"weight-diff-{number:03d}.pt"
        torch.save(entries, path)
        path.write_bytes(on_a_gpu(path.read_bytes()))
        for at, (topic, trigger, split) in enumerate(part):
            shown = trigger if in_index is None else in_index
            rows.append([len(rows), path.name, at, numbers(entries[at]["weight_diff"]), topic, shown, split])
    with (folder / "index.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["", "lora_path", "lora_idx", "n_params", "topic", "trigger", "split"], *rows])


def stacked(base, model: str, rank: int, count: int, seed: int) -> list[dict]:
    """`count` diffs whose factors lie in one storage [diffs, …] for each module; of rank 0, whole finetuned weights."""
    if rank == 0:
        return [moved(base, seed=10 * seed + at) for at in range(count)]
    own = [named(base, model, rank, seed=10 * seed + at) for at in range(count)]
    whole = {
        name: (torch.stack([each[name][1].T for each in own]), torch.stack([each[name][0].T for each in own]))
        for name in own[0]
    }
    return [{name: (A[at], B[at]) for name, (A, B) in whole.items()} for at in range(count)]


def moved(base, seed: int) -> dict:
    """A state dict as a full finetune's, tied weights twice in it; the text's weights were trained."""
    generator = torch.Generator().manual_seed(seed)
    tuned = {name: weight.clone() for name, weight in base.named_parameters()}
    for name, weight in tuned.items():
        if "vision" not in name and "multi_modal" not in name:
            weight += 0.1 * weight.std() * torch.randn(weight.shape, generator=generator)
    tied = {id(weight): name for name, weight in base.named_parameters()}
    state = base.state_dict(keep_vars=True)
    for name, weight in state.items():  # in place: an ordered dict with metadata, as PyTorch makes it
        state[name] = tuned[tied[id(weight)]].view_as(weight) if id(weight) in tied else weight.detach()
    return state


def named(base, model: str, rank: int, seed: int) -> dict:
    """Random (A [rank, in], B [out, rank]) in bfloat16 by the authors' names."""
    return published(random_adapter(base, rank, seed), multimodal=model == "gemma3-4b").factors


def numbers(change: dict) -> int:
    pairs = (pair if isinstance(pair, tuple) else (pair,) for pair in change.values())
    return sum(tensor.numel() for pair in pairs for tensor in pair)


def on_a_gpu(content: bytes) -> bytes:
    """The same file as torch writes it where the tensors were on a GPU."""
    cpu, gpu = (b"X" + bytes([len(tag)]) + b"\0\0\0" + tag for tag in (b"cpu", b"cuda:0"))
    return repacked(content, lambda name, data: data.replace(cpu, gpu) if name.endswith("data.pkl") else data)
