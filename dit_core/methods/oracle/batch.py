"""The oracle's rows: activations of the targets, each put into a prompt of its own."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from dit_core.engine.activations import checked_layers, injecting
from dit_core.errors import DitError
from dit_core.methods.oracle.request import Request, oracle_prompt
from dit_core.request.targets import Aim, activations, aims


@dataclass(frozen=True)
class Row:
    """One row of the oracle's batch: `vectors` [positions, d_model] of a layer, put into a prompt."""

    aim: Aim
    layer: int
    positions: tuple[int, ...]
    question: str
    sample: int
    vectors: Tensor
    ids: list[int]
    places: list[int]


def rows_of(wanted: Request, layers: list[int]) -> list[Row]:
    """The readings to make, layer by layer; all layers of all targets come from one pass."""
    suite, model = wanted.suite, wanted.suite.model
    _check_block(wanted)
    found = aims(suite, wanted.rows, wanted.seed, wanted.answer_tokens)
    spans = [_thinned(wanted.span.of(aim.prompt_tokens, aim.answer_tokens), wanted.placeholders) for aim in found]
    positions = [sorted({place for span in own for place in span}) for own in spans]
    taken = activations(suite, found, positions, layers, wanted.kind)
    prompts = cache(lambda layer, count, question: oracle_prompt(model, layer, count, question))
    rows = []
    for at, layer in enumerate(layers):
        for aim, own, places, hidden in zip(found, spans, positions, taken, strict=True):
            column = {place: index for index, place in enumerate(places)}
            for span in own:
                vectors = hidden[at, [column[place] for place in span]]
                _check_difference(wanted, aim, layer, vectors)
                for question in wanted.questions:
                    ids, run = prompts(layer, len(span), question)
                    rows += [
                        Row(aim, layer, span, question, sample, vectors, ids, run) for sample in range(wanted.samples)
                    ]
    return rows


def _check_block(wanted: Request) -> None:
    model = wanted.suite.model
    if checked_layers(model, wanted.block) == [len(model.layers) - 1]:
        raise DitError(
            f"What is injected at block {wanted.block} reaches no answer, for it is the base's last: choose an earlier "
            "one."
        )


def _check_difference(wanted: Request, aim: Aim, layer: int, vectors: Tensor) -> None:
    # Before anything is generated, so that a request is refused whole or not at all.
    if wanted.kind == "difference" and not vectors.any(-1).all():
        raise DitError(
            f"There is no difference to read under '{aim.condition}' at layer {layer}, where nothing has changed yet: "
            "choose later layers or positions, or another kind."
        )


def _thinned(spans: list[tuple[int, ...]], count: int | None) -> list[tuple[int, ...]]:
    """The spans as they are, or `count` positions of each, evenly spaced from its first to its last."""
    if count is None:
        return spans
    return [tuple(span[round(at)] for at in torch.linspace(0, len(span) - 1, count).tolist()) for span in spans]


def injection(wanted: Request, rows: Sequence[Row]) -> AbstractContextManager:
    """What to open while the rows' prompts are read."""
    lengths, places, vectors = zip(*((len(row.ids), row.places, row.vectors) for row in rows), strict=True)
    return injecting(wanted.suite.model, lengths, places, vectors, wanted.block, wanted.coefficient)
