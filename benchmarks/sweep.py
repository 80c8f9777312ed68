"""A copies sweep as one request of the public `sweep` against a plain loop: one setting, one sample at a time.

    python -m benchmarks.sweep

The topic and the headline adapter of the pocket suite, without any diff, at 0 to 5 copies in steps of 0.5, with 16
samples each of at most 10 new tokens. Both sides draw the same noise, use a cache, and stop where an answer ends. The
loop sets each setting by PEFT's own calls and runs the bare base without `transformers.generate`, whose own overhead
would make it slower.
"""

import argparse
import random
from collections.abc import Sequence
from statistics import median

import torch
from transformers import AutoModelForCausalLM

from benchmarks.machine import machine, now
from benchmarks.shapes import POCKET
from benchmarks.twin import Twin
from dit_core import Suite, Table, load_suite
from dit_core.engine.generation import row_seed, sample
from dit_core.records import SweepPoint
from dit_core.records.condition import Condition
from dit_core.sweeps import steps, sweep

ADAPTERS = ("topic", "headline")
COPIES = steps(0, 5, 0.5)
SAMPLES, NEW_TOKENS, TEMPERATURE, SEED = 16, 10, 1.0, 0
WANTED = 8.0  # times faster
BROKEN = "\ufffd"  # what is shown of a character whose tokens are not all there yet
Row = tuple[str, str, int]  # condition, question, sample


def batched(suite: Suite, samples: int = SAMPLES, copies: Sequence[float] = COPIES) -> tuple[float, Table[SweepPoint]]:
    """Seconds of the whole sweep as one request, and what it gives."""
    options = {"temperature": TEMPERATURE, "max_new_tokens": NEW_TOKENS, "seed": SEED}
    start = now()
    table = sweep(suite, adapter=ADAPTERS, copies=copies, samples=samples, **options)
    return now() - start, table


class Loop:
    """An ordinary PEFT model over the suite's own base and adapters, one row after another."""

    def __init__(self, suite: Suite):
        self.model = suite.worker.run(lambda: suite.model)
        base = AutoModelForCausalLM.from_pretrained(suite.spec.base, dtype=self.model.dtype).to(self.model.device)
        self.twin = Twin(base.eval(), {name: suite.load_adapter(name) for name in ADAPTERS})

    def run(self, rows: Sequence[Row]) -> tuple[float, list[str]]:
        """Seconds of all rows, and what they say."""
        start, said = now(), []
        for condition, question, at in rows:
            with self.twin.acting(dict(Condition.parse(condition).adapters)):
                ids = self._write(self.model.encode(question), row_seed(SEED, "", condition, question, at))
            said.append(self.model.tokenizer.decode(ids, skip_special_tokens=True).rstrip(BROKEN).strip())
        return now() - start, said

    @torch.inference_mode()
    def _write(self, prompt: list[int], seed: int) -> list[int]:
        base, noise, tokens = self.twin.base, random.Random(seed), []
        ids, cache = torch.tensor([prompt], device=base.device), None
        for _ in range(NEW_TOKENS):
            out = base(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache, logits = out.past_key_values, out.logits[:, -1].float()
            ids = sample(logits, TEMPERATURE, 1.0, [noise.random()])[:, None]
            if ids.item() in self.model.end_tokens:
                break
            tokens.append(ids.item())
        return tokens


def measure(suite: Suite, repeats: int, samples: int = SAMPLES, copies: Sequence[float] = COPIES) -> str:
    """The figures as text."""
    loop, table = Loop(suite), batched(suite, samples, copies)[1]  # the adapters come onto the model here
    rows = [(one.condition, one.question, one.sample) for one in table]
    loop.run(rows[:4])
    measured = [(batched(suite, samples, copies)[0], *loop.run(rows)) for _ in range(repeats)]
    ours, theirs = (median(one[side] for one in measured) for side in (0, 1))
    equal = sum(one.text == text for one, text in zip(table, measured[0][2], strict=True))
    return (
        f"{table.extra['n_settings']} settings × {samples} samples: loop {theirs:.2f} s, one request {ours:.2f} s, "
        f"**{theirs / ours:.1f}×** faster; {equal} of {len(rows)} texts equal. Wanted: at least {WANTED:g}×."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="A copies sweep as one request against a plain loop.")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each side; the median counts (default 3)")
    options = parser.parse_args()
    print(f"{machine()}; at most {NEW_TOKENS} new tokens, median of {options.repeats}\n")
    print(measure(load_suite(str(POCKET)), options.repeats))


if __name__ == "__main__":
    main()
