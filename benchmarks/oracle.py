"""An activation oracle's readings as two batches against a loop of the published code's shape.

    python -m benchmarks.oracle

Both sides read all layers of the five standing conditions at the last ten tokens of their prompts, and write exactly
ten greedy tokens for each reading, with a cache, over the same weights and adapters that were loaded beforehand, in
turns, in one process. The loop does per layer and condition what the published code does: a pass of the target with
its adapters and one without, each no further than the layer, and then the oracle with a batch of one, adapters set by
PEFT's own calls. It runs the bare base without `transformers.generate`, whose own overhead would make it slower.
"""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from benchmarks.machine import machine, now
from benchmarks.shapes import POCKET, SHAPES, is_trained, named, random_adapter, random_base
from benchmarks.twin import Twin
from dit_core.engine.activations import injecting, residuals
from dit_core.engine.generation import generate
from dit_core.engine.model import Model
from dit_core.formats import Adapter, read_peft
from dit_core.methods.comparison import columns, first_info
from dit_core.methods.oracle import oracle_prompt
from dit_core.records.condition import Condition
from dit_core.request.conditions import build_prompt
from dit_core.suite import OracleInfo, load_suite

NEW_TOKENS = 10
POSITIONS = 10
ORACLE_RANK = 64  # as published
# How many times faster the batches have to be.
WANTED = {"pocket": 8.0, "Qwen3-0.6B": 4.0}
# (written form, diff strength, DIT copies)
CONDITIONS = (
    ("base", 0.0, 0.0),
    ("diff", 1.0, 0.0),
    ("diff+right", 1.0, 0.0),
    ("dit", 0.0, 1.0),
    ("diff+dit", 1.0, 1.0),
)
Texts = dict[tuple[int, int], list[int]]  # tokens by layer and condition


@dataclass(frozen=True)
class Work:
    """What both sides do: `prompts` of the target, one per condition, and of the oracle, one per layer.

    An oracle's prompt is (token ids, positions of its placeholders); activations are added to the output of `block`.
    """

    base: PreTrainedModel
    adapters: dict[str, Adapter]
    prompts: list[list[int]]
    questions: list[tuple[list[int], list[int]]]
    block: int = 1

    @property
    def layers(self) -> range:
        return range(len(self.questions))


@dataclass(frozen=True)
class Times:
    """Seconds of all readings: of the target's passes, and of the oracle's answers."""

    target: float
    oracle: float

    @property
    def total(self) -> float:
        return self.target + self.oracle


def suite_work(folder: Path = POCKET) -> Work:
    """A suite's own first diff, DIT adapter, questions and (else a random) oracle."""
    suite = load_suite(folder)
    model, info = suite.model, first_info(suite)
    task = suite.task(info.task)
    asked = {column.condition: column.question for column in columns(task)}
    texts = [
        build_prompt(suite, info, Condition.parse(written), asked[written], seed=0) for written, _, _ in CONDITIONS
    ]
    adapters = {"diff": suite.load_diff(info), "dit": suite.load_adapter(task.adapter)}
    own = suite.oracle or OracleInfo("", "random")
    adapters["oracle"] = read_peft(own.source) if own.source else random_adapter(model.base, ORACLE_RANK, seed=3)
    questions = [oracle_prompt(model, layer, POSITIONS, own.questions[0]) for layer in range(len(model.layers))]
    return Work(model.base, adapters, [model.encode(text) for text in texts], questions, own.block)


def random_work(shape: str, device: str = "cpu") -> Work:
    """Random weights and ids, as many of these as Qwen3 has tokens for the published prompts."""
    base = random_base(shape, device, torch.float32)
    ranks = {"diff": 1, "dit": 16, "oracle": ORACLE_RANK}
    adapters = {name: random_adapter(base, rank, seed=rank, size=1.0) for name, rank in ranks.items()}
    ids = torch.randint(base.config.vocab_size, (80,), generator=torch.Generator().manual_seed(1)).tolist()
    prompts = [ids[:32] if written == "diff+right" else ids[12:32] for written, _, _ in CONDITIONS]
    # The layer's number stands for what differs between the layers' prompts.
    places = list(range(9, 9 + POSITIONS))
    questions = [([layer, *ids[32:70]], places) for layer in range(base.config.num_hidden_layers)]
    return Work(base, adapters, prompts, questions)


class Reached(Exception):
    """The layer that is read has been reached: the rest of the pass is not needed."""


class Loop:
    """The published code's shape: one layer of one condition after another, each of a batch of one."""

    def __init__(self, work: Work):
        self.work, self.twin = work, Twin(work.base, work.adapters)
        self.blocks = self.twin.base.get_decoder().layers

    @torch.inference_mode()
    def run(self, layers: range | None = None) -> tuple[Times, Texts]:
        """Seconds of all readings, or of some layers', and their tokens."""
        target = oracle = 0.0
        texts: Texts = {}
        for layer in self.work.layers if layers is None else layers:
            for at, (_, strength, copies) in enumerate(CONDITIONS):
                start = now()
                with self.twin.acting({"diff": strength, "dit": copies}):
                    taken = self._taken(self.work.prompts[at], layer)
                with self.twin.acting({}):
                    self._taken(self.work.prompts[at], layer)
                between = now()
                with self.twin.acting({"oracle": 1.0}):
                    texts[layer, at] = self._answer(*self.work.questions[layer], taken)
                target += between - start
                oracle += now() - between
        return Times(target, oracle), texts

    def _taken(self, ids: list[int], layer: int) -> Tensor:
        """The layer's output at the last positions [positions, d_model], from a pass that ends there."""
        taken = []

        def take(module: Any, args: Any, output: Any) -> None:
            taken.append((output[0] if isinstance(output, tuple) else output)[0, -POSITIONS:])
            raise Reached

        with hooked(self.blocks[layer], take), suppress(Reached):
            self.twin.base(input_ids=torch.tensor([ids], device=self.twin.base.device), use_cache=False)
        return taken[0]

    def _answer(self, ids: list[int], places: list[int], vectors: Tensor) -> list[int]:
        """The oracle's tokens; activations are added while it reads its prompt."""

        def add(module: Any, args: Any, output: Any) -> Any:
            hidden = (output[0] if isinstance(output, tuple) else output).clone()
            there = hidden[0, places]
            units = vectors / vectors.norm(dim=-1, keepdim=True)
            hidden[0, places] = there + there.norm(dim=-1, keepdim=True) * units
            return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

        base, tokens = self.twin.base, []
        with hooked(self.blocks[self.work.block], add):
            out = base(input_ids=torch.tensor([ids], device=base.device), use_cache=True, logits_to_keep=1)
        while True:
            tokens.append(out.logits[:, -1:].argmax(-1))
            if len(tokens) == NEW_TOKENS:
                return torch.cat(tokens, dim=1)[0].tolist()
            out = base(input_ids=tokens[-1], past_key_values=out.past_key_values, use_cache=True, logits_to_keep=1)


class Batch:
    """The same readings from one pass of all conditions and one batch of the oracle."""

    def __init__(self, work: Work):
        self.work, self.model = work, Model(work.base)
        for slot, adapter in work.adapters.items():
            self.model.attach(slot, adapter)

    def run(self) -> tuple[Times, Texts]:
        """Seconds of all readings, and their tokens."""
        start, work = now(), self.work
        taken = self._taken()
        between = now()
        rows = [(layer, at) for layer in work.layers for at in range(len(CONDITIONS))]
        ids, places = zip(*(work.questions[layer] for layer, _ in rows), strict=True)
        vectors = [taken[at][layer] for layer, at in rows]
        acting = {"oracle": torch.ones(len(rows), 1, 1)}
        prefill = injecting(self.model, [len(row) for row in ids], places, vectors, work.block)
        texts: Texts = {row: [] for row in rows}
        for step in generate(self.model, ids, acting, NEW_TOKENS, stop_at_end=False, prefill=prefill):
            for row, token in zip(rows, step.tokens, strict=True):
                texts[row].append(token)
        return Times(between - start, now() - between), texts

    def _taken(self) -> list[Tensor]:
        strengths = {
            "diff": torch.tensor([strength for _, strength, _ in CONDITIONS])[:, None, None],
            "dit": torch.tensor([copies for _, _, copies in CONDITIONS])[:, None, None],
        }
        positions = [range(len(ids) - POSITIONS, len(ids)) for ids in self.work.prompts]
        return residuals(self.model, self.work.prompts, strengths, positions, self.work.layers)


@contextmanager
def hooked(module: torch.nn.Module, hook: Any) -> Iterator[None]:
    """Inside, a forward hook is on a module."""
    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def measure(shape: str, repeats: int, work: Work | None = None, wanted: float | None = None) -> str:
    """Measure one shape and return its lines of the report; `wanted`: how many times faster the batches have to be."""
    trained = is_trained(shape)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    work = work or (suite_work() if trained else random_work(shape, device))
    count = sum(p.numel() for p in work.base.parameters())
    loop, batch = Loop(work), Batch(work)
    # A first run does not count; of the loop one layer is enough of it.
    loop.run(work.layers[:1]), batch.run()
    measured = [(loop.run(), batch.run()) for _ in range(repeats)]
    theirs, ours = measured[0][0][1], measured[0][1][1]
    equal = sum(theirs[row] == ours[row] for row in theirs)
    different = len({tuple(text) for text in theirs.values()})

    weights = "the suite's own weights" if trained else "random weights"
    lines = [f"**{shape}** ({weights}, float32, {count / 1e6:.1f} M parameters, {len(work.layers)} layers)"]
    lines += ["", "| | loop, s | batch, s | faster |", "|---|---|---|---|"]
    for part in ("target", "oracle", "total"):
        slow, fast = (median(getattr(side[0], part) for side in sides) for sides in zip(*measured, strict=True))
        lines.append(f"| {part} | {slow:.3f} | {fast:.3f} | {slow / fast:.2f}× |")
    goal = f" Wanted: at least {wanted:g}× in total." if wanted else ""
    same = f"{equal} of {len(theirs)} readings equal on both sides, {different} of them different from each other."
    return "\n".join([*lines, "", same + goal])


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description="An oracle's readings as two batches against a loop over them.")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each side; the median counts (default 3)")
    parser.add_argument("--shape", nargs="+", type=named, choices=list(SHAPES), default=["pocket", "Qwen3-0.6B"])
    return parser.parse_args(arguments)


def main() -> None:
    options = parsed()
    print(
        f"{machine()}; {len(CONDITIONS)} conditions, last {POSITIONS} tokens, {NEW_TOKENS} new tokens, "
        f"median of {options.repeats}\n"
    )
    for shape in options.shape:
        print(measure(shape, options.repeats, wanted=WANTED.get(shape)), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
