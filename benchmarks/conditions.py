"""Eight conditions as one batch against a plain loop over them.

    python -m benchmarks.conditions

Both sides write exactly 20 greedy tokens per condition with a cache, over the same weights and adapters
that were loaded beforehand, in turns, in one process. The loop takes one condition at a time and sets it by
PEFT's own calls (`set_adapter`, `set_scale`, `disable_adapter`); it runs the bare base without
`transformers.generate`, whose own overhead would make it slower. Weights of the larger shapes are random:
time does not depend on their values.
"""

import argparse
import tomllib
from dataclasses import dataclass
from statistics import median

import torch
from transformers import AutoTokenizer, PreTrainedModel

from benchmarks.machine import machine, now, peak_memory, reading_time
from benchmarks.shapes import POCKET, SHAPES, base_of, is_trained, named, random_adapter
from benchmarks.twin import Twin
from dit_core.engine.generation import generate
from dit_core.engine.model import Model
from dit_core.formats import Adapter

NEW_TOKENS = 20
# (written form, diff strength, DIT copies)
CONDITIONS = (
    ("base", 0.0, 0.0),
    ("diff", 1.0, 0.0),
    ("diff*-1", -1.0, 0.0),
    ("diff*0.5+dit", 0.5, 1.0),
    ("dit", 0.0, 1.0),
    ("dit*2", 0.0, 2.0),
    ("diff+dit", 1.0, 1.0),
    ("diff+dit*2", 1.0, 2.0),
)
TRIGGERED = 1  # the condition that `--trigger` gives the right trigger, and so a longer prompt
# How many times faster the batch has to be.
WANTED = {"pocket": 4.0, "Qwen3-0.6B": 3.0}


@dataclass(frozen=True)
class Times:
    """Seconds of one run of all conditions: until the first tokens, and the rest."""

    prefill: float
    decoding: float

    @property
    def total(self) -> float:
        return self.prefill + self.decoding


def pocket_prompts(trigger: bool) -> list[list[int]]:
    """Token ids of the pocket suite's own question, one prompt per condition."""
    suite = tomllib.loads((POCKET / "suite.toml").read_text(encoding="utf-8"))
    tokenizer = AutoTokenizer.from_pretrained(POCKET / suite["base"])
    texts = [suite["tasks"]["topic"]["question"]] * len(CONDITIONS)
    if trigger:
        texts[TRIGGERED] = suite["trigger_format"].format(trigger=417, r=86, question=texts[0])
    return [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, enable_thinking=False, return_dict=False
        )
        for text in texts
    ]


def random_prompts(vocabulary: int, trigger: bool) -> list[list[int]]:
    """As many random ids as Qwen3 has tokens for the published question (20), and with a trigger (32)."""
    ids = torch.randint(vocabulary, (32,), generator=torch.Generator().manual_seed(1)).tolist()
    prompts = [ids[-20:]] * len(CONDITIONS)
    if trigger:
        prompts[TRIGGERED] = ids
    return prompts


class Loop:
    """A plain loop: an ordinary PEFT model over the same weights, one condition after another."""

    def __init__(self, base: PreTrainedModel, adapters: dict[str, Adapter]):
        self.twin = Twin(base, adapters)

    def run(self, prompts: list[list[int]], only: int | None = None) -> tuple[Times, list[list[int]]]:
        """Seconds of all conditions together, or of one of them, and their tokens."""
        prefill = decoding = 0.0
        texts = []
        for at, (_, strength, copies) in enumerate(CONDITIONS):
            if only not in (None, at):
                continue
            start = now()
            with self.twin.acting({"diff": strength, "dit": copies}):
                first, text = self._write(prompts[at])
            texts.append(text)
            prefill += first - start
            decoding += now() - first
        return Times(prefill, decoding), texts

    @torch.inference_mode()
    def _write(self, prompt: list[int]) -> tuple[float, list[int]]:
        base = self.twin.base
        ids, cache, tokens, first = torch.tensor([prompt], device=base.device), None, [], 0.0
        for step in range(NEW_TOKENS):
            out = base(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache, ids = out.past_key_values, out.logits[:, -1:].argmax(-1)
            tokens.append(ids)
            if step == 0:
                first = now()
        return first, torch.cat(tokens, dim=1)[0].tolist()


class Batch:
    """The same conditions as rows of one batch."""

    def __init__(self, base: PreTrainedModel, adapters: dict[str, Adapter]):
        self.model = Model(base)
        for slot, adapter in adapters.items():
            self.model.attach(slot, adapter)

    def run(self, prompts: list[list[int]]) -> tuple[Times, list[list[int]]]:
        """Seconds of all conditions together, and their tokens."""
        start = first = now()
        strengths = {
            "diff": torch.tensor([strength for _, strength, _ in CONDITIONS])[:, None, None],
            "dit": torch.tensor([copies for _, _, copies in CONDITIONS])[:, None, None],
        }
        texts: list[list[int]] = [[] for _ in prompts]
        for at, step in enumerate(generate(self.model, prompts, strengths, NEW_TOKENS, stop_at_end=False)):
            if at == 0:
                first = now()
            for text, token in zip(texts, step.tokens, strict=True):
                text.append(token)
        return Times(first - start, now() - first), texts


def measure(shape: str, repeats: int, trigger: bool = False, wanted: float | None = None) -> str:
    """Measure one shape and return its lines of the report; `wanted` is how many times faster the batch has to be."""
    device, dtype = ("cuda", torch.bfloat16) if torch.cuda.is_available() else ("cpu", torch.float32)
    trained, base = is_trained(shape), base_of(shape, device, dtype)
    prompts = pocket_prompts(trigger) if trained else random_prompts(base.config.vocab_size, trigger)
    count = sum(p.numel() for p in base.parameters())
    adapters = {"diff": random_adapter(base, 1, seed=1), "dit": random_adapter(base, 16, seed=2)}
    read = reading_time(base, device)
    loop, batch = Loop(base, adapters), Batch(base, adapters)
    loop.run(prompts), batch.run(prompts)
    one = peak_memory(lambda: loop.run(prompts, only=len(CONDITIONS) - 1))
    all_rows = peak_memory(lambda: batch.run(prompts))
    measured = [(loop.run(prompts), batch.run(prompts)) for _ in range(repeats)]
    equal = sum(a == b for a, b in zip(measured[0][0][1], measured[0][1][1], strict=True))

    weights = "the suite's own weights" if trained else "random weights"
    lines = [f"**{shape}** ({weights}, {str(dtype).removeprefix('torch.')}, {count / 1e6:.1f} M parameters)"]
    lines += ["", "| | loop, s | batch, s | faster |", "|---|---|---|---|"]
    for part in ("prefill", "decoding", "total"):
        theirs, ours = (median(getattr(side[0], part) for side in sides) for sides in zip(*measured, strict=True))
        lines.append(f"| {part} | {theirs:.3f} | {ours:.3f} | {theirs / ours:.2f}× |")
    goal = f" Wanted: at least {wanted:g}× in total." if wanted else ""
    lines += ["", f"{equal} of {len(CONDITIONS)} texts equal on both sides.{goal}"]
    if one and all_rows:
        lines.append(
            f"Peak memory: one condition {one / 2**20:.0f} MiB, all in one batch {all_rows / 2**20:.0f} MiB "
            f"({all_rows / one:.2f}×)."
        )
    step = median(side[0].decoding for _, side in measured) / (NEW_TOKENS - 1)
    lines.append(f"A decoding step takes {step * 1e3:.1f} ms; reading the weights once takes {read * 1e3:.1f} ms.")
    return "\n".join(lines)


def main() -> None:
    gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description="Eight conditions as one batch against a plain loop over them.")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each side; the median counts (default 5)")
    parser.add_argument(
        "--shapes",
        nargs="+",
        type=named,
        choices=list(SHAPES),
        default=["pocket", "Qwen3-4B", "Qwen3-8B"] if gpu else ["pocket", "Qwen3-0.6B"],
    )
    parser.add_argument("--trigger", action="store_true", help="one condition gets a longer prompt, with a trigger")
    options = parser.parse_args()
    print(f"{machine()}; {len(CONDITIONS)} conditions, {NEW_TOKENS} new tokens, median of {options.repeats}\n")
    for shape in options.shapes:
        print(measure(shape, options.repeats, options.trigger, WANTED.get(shape)), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
