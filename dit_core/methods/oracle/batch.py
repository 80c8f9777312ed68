"""The oracle's rows: activations of the targets, each put into a prompt of its own."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from dit_core.engine.activations import injecting, parse_layers
from dit_core.errors import DitError
from dit_core.methods.oracle.request import Request, oracle_prompt
from dit_core.request.targets import TargetTokens, target_activations, tokenize_targets


@dataclass(frozen=True)
class OracleRow:
    """One row of the oracle's batch: `vectors` [positions, d_model] of a layer, put into prompt `ids` at `places`."""

    aim: TargetTokens
    layer: int
    positions: tuple[int, ...]
    question: str
    sample: int
    vectors: Tensor
    ids: list[int]
    places: list[int]

    @property
    def diff(self) -> str:
        """The id of the diff that is read; "" for none."""
        return self.aim.info.id if self.aim.info else ""


@dataclass(frozen=True)
class SpansOfTarget:
    """A target and the spans of it that are read, as positions."""

    target: TargetTokens
    spans: list[tuple[int, ...]]

    @property
    def last(self) -> int:
        """The position of the prompt's last token, where the answer begins."""
        return self.target.prompt_tokens - 1

    @property
    def positions(self) -> list[int]:
        """The positions of all spans and the prompt's last one, each once, in order."""
        return sorted({self.last, *(place for span in self.spans for place in span)})


def read_spans(request: Request) -> list[SpansOfTarget]:
    """Return the spans that a request reads of each of its targets, which answer first where a span needs that."""
    _check_block(request)
    return [
        SpansOfTarget(aim, _thinned(request.span.positions(aim.prompt_tokens, aim.answer_tokens), request.placeholders))
        for aim in tokenize_targets(request.suite, request.rows, request.seed, request.answer_tokens)
    ]


def oracle_rows(request: Request) -> list[OracleRow]:
    """Make the rows of all readings, layer by layer; all layers of all targets come from one pass."""
    layers, read = parse_layers(request.suite.model, request.layers), read_spans(request)
    targets, positions = [own.target for own in read], [own.positions for own in read]
    return rows_of(request, layers, read, target_activations(request.suite, targets, positions, layers, request.kind))


def rows_of(
    request: Request, layers: Sequence[int], read: Sequence[SpansOfTarget], hidden: Sequence[Tensor]
) -> list[OracleRow]:
    """Make the rows of all readings, layer by layer; `hidden` is [layers, positions, d_model] for each target."""
    prompts = cache(lambda layer, count, question: oracle_prompt(request.suite.model, layer, count, question))
    rows = []
    for index, layer in enumerate(layers):
        for own, own_hidden in zip(read, hidden, strict=True):
            column = {place: at for at, place in enumerate(own.positions)}
            for span in own.spans:
                vectors = own_hidden[index, [column[place] for place in span]]
                _check_difference(request, own.target, layer, vectors)
                for question in request.questions:
                    ids, run = prompts(layer, len(span), question)
                    rows += [
                        OracleRow(own.target, layer, span, question, sample, vectors, ids, run)
                        for sample in range(request.sampling.samples)
                    ]
    return rows


def _check_block(request: Request) -> None:
    model = request.suite.model
    try:
        if parse_layers(model, request.block) != [len(model.layers) - 1]:
            return
        error = DitError(
            f"What is injected at block {request.block} reaches no answer, for it is the base's last: choose an "
            "earlier one."
        )
    except DitError as unknown:
        error = unknown
    request.suite.hold_oracle(request.oracle)  # one for another base is refused as such, not for its block
    raise error


def _check_difference(request: Request, aim: TargetTokens, layer: int, vectors: Tensor) -> None:
    # Before anything is generated, so that a request is refused whole or not at all.
    if request.kind == "difference" and not vectors.any(-1).all():
        raise DitError(
            f"There is no difference to read under '{aim.condition}' at layer {layer}, where nothing has changed yet: "
            "choose later layers or positions, or another kind."
        )


def _thinned(spans: list[tuple[int, ...]], count: int | None) -> list[tuple[int, ...]]:
    """The spans as they are, or `count` positions of each, evenly spaced from its first to its last."""
    if count is None:
        return spans
    return [tuple(span[round(at)] for at in torch.linspace(0, len(span) - 1, count).tolist()) for span in spans]


def injection(request: Request, rows: Sequence[OracleRow]) -> AbstractContextManager[None]:
    """Return the context manager that injects the rows' activations: to open while their prompts are read."""
    lengths, places, vectors = zip(*((len(row.ids), row.places, row.vectors) for row in rows), strict=True)
    return injecting(request.suite.model, lengths, places, vectors, request.block, request.coefficient)
