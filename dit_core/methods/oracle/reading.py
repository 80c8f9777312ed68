"""Readings: what the oracle says of every layer, all rows in as few batches as memory allows."""

from collections.abc import Generator, Mapping, Sequence
from typing import Unpack, cast

import torch
from torch import Tensor

from dit_core.engine.batching import batch_size
from dit_core.engine.generation import Batch, generate, row_seed
from dit_core.engine.likelihood import AnswerTokens, continuation_log_probabilities
from dit_core.engine.model import Model
from dit_core.errors import checked_integer
from dit_core.grading import grade
from dit_core.methods.oracle.batch import OracleRow, injection, oracle_rows
from dit_core.methods.oracle.request import ReadOptions, Request, TargetOptions, checked_request, checked_targets
from dit_core.methods.sampling import Diffs
from dit_core.records import Reading, Table, Target
from dit_core.request.targets import depth_percent, tokenize_targets
from dit_core.suite import Suite
from dit_core.suite.limits import current_limits
from dit_core.suite.offload import at_model, streamed_at_model

MAX_ROWS = 512  # of one batch of readings, before memory has its say


def read(suite: Suite, diff: Diffs = None, **options: Unpack[ReadOptions]) -> Table[Reading]:
    """Read conditions of diffs through an activation oracle (arXiv 2512.15674).

    Args:
        suite: what `load_suite` gave.
        diff: ids or references; none reads the base (and DIT adapters) alone.
        condition: conditions in their written form, or `Condition`s; by default `diff`, or `base` without a diff. One
            that is asked a question of its own is a pair, `("diff+right", "Why?")`.
        asked: what the targets are asked, one text or texts by diff id; by default the question of the diff's task.
        question: what the oracle is asked, one text or several; by default the oracle's first preset.
        layers: `all` (the default), numbers, or text like `0,3-5` or `25%,50%`.
        span: the tokens to read, as `Span` writes them; `last:10` by default.
        kind: `with` the condition (the default), `without` it, or their `difference`.
        samples: answers per reading; more than one needs a temperature above 0.
        temperature: 0 (the default) takes the likeliest token each time.
        max_new_tokens: of the oracle's answer; 10 by default.
        answer_tokens: of the target's answer, where the span reads it; the suite's own number by default. Given a
            number, spans like `30` and `30:34` can reach into the answer too.
        seed: of the noise and of the digits around triggers; 0 by default.
        oracle: a PEFT LoRA for this base, by folder or hub id; the suite's own by default.
        block: the decoder block at whose output activations are injected; the oracle's own by default (published: 1).
        coefficient: how strongly: this times the norm of what is there; 1 by default, as published.
        placeholders: of the prompt; one per position by default. Another number reads positions evenly spaced.

    Returns:
        One record per diff × condition × layer × span × question × sample, layer by layer. The table's `extra` holds
        `n_layers` of the base and, where they are known, the oracle's `trained_layers`.

    Raises:
        DitError: what was asked makes no sense for this base and oracle, or a file is missing or damaged.
    """
    *_, table = stream(suite, diff, **options)
    return table


@streamed_at_model
def stream(
    suite: Suite, diff: Diffs = None, at_once: int | None = None, **options: Unpack[ReadOptions]
) -> Generator[Table[Reading], None, None]:
    """Read conditions, as `read` does, and yield the table so far after every batch of readings, layer by layer.

    `at_once` makes batches of at most so many readings. Closing the iterator stops the work at the next batch.
    """
    request = checked_request(suite, diff, **options)
    at_once = None if at_once is None else checked_integer(at_once, "The number of readings at once", 1, 100_000)
    return suite.worker.stream(lambda: reading_tables(request, oracle_rows(request), at_once))


@at_model
def targets(suite: Suite, diff: Diffs = None, **options: Unpack[ReadOptions]) -> Table[Target]:
    """Return the tokens that `read` would read with the same arguments, one record per condition: to choose a span by.

    It needs no oracle, and leaves aside the arguments that are about one. Raises DitError as `read` does.
    """
    own = {name: value for name, value in options.items() if name in TargetOptions.__annotations__}
    request = checked_targets(suite, diff, **cast(TargetOptions, own))

    def tokens() -> tuple[Target, ...]:
        return tuple(
            aim.record(suite) for aim in tokenize_targets(suite, request.rows, request.seed, request.answer_tokens)
        )

    return suite.table("targets", suite.worker.run(tokens))


def reading_tables(
    request: Request, rows: Sequence[OracleRow], at_once: int | None
) -> Generator[Table[Reading], None, None]:
    """Yield the table so far after every batch of the oracle, of at most `at_once` rows. Worker's thread only."""
    suite, model = request.suite, request.suite.model
    slot = suite.hold_oracle(request.oracle)
    current_limits().check(len(rows), request.sampling.max_new_tokens)
    extra = {
        "oracle": request.info.title,
        "n_layers": len(model.layers),
        "n_readings": len(rows),
        "sampling": {name: getattr(request.sampling, name) for name in ("temperature", "max_new_tokens")},
        "settings": {
            "span": str(request.span),
            "answer_tokens": request.answer_tokens,
            "block": request.block,
            "coefficient": request.coefficient,
            "placeholders": request.placeholders,
        },
    }
    if request.info.percents:
        extra["trained_layers"] = trained_layers(request.info.percents, len(model.layers))
    if revisions := suite.revisions | suite.oracle_revisions(request.oracle):
        extra["revisions"] = revisions
    done: list[Reading] = []
    size = batch_size(model, "readings", MAX_ROWS)
    for _, readings in size.map(rows, lambda part: _readings(request, slot, part), at_once):
        done += readings
        yield suite.table("readings", tuple(done), extra)


def trained_layers(percents: Sequence[float], depth: int) -> list[int]:
    """Return the layers that an oracle was trained on, from its depths in percent: `int(depth * percent / 100)`."""
    # A little more, for percents were rounded: 33.33 % of 3 layers is layer 1.
    return sorted({max(0, min(int(depth * percent / 100 + 0.01), depth - 1)) for percent in percents})


def _readings(request: Request, slot: str, rows: Sequence[OracleRow]) -> list[Reading]:
    """One batch of the oracle: answers and, behind the same prompts, how likely it finds the references."""
    model = request.suite.model
    # The samples of one reading share its prompt, which is read once for all of them.
    prompts = list({_reading_key(row): row for row in rows}.values())
    owners = {_reading_key(row): index for index, row in enumerate(prompts)}
    acting = {slot: torch.ones(len(prompts), 1, 1)}
    answers, references = [AnswerTokens() for _ in rows], _References(model, acting, prompts)
    steps = generate(
        model,
        [row.ids for row in prompts],
        acting,
        request.sampling.max_new_tokens,
        temperature=request.sampling.temperature,
        seeds=[_seed(request, row) for row in rows],
        prefill=injection(request, prompts),
        after_prefill=references.score,
        owners=[owners[_reading_key(row)] for row in rows],
    )
    for step in steps:
        for answer, token, probability, alive in zip(answers, step.tokens, step.probabilities, step.alive, strict=True):
            if alive:
                answer.append(model.tokenizer, token, probability)
    return [_reading(request, row, answer, references.log_prob(row)) for row, answer in zip(rows, answers, strict=True)]


class _References:
    """How likely the oracle finds the diffs' references behind the prompts of one batch."""

    def __init__(self, model: Model, acting: Mapping[str, Tensor], rows: Sequence[OracleRow]) -> None:
        self._model, self._acting, self._rows = model, acting, rows
        self._log_probs: dict[tuple[int, str], float] = {}

    def score(self, batch: Batch, logits: Tensor) -> None:
        """Score the references behind a batch whose prompts have been read; leave it and its `logits` as they are."""
        encode = self._model.tokenizer.encode
        references = [row.aim.info.reference if row.aim.info else "" for row in self._rows]
        choices = [[encode(text, add_special_tokens=False)] if text else [] for text in references]
        if any(choices):
            room = max(len(own[0]) for own in choices if own)
            scores = continuation_log_probabilities(
                batch.copy(room), logits, choices, self._model.strengths(self._acting)
            )
            self._log_probs = {
                _reading_key(row): sum(own[0]) for row, own in zip(self._rows, scores, strict=True) if own
            }

    def log_prob(self, row: OracleRow) -> float | None:
        """Of a row's reference, in nats; None where it has none."""
        return self._log_probs.get(_reading_key(row))


def _reading_key(row: OracleRow) -> tuple[int, str]:
    """What the samples of one reading have in common, and nothing else has."""
    return id(row.vectors), row.question


def _seed(request: Request, row: OracleRow) -> int:
    """Of the row's own noise: it depends on what is read and asked, never on what else is in the batch."""
    where = (str(row.aim.condition), row.aim.asked, row.layer, row.positions, request.kind)
    return row_seed(request.sampling.seed, row.diff, *where, row.question, row.sample)


def _reading(request: Request, row: OracleRow, answer: AnswerTokens, log_prob: float | None) -> Reading:
    info = row.aim.info
    return Reading(
        diff=row.diff,
        condition=str(row.aim.condition),
        asked=row.aim.asked,
        layer=row.layer,
        depth_percent=depth_percent(request.suite, row.layer),
        positions=row.positions,
        kind=request.kind,
        question=row.question,
        sample=row.sample,
        seed=request.sampling.seed,
        text=answer.text,
        tokens=answer.stripped(),
        token_probabilities=tuple(answer.probabilities),
        confidence=answer.confidence,
        grade=grade(request.suite, info, answer.text) if info else None,
        log_prob_reference=log_prob,
    )
