"""A sweep of two adapters over 0 to 5 copies as one request, against a plain loop of one setting and sample at a time.

    python -m benchmarks.sweep

22 settings × 16 samples, exactly 10 new tokens each, temperature 1, in turns in one process, over the same weights.
The loop sets a condition by PEFT's own calls and runs the bare base with a cache, without `transformers.generate`,
whose own overhead would make it slower. That both sides have the same conditions is told by their greedy answers.
"""

import argparse
from statistics import median

import torch
from transformers import PreTrainedModel

from benchmarks.conditions import pocket_prompts, random_prompts
from benchmarks.machine import machine, now
from benchmarks.shapes import SHAPES, base_of, is_trained, named, random_adapter
from benchmarks.twin import Twin
from dit_core.experiments.sweep import steps
from dit_core.formats import Adapter
from dit_core.generation import generate
from dit_core.model import Model

NEW_TOKENS, SAMPLES = 10, 16
ADAPTERS = ("topic", "headline")
SETTINGS = [(adapter, copies) for adapter in ADAPTERS for copies in steps(0, 5, 0.5)]
WANTED = {"pocket": 8.0}  # times faster


class Loop:
    """An ordinary PEFT model over the same weights, one setting and one sample after another."""

    def __init__(self, base: PreTrainedModel, adapters: dict[str, Adapter]):
        self.twin = Twin(base, adapters)

    def run(self, prompt: list[int], samples: int, temperature: float) -> list[list[int]]:
        """The tokens of every setting and sample."""
        noise, texts = torch.Generator().manual_seed(0), []
        for adapter, copies in SETTINGS:
            with self.twin.acting({adapter: copies}):
                texts += [self._write(prompt, temperature, noise) for _ in range(samples)]
        return texts

    @torch.inference_mode()
    def _write(self, prompt: list[int], temperature: float, noise: torch.Generator) -> list[int]:
        base = self.twin.base
        ids, cache, tokens = torch.tensor([prompt], device=base.device), None, []
        for _ in range(NEW_TOKENS):
            out = base(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
            logits, cache = out.logits[:, -1].float().cpu(), out.past_key_values
            greedy = temperature == 0
            chosen = logits.argmax(-1) if greedy else torch.multinomial(logits.softmax(-1), 1, generator=noise)[0]
            tokens.append(int(chosen))
            ids = torch.tensor([[tokens[-1]]], device=base.device)
        return tokens


class Batch:
    """The same settings and samples as rows of one batch."""

    def __init__(self, base: PreTrainedModel, adapters: dict[str, Adapter]):
        self.model = Model(base)
        for slot, adapter in adapters.items():
            self.model.attach(slot, adapter)

    def run(self, prompt: list[int], samples: int, temperature: float) -> list[list[int]]:
        """The tokens of every setting and sample."""
        rows = [setting for setting in SETTINGS for _ in range(samples)]
        strengths = {
            own: torch.tensor([copies if adapter == own else 0.0 for adapter, copies in rows])[:, None, None]
            for own in ADAPTERS
        }
        texts: list[list[int]] = [[] for _ in rows]
        written = generate(
            self.model,
            [prompt] * len(rows),
            strengths,
            NEW_TOKENS,
            temperature=temperature,
            seeds=list(range(len(rows))),
            stop_at_end=False,
        )
        for step in written:
            for text, token in zip(texts, step.tokens, strict=True):
                text.append(token)
        return texts


def measure(shape: str, repeats: int) -> str:
    """Measures one shape and returns its lines of the report."""
    device, dtype = ("cuda", torch.bfloat16) if torch.cuda.is_available() else ("cpu", torch.float32)
    base = base_of(shape, device, dtype)
    trained = is_trained(shape)
    prompt = (pocket_prompts(False) if trained else random_prompts(base.config.vocab_size, False))[0]
    adapters = {name: random_adapter(base, 16, seed=at) for at, name in enumerate(ADAPTERS)}
    loop, batch = Loop(base, adapters), Batch(base, adapters)
    theirs, ours = (side.run(prompt, 1, 0.0) for side in (loop, batch))
    equal = sum(a == b for a, b in zip(theirs, ours, strict=True))
    seconds = [(_time(loop, prompt), _time(batch, prompt)) for _ in range(repeats)]
    one, other = (median(side) for side in zip(*seconds, strict=True))
    weights = "the suite's own weights" if trained else "random weights"
    wanted = f" Wanted: at least {WANTED[shape]:g}×." if shape in WANTED else ""
    return (
        f"**{shape}** ({weights}, {str(dtype).removeprefix('torch.')}): loop {one:.2f} s, one request {other:.2f} s, "
        f"**{one / other:.1f}×** faster; {equal} of {len(SETTINGS)} greedy texts equal.{wanted}"
    )


def _time(side: Loop | Batch, prompt: list[int]) -> float:
    start = now()
    side.run(prompt, SAMPLES, 1.0)
    return now() - start


def main() -> None:
    parser = argparse.ArgumentParser(description="A sweep as one request against a plain loop over it.")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each side; the median counts (default 3)")
    parser.add_argument("--shapes", nargs="+", type=named, choices=list(SHAPES), default=["pocket"])
    options = parser.parse_args()
    rows = f"{len(SETTINGS)} settings × {SAMPLES} samples"
    print(f"{machine()}; {rows}, {NEW_TOKENS} new tokens, median of {options.repeats}")
    for shape in options.shapes:
        print(f"\n{measure(shape, options.repeats)}", flush=True)


if __name__ == "__main__":
    main()
