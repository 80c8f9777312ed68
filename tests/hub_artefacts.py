"""Tiny artefacts in the published layout, as the hub has them: three bases, their diffs, DIT adapters and oracles."""

from pathlib import Path

from dit_core.formats import Adapter, IndexRow, write_dit_adapter, write_index, write_peft, write_weight_diffs
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
