"""Steering: what the base writes while a diff's mean activation difference is added to one of its layers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor

from dit_core.engine.activations import checked_layers
from dit_core.engine.answers import Answer
from dit_core.engine.batching import batch_size
from dit_core.engine.generation import generate, row_seed
from dit_core.engine.model import Model
from dit_core.engine.steering import adding
from dit_core.errors import DitError
from dit_core.methods.lens.difference import POSITIONS, DifferenceRequest, difference_request, mean_difference
from dit_core.methods.verbalize import Diffs
from dit_core.records import DiffInfo, SteeredText, Table
from dit_core.records.condition import MAX_NUMBER, checked_number, checked_text, checked_whole, several
from dit_core.suite import Suite
from dit_core.suite.offload import at_model

STRENGTHS = (0.0, 2.0, 4.0, 8.0, 16.0)
MAX_ROWS = 256  # of one batch, before memory has its say


@at_model
def steer(
    suite: Suite,
    diff: Diffs,
    *,
    layer: int | Sequence[int] | str,
    strengths: float | Sequence[float] = STRENGTHS,
    prompt: str | Sequence[str] | None = None,
    samples: int = 1,
    temperature: float = 0.0,
    max_new_tokens: int | None = None,
    seed: int = 0,
    texts: str | Sequence[str] | None = None,
    positions: int = POSITIONS,
) -> Table[SteeredText]:
    """What the base answers while `strengths` times a diff's mean difference is added at the output of a layer.

    At every position, of the prompt and of the answer. The vector is the mean over the first `positions` of `texts`
    of (base with diff - base), as in `difference_lens`, and not rescaled: strength 1 adds as much as the diff itself
    does there. One record per diff × layer × strength × prompt × sample, all of a diff's rows in one batch.

    Args:
        suite: what `load_suite` gave.
        diff: ids or references.
        layer: one layer, or several as `checked_layers` reads them.
        strengths: any real numbers; 0 is the base itself.
        prompt: user messages; by default the first everyday question of the diff's task, or its question.
        samples: answers per combination (1 by default); more than one needs a temperature above 0.
        temperature: 0 (the default) takes the likeliest token each time.
        max_new_tokens: of an answer; the suite's own number by default.
        seed: of the noise; 0 by default.
        texts: as in `difference_lens`.
        positions: as in `difference_lens`.

    Raises:
        DitError: what was asked makes no sense for this base, or a file is missing or damaged.
    """
    wanted = difference_request(suite, diff, texts=texts, positions=positions)
    amounts = [checked_number(s, "A strength to steer with", -MAX_NUMBER, MAX_NUMBER) for s in several(strengths)]
    prompts = None if prompt is None else [checked_text(text, "The prompt") for text in several(prompt)]
    samples = checked_whole(samples, "The number of samples", 1, 1000)
    temperature = checked_number(temperature, "The temperature", 0, 100)
    limit = suite.max_new_tokens if max_new_tokens is None else max_new_tokens
    limit = checked_whole(limit, "The number of new tokens", 1, 1000)
    if samples > 1 and temperature == 0:
        raise DitError("Several samples would all be the same at temperature 0: raise the temperature or ask for one.")
    if not amounts or prompts == []:
        raise DitError("There is nothing to write: give at least one strength and one prompt.")

    def found() -> tuple[SteeredText, ...]:
        rows = []
        for info in wanted.infos:
            task = suite.task_of(info)
            asked = prompts or [*task.questions, task.question][:1]
            rows += _rows(wanted, info, layer, product(dict.fromkeys(amounts), dict.fromkeys(asked), range(samples)))
        suite.limits.check(len(rows), limit)
        size = batch_size(suite.model, "steering", MAX_ROWS)
        written = size.over(rows, lambda part: _written(suite.model, part, limit, temperature, seed))
        return tuple(record for _, records in written for record in records)

    sampling = {"seed": seed, "temperature": temperature, "max_new_tokens": limit}
    return suite.table("steered", suite.worker.run(found), {"sampling": sampling, "settings": wanted.settings})


@dataclass(frozen=True)
class _Row:
    """One row of the batch: `vector` [d_model] is added at `layer`, `strength` times."""

    diff: str
    layer: int
    vector: Tensor
    strength: float
    prompt: str
    sample: int


def _rows(wanted: DifferenceRequest, info: DiffInfo, layers: Any, each: Iterator[tuple[float, str, int]]) -> list[_Row]:
    numbers = checked_layers(wanted.suite.model, layers)
    mean = mean_difference(wanted, info, numbers)
    return [_Row(info.id, layer, mean.at(layer), *one) for layer, one in product(numbers, each)]


def _written(model: Model, rows: Sequence[_Row], limit: int, temperature: float, seed: int) -> list[SteeredText]:
    """One batch of the base, written to its end."""
    answers = [Answer() for _ in rows]
    writing = dict(enumerate(answers))
    steps = generate(
        model,
        [model.encode(row.prompt) for row in rows],
        {},
        limit,
        temperature=temperature,
        seeds=[row_seed(seed, row.diff, row.layer, row.strength, row.prompt, row.sample) for row in rows],
        stop_at_end=False,  # rows that end stay in the batch, and so each beside its own vector
        owners=range(len(rows)),  # equal prompts too are read each beside its own vector
    )
    with adding(model, [row.layer for row in rows], torch.stack([row.strength * row.vector for row in rows])):
        for step in steps:
            for row, answer in list(writing.items()):
                if step.tokens[row] in model.end_tokens:
                    del writing[row]
                else:
                    answer.add(model.tokenizer, step.tokens[row], step.probabilities[row])
            if not writing:
                break
    return [
        SteeredText(row.diff, row.layer, row.strength, row.prompt, row.sample, answer.text)
        for row, answer in zip(rows, answers, strict=True)
    ]
