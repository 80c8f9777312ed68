"""How likely an oracle finds texts as its answer to what it reads, without generating."""

from collections.abc import Mapping, Sequence
from typing import Unpack

import torch

from dit_core.engine.batching import BatchSize, batch_size
from dit_core.engine.likelihood import choice_log_probabilities
from dit_core.errors import DitError, checked_text
from dit_core.methods.oracle.batch import OracleRow, injection, oracle_rows
from dit_core.methods.oracle.request import ReadOptions, Request, checked_request
from dit_core.methods.sampling import Diffs
from dit_core.records import DiffInfo, Lift, Table
from dit_core.records.condition import as_list
from dit_core.request.targets import depth_percent
from dit_core.suite import Suite
from dit_core.suite.offload import at_model

MAX_ROWS = 256  # of one batch of texts, before memory has its say
MAX_LIFT_TEXTS = 512  # of one batch of lifts
Key = tuple[str, str, int, str]
"""A diff's id, a condition, a layer and a text."""


@at_model
def log_probs(
    suite: Suite, diff: Diffs, texts: Mapping[tuple[str, int], Sequence[str]], **options: Unpack[ReadOptions]
) -> dict[Key, float]:
    """Return the log-probability, in nats, of whole texts as the oracle's answer.

    Args:
        suite: what `load_suite` gave.
        diff: ids or references.
        texts: by (diff's id, layer); what has none is not read, and an empty text has no probability.
        options: as of `read`, with one span and one question; samples do not count.

    Returns:
        One number per (diff, condition, layer, text).

    Raises:
        DitError: as `read` does.
    """
    request = checked_request(suite, diff, **options)

    def compute() -> dict[Key, float]:
        slot = suite.hold_oracle(request.oracle)
        rows = [
            (row, text, tokens)
            for row in _first_samples(request)
            for text in texts.get((row.diff, row.layer), ())
            if (tokens := suite.model.tokenizer.encode(text, add_special_tokens=False))
        ]
        batches = batch_size(suite.model, "likelihoods", MAX_ROWS).map(
            rows,
            lambda part: score_choices(request, slot, [row for row, *_ in part], [[tokens] for *_, tokens in part]),
        )
        return {
            (row.diff, str(row.aim.condition), row.layer, text): sum(own[0])
            for part, scores in batches
            for (row, text, _), own in zip(part, scores, strict=True)
        }

    return suite.worker.run(compute)


@at_model
def lifts(suite: Suite, diff: Diffs, others: Sequence[str], **options: Unpack[ReadOptions]) -> Table[Lift]:
    """Return how much likelier the oracle finds a diff's reference than other texts, in nats per token.

    It moves before any answer does.

    Args:
        suite: what `load_suite` gave.
        diff: ids or references of diffs whose reference is known.
        others: texts to compare with, such as other diffs' references; a diff's own does not count.
        options: as of `read`; samples do not count.

    Returns:
        One record per diff × condition × layer × span × question.

    Raises:
        DitError: as `read` does, and where a reference or other texts are missing.
    """
    request = checked_request(suite, diff, **options)
    others = list(dict.fromkeys(checked_text(text, "A text to compare with") for text in as_list(others)))
    if not all(info and info.reference and _texts(info, others)[1:] for info, _, _ in request.rows):
        raise DitError(
            "A lift compares a diff's reference with other texts: give a diff, and at least one text; of somebody's "
            "own diff the reference is not known."
        )

    def compute() -> tuple[Lift, ...]:
        slot = suite.hold_oracle(request.oracle)
        size = BatchSize(max(1, MAX_LIFT_TEXTS // (1 + len(others))))
        batches = size.map(_first_samples(request), lambda part: _means(request, slot, part, others))
        return tuple(
            _lift(request, row, reference, means)
            for part, scores in batches
            for row, (reference, *means) in zip(part, scores, strict=True)
        )

    return suite.table("lifts", suite.worker.run(compute))


def score_choices(
    request: Request, slot: str, rows: Sequence[OracleRow], choices: Sequence[Sequence[Sequence[int]]]
) -> list[list[list[float]]]:
    """Return, per row and choice (token ids), the log-probability of each of its tokens. Worker's thread only."""
    return choice_log_probabilities(
        request.suite.model,
        [row.ids for row in rows],
        choices,
        {slot: torch.ones(len(rows), 1, 1)},
        prefill=injection(request, rows),
    )


def _first_samples(request: Request) -> list[OracleRow]:
    """The rows without their repetitions: texts are as likely in each of them."""
    return [row for row in oracle_rows(request) if not row.sample]


def _means(request: Request, slot: str, rows: Sequence[OracleRow], others: Sequence[str]) -> list[list[float]]:
    """Per row, the mean log-probability of a token of its reference, and of each other text."""
    encode = request.suite.model.tokenizer.encode
    texts = [_texts(row.aim.info, others) for row in rows if row.aim.info]
    tokens = [[encode(text, add_special_tokens=False) for text in own] for own in texts]
    scores = score_choices(request, slot, rows, tokens)
    return [[sum(tokens) / len(tokens) for tokens in own] for own in scores]


def _texts(info: DiffInfo, others: Sequence[str]) -> list[str]:
    """The diff's reference, and the other texts that are not the same."""
    return [info.reference, *(text for text in others if text.casefold() != info.reference.casefold())]


def _lift(request: Request, row: OracleRow, reference: float, others: Sequence[float]) -> Lift:
    return Lift(
        diff=row.diff,
        condition=str(row.aim.condition),
        layer=row.layer,
        depth_percent=depth_percent(request.suite, row.layer),
        positions=row.positions,
        question=row.question,
        lift=reference - sum(others) / len(others),
    )
