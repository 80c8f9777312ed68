"""Steering: what a model writes while a diff's mean activation difference is added to one of its layers."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor

from dit_core.engine.activations import parse_layers
from dit_core.engine.batching import batch_size
from dit_core.engine.generation import generate, row_seed
from dit_core.engine.likelihood import AnswerTokens
from dit_core.errors import DitError, checked_number, checked_text
from dit_core.methods.lens.difference import POSITIONS, DifferenceRequest, difference_request, mean_difference
from dit_core.methods.sampling import Diffs, Layers, Sampling, checked_sampling
from dit_core.records import DiffInfo, SteeredText, Table
from dit_core.records.condition import MAX_NUMBER, Condition, as_list
from dit_core.request.conditions import row_strengths
from dit_core.suite import Suite
from dit_core.suite.limits import current_limits
from dit_core.suite.offload import at_model

STRENGTHS = (0.0, 2.0, 4.0, 8.0, 16.0)
_SLOT = "steering"
MAX_ROWS = 256  # of one batch, before memory has its say


@at_model
def steer(
    suite: Suite,
    diff: Diffs,
    *,
    layer: Layers | None = None,
    strengths: float | Sequence[float] = STRENGTHS,
    prompt: str | Sequence[str] | None = None,
    samples: int = 1,
    temperature: float = 0.0,
    max_new_tokens: int | None = None,
    seed: int = 0,
    texts: str | Sequence[str] | None = None,
    positions: int = POSITIONS,
) -> Table[SteeredText]:
    """Write with the base while `strengths` times a diff's mean difference is added at the output of a layer.

    At every position, of the prompt and of the answer. The vector [d_model] is the mean over the first `positions` of
    `texts` of (base with diff - base), as in `difference_lens` (arXiv 2510.13900), and not rescaled: strength 1 adds as
    much as the diff itself does there. All of a diff's rows are one batch.

    Args:
        suite: what `load_suite` gave.
        diff: ids or references.
        layer: one layer, or several: numbers, or text like `0,3-5` or `all`; by default the one in the middle.
        strengths: any real numbers; 0 is the base itself.
        prompt: user messages; by default the first everyday question of the diff's task, or its question.
        samples: answers per combination (1 by default); more than one needs a temperature above 0.
        temperature: 0 (the default) takes the likeliest token each time.
        max_new_tokens: of an answer; the suite's own number by default.
        seed: of the noise; 0 by default.
        texts: as in `difference_lens`.
        positions: as in `difference_lens`.

    Returns:
        One record per diff × layer × strength × prompt × sample.

    Raises:
        DitError: what was asked makes no sense for this base, or a file is missing or damaged.
    """
    request = difference_request(suite, diff, texts=texts, positions=positions)
    amounts = [checked_number(s, "A strength to steer with", -MAX_NUMBER, MAX_NUMBER) for s in as_list(strengths)]
    prompts = None if prompt is None else [checked_text(text, "The prompt") for text in as_list(prompt)]
    sampling = checked_sampling(
        suite, samples=samples, temperature=temperature, max_new_tokens=max_new_tokens, seed=seed
    )
    if not amounts or prompts == []:
        raise DitError("There is nothing to write: give at least one strength and one prompt.")

    def compute() -> tuple[SteeredText, ...]:
        rows = []
        for info in request.infos:
            task = suite.task_of(info)
            messages = prompts or [*task.questions, task.question][:1]
            combinations = product(dict.fromkeys(amounts), dict.fromkeys(messages), range(sampling.samples))
            rows += _rows(request, info, layer, combinations)
        current_limits().check(len(rows), sampling.max_new_tokens)
        return tuple(SteeredText(*(*row.key, text)) for row, text in steered_texts(suite, rows, sampling))

    extra = {name: getattr(sampling, name) for name in ("seed", "temperature", "max_new_tokens")}
    return suite.table("steered", suite.worker.run(compute), {"sampling": extra, "settings": request.settings})


@dataclass(frozen=True)
class SteeredRow:
    """One row of a batch, which `prompt` is asked while `strength` times `vector` [d_model] is added at `layer`.

    Attributes:
        key: what tells the row from all others; with the request's seed it makes the row's own noise.
        info: the diff whose model is steered; None for the base.
    """

    key: tuple[Any, ...]
    prompt: str
    layer: int
    vector: Tensor
    strength: float
    info: DiffInfo | None = None


def _rows(
    request: DifferenceRequest, info: DiffInfo, layers: Layers | None, combinations: Iterable[tuple[float, str, int]]
) -> list[SteeredRow]:
    model = request.suite.model
    numbers = parse_layers(model, len(model.layers) // 2 if layers is None else layers)
    mean = mean_difference(request, info, numbers)
    vectors = {layer: mean.at(layer) for layer in numbers}
    return [
        SteeredRow((info.id, layer, strength, prompt, sample), prompt, layer, vectors[layer], strength)
        for layer, (strength, prompt, sample) in product(numbers, combinations)
    ]


def steered_texts(suite: Suite, rows: Sequence[SteeredRow], sampling: Sampling) -> Iterator[tuple[SteeredRow, str]]:
    """Yield each row with what its model writes, batch by batch. Worker's thread only."""
    size = batch_size(suite.model, "steering", MAX_ROWS)
    for part, texts in size.map(rows, lambda part: _written(suite, part, sampling)):
        yield from zip(part, texts, strict=True)


def _written(suite: Suite, rows: Sequence[SteeredRow], sampling: Sampling) -> list[str]:
    """One batch, written to its end."""
    model, answers = suite.model, [AnswerTokens() for _ in rows]
    places = {(row.layer, id(row.vector)): row.vector for row in rows}
    amounts = torch.zeros(len(rows), 1, len(places))
    for index, row in enumerate(rows):
        amounts[index, 0, list(places).index((row.layer, id(row.vector)))] = row.strength
    acting = row_strengths(suite, [(row.info, Condition(1.0 if row.info else 0.0)) for row in rows])
    model.attach_vectors(_SLOT, [{layer: vector} for (layer, _), vector in places.items()])
    steps = generate(
        model,
        [model.encode(row.prompt) for row in rows],
        acting | {_SLOT: amounts},
        sampling.max_new_tokens,
        temperature=sampling.temperature,
        seeds=[row_seed(sampling.seed, *row.key) for row in rows],
    )
    try:
        for step in steps:
            for answer, token, probability, alive in zip(
                answers, step.tokens, step.probabilities, step.alive, strict=True
            ):
                if alive:
                    answer.append(model.tokenizer, token, probability)
    finally:
        model.detach(_SLOT)  # a visitor's diff must leave nothing behind
    return [answer.text for answer in answers]
