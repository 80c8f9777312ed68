"""How likely an oracle finds texts as its answer to what it reads, without generating."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Unpack

import torch

from dit_core.engine.activations import checked_layers
from dit_core.engine.batching import BatchSize, batch_size
from dit_core.engine.likelihood import choice_log_probabilities
from dit_core.errors import DitError
from dit_core.methods.oracle.batch import Row, injection, rows_of
from dit_core.methods.oracle.request import ReadOptions, Request, checked_request
from dit_core.methods.verbalize import Diffs
from dit_core.records import DiffInfo, Lift, Table
from dit_core.records.condition import checked_text, several
from dit_core.request.targets import depth_percent
from dit_core.suite import Suite
from dit_core.suite.offload import at_model

MAX_ROWS = 256  # of one batch of texts, before memory has its say
MAX_LIFT_ROWS = 512  # texts of one batch of lifts
Key = tuple[str, str, int, str]


@at_model
def log_probs(
    suite: Suite, diff: Diffs, texts: Mapping[tuple[str, int], Sequence[str]], **options: Unpack[ReadOptions]
) -> dict[Key, float]:
    """Log-probability in nats of a whole text as the oracle's answer, by (diff, condition, layer, text).

    `texts` are by (diff's id, layer); what has none is not read, and an empty text has no probability. Options are as
    in `read`, with one span and one question.
    """
    wanted = replace(checked_request(suite, diff, **options), samples=1)

    def found() -> dict[Key, float]:
        slot = suite.hold_oracle(wanted.oracle)
        rows = [
            (row, text, tokens)
            for row in rows_of(wanted, checked_layers(suite.model, wanted.layers))
            for text in texts.get((row.aim.info.id, row.layer), ())
            if (tokens := suite.model.tokenizer.encode(text, add_special_tokens=False))
        ]
        size = batch_size(suite.model, "likelihoods", MAX_ROWS)
        done = size.over(rows, lambda part: scored(wanted, slot, [row for row, *_ in part], [[one[2]] for one in part]))
        return {
            (row.aim.info.id, str(row.aim.condition), row.layer, text): sum(own[0])
            for part, scores in done
            for (row, text, _), own in zip(part, scores, strict=True)
        }

    return suite.worker.run(found)


@at_model
def lifts(suite: Suite, diff: Diffs, others: Sequence[str], **options: Unpack[ReadOptions]) -> Table[Lift]:
    """How much likelier the oracle finds a diff's reference than `others`, per token; options as in `read`.

    It moves before any answer does. One record per diff × condition × layer × span × question. A diff's own reference
    among the others does not count there.
    """
    wanted = replace(checked_request(suite, diff, **options), samples=1)
    others = list(dict.fromkeys(checked_text(text, "A text to compare with") for text in several(others)))
    if not all(info and info.reference and _texts(info, others)[1:] for info, _, _ in wanted.rows):
        raise DitError(
            "A lift compares a diff's reference with other texts: give a diff, and at least one text; of somebody's "
            "own diff the reference is not known."
        )

    def found() -> tuple[Lift, ...]:
        slot = suite.hold_oracle(wanted.oracle)
        rows = rows_of(wanted, checked_layers(suite.model, wanted.layers))
        size = BatchSize(max(1, MAX_LIFT_ROWS // (1 + len(others))))
        batches = size.over(rows, lambda part: _means(wanted, slot, part, others))
        return tuple(_lift(wanted, row, *means) for part, own in batches for row, means in zip(part, own, strict=True))

    return suite.table("lifts", suite.worker.run(found))


def _means(wanted: Request, slot: str, rows: Sequence[Row], others: Sequence[str]) -> list[list[float]]:
    """Per row, the mean log-probability of a token of its reference, and of each other text."""
    model = wanted.suite.model
    texts = [_texts(row.aim.info, others) for row in rows]
    tokens = [[model.tokenizer.encode(text, add_special_tokens=False) for text in own] for own in texts]
    scores = scored(wanted, slot, rows, tokens)
    return [[sum(tokens) / len(tokens) for tokens in own] for own in scores]


def _texts(info: DiffInfo, others: Sequence[str]) -> list[str]:
    """The diff's reference, and the other texts that are not the same."""
    return [info.reference, *(text for text in others if text.casefold() != info.reference.casefold())]


def _lift(wanted: Request, row: Row, reference: float, *others: float) -> Lift:
    return Lift(
        diff=row.aim.info.id,
        condition=str(row.aim.condition),
        layer=row.layer,
        depth_percent=depth_percent(wanted.suite, row.layer),
        positions=row.positions,
        question=row.question,
        lift=reference - sum(others) / len(others),
    )


def scored(
    wanted: Request, slot: str, rows: Sequence[Row], choices: Sequence[Sequence[Sequence[int]]]
) -> list[list[list[float]]]:
    """Per row and choice (token ids), the log-probability of each of its tokens. Worker's thread only."""
    return choice_log_probabilities(
        wanted.suite.model,
        [row.ids for row in rows],
        choices,
        {slot: torch.ones(len(rows), 1, 1)},
        prefill=injection(wanted, rows),
    )
