"""Asking: conditions in, a table of verbalizations out. Everything of a request is rows of one batch.

`ask` waits for the answers, `stream` gives them token by token. An answer depends on its diff, condition, question,
sample and seed alone, and never on what else is in the batch. Diff + DIT is Diff Interpretation Tuning, arXiv
2510.05092.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Unpack

from dit_core.engine.batching import MAX_DIFFS, batch_size, split_batches
from dit_core.engine.generation import generate, row_seed
from dit_core.engine.likelihood import AnswerTokens
from dit_core.errors import DitError
from dit_core.methods import Conditions, Diffs, Sampling, SamplingOptions, checked_sampling, named_diffs
from dit_core.records import DiffInfo, Table, Verbalization
from dit_core.records.condition import Condition, as_list, checked_text, grid, parse_conditions
from dit_core.request.conditions import adapter_names, fetch_adapters, row_strengths
from dit_core.request.prompts import build_prompt
from dit_core.suite import Suite
from dit_core.suite.limits import current_limits
from dit_core.suite.offload import at_model, streamed_at_model

MAX_ROWS = 512  # of one batch; a larger request is answered in several


class AskOptions(SamplingOptions, total=False):
    """Options of `ask` and `stream` besides the suite and the diff; the docstring of `ask` says what each means."""

    condition: Conditions
    strength: float | Sequence[float] | None
    copies: float | Sequence[float] | None
    trigger: str | Sequence[str] | None
    adapter: str | Sequence[str] | None
    question: str | Sequence[str] | None


@at_model
def ask(suite: Suite, diff: Diffs = None, **options: Unpack[AskOptions]) -> Table[Verbalization]:
    """Ask diffs under conditions.

    Args:
        suite: what `load_suite` gave.
        diff: ids or references; None asks the base (and DIT adapters) alone.
        condition: conditions in their written form, or `Condition`s; or say them by the next four instead.
        strength: of the diff, any real number; 1 by default where there is a diff.
        copies: of the DIT adapter, real numbers of 0 or more; 0 by default.
        trigger: `absent` (the default), `right`, `wrong`, or `own:` and a text.
        adapter: names of DIT adapters; by default that of the diff's task.
        question: texts of at most 2,000 characters; by default the question of the diff's task.
        samples: answers per combination (1 by default); more than one needs a temperature above 0.
        temperature: 0 (the default) takes the likeliest token each time.
        top_p: samples among the likeliest tokens that together have this probability, in (0, 1]; 1 by default.
        max_new_tokens: of an answer; the suite's own number by default.
        seed: of the noise and of the digits around triggers; 0 by default.

    Returns:
        One verbalization per diff × condition × question × sample, in that order.

    Raises:
        DitError: what was asked makes no sense, or a file of the suite is missing or damaged.
    """
    request = _checked_request(suite, diff, **options)
    return suite.worker.run(lambda: _last(_answers(request, partial=False)))


@streamed_at_model
def stream(
    suite: Suite, diff: Diffs = None, **options: Unpack[AskOptions]
) -> Generator[Table[Verbalization], None, None]:
    """Ask diffs under conditions, as `ask` does, and yield the whole table after every token of the answers.

    Rows not yet begun have empty texts. While there are any that may still grow, `extra["unfinished"]` holds their
    places. The request is checked at once, before the first table is taken. Closing the iterator stops the work and
    leaves the model as it was; a slow reader holds nobody up.
    """
    request = _checked_request(suite, diff, **options)
    return suite.worker.stream(lambda: _answers(request, partial=True))


@streamed_at_model
def stream_together(
    suite: Suite,
    diff: Diffs,
    conditions: Mapping[str, Sequence[Condition]],
    partial: bool = True,
    **options: Unpack[SamplingOptions],
) -> Generator[Table[Verbalization], None, None]:
    """Ask every question under conditions of its own, the rows of all questions in shared batches.

    `conditions` are by question. Yields tables as `stream` does; without `partial` only the last one.
    """
    requests = [
        _checked_request(suite, diff, condition=own, question=question, **options)
        for question, own in conditions.items()
    ]
    together = replace(requests[0], rows=tuple(row for request in requests for row in request.rows))
    current_limits().check(len(together.rows), together.sampling.max_new_tokens)
    return suite.worker.stream(lambda: _answers(together, partial))


# ---------------------------------------------------------------- what is asked


@dataclass(frozen=True)
class _Row:
    """One row of the batch. `text` is the user's message, `seed` that of the row's own noise."""

    info: DiffInfo | None
    condition: Condition
    question: str
    sample: int
    text: str
    seed: int


@dataclass(frozen=True)
class _Request:
    """A checked request: nothing in it can fail any more but files and the machine."""

    suite: Suite
    rows: tuple[_Row, ...]
    sampling: Sampling


def _checked_request(
    suite: Suite,
    diff: Diffs,
    *,
    condition: Conditions = None,
    strength: Any = None,
    copies: Any = None,
    trigger: Any = None,
    adapter: Any = None,
    question: Any = None,
    **sampling: Unpack[SamplingOptions],
) -> _Request:
    """Everything that can be wrong with a request is found here, and its files fetched, before the model is touched."""
    infos = [None] if diff is None else named_diffs(suite, diff)
    parts = {"strength": strength, "copies": copies, "trigger": trigger, "adapter": adapter}
    parts = {name: value for name, value in parts.items() if value is not None}
    conditions = _conditions(condition, parts, default_strength=0.0 if diff is None else 1.0)
    given = [None] if question is None else [checked_text(text, "The question") for text in as_list(question)]
    questions = list[str | None](dict.fromkeys(given))
    drawn = checked_sampling(suite, **sampling)
    if not (infos and conditions and questions):
        raise DitError("Nothing was asked: give at least one diff, condition and question, or leave them out.")
    current_limits().check(len(infos) * len(conditions) * len(questions) * drawn.samples, drawn.max_new_tokens)
    rows = [
        _row(suite, *combination, drawn.seed)
        for combination in product(infos, conditions, questions, range(drawn.samples))
    ]
    fetch_adapters(suite, product(infos, conditions))
    return _Request(suite, tuple(rows), drawn)


def _row(
    suite: Suite, info: DiffInfo | None, condition: Condition, question: str | None, sample: int, seed: int
) -> _Row:
    if condition.strength and info is None:
        raise DitError(f"The condition '{condition}' needs a diff: choose one, or leave 'diff' out of the condition.")
    adapter_names(suite, info, condition)  # raises where there is no such adapter
    asked = question or suite.task(info.task if info else None).question
    noise = row_seed(seed, info.id if info else "", str(condition), asked, sample)
    return _Row(info, condition, asked, sample, build_prompt(suite, info, condition, asked, seed), noise)


def _conditions(condition: Conditions, parts: dict[str, Any], default_strength: float) -> list[Condition]:
    if condition is None:
        return grid(**{"strength": default_strength} | parts)
    if parts:
        raise DitError(f"Say conditions either whole or in parts: leave out 'condition' or '{next(iter(parts))}'.")
    return parse_conditions(condition)


# ---------------------------------------------------------------- what is answered


def _answers(request: _Request, partial: bool) -> Iterator[Table[Verbalization]]:
    """The table after every step (where `partial`) and at the end. Runs in the worker's thread."""
    done: list[Verbalization] = []
    empty = [_verbalization(request, row, AnswerTokens()) for row in request.rows]
    size = batch_size(request.suite.model, "answers", MAX_ROWS)
    for rows in split_batches(request.rows, _needed_diff, MAX_ROWS, MAX_DIFFS):
        for part, (answers, complete) in size.map_streams(rows, lambda part: _batch(request, part)):
            if not (complete or partial):
                continue
            current = [_verbalization(request, row, answer) for row, answer in zip(part, answers, strict=True)]
            if complete:
                done += current
            else:
                growing = [len(done) + at for at, answer in enumerate(answers) if not answer.finished]
                rest = range(len(done) + len(current), len(empty))
                yield _table(request, [*done, *current, *empty[rest.start :]], [*growing, *rest])
    if not partial:
        yield _table(request, done)


def _batch(request: _Request, rows: Sequence[_Row]) -> Iterator[tuple[list[AnswerTokens], bool]]:
    """Generates one batch: its answers after every step, and once more, then complete."""
    model, answers = request.suite.model, [AnswerTokens() for _ in rows]
    encoded = {text: model.encode(text) for text in dict.fromkeys(row.text for row in rows)}
    steps = generate(
        model,
        [encoded[row.text] for row in rows],
        row_strengths(request.suite, [(row.info, row.condition) for row in rows]),
        request.sampling.max_new_tokens,
        temperature=request.sampling.temperature,
        top_p=request.sampling.top_p,
        seeds=[row.seed for row in rows],
    )
    for step in steps:
        for answer, token, probability, alive in zip(answers, step.tokens, step.probabilities, step.alive, strict=True):
            if alive:
                answer.append(model.tokenizer, token, probability)
            answer.finished = not alive or len(answer.ids) == request.sampling.max_new_tokens
        yield answers, False
    yield answers, True


def _needed_diff(row: _Row) -> DiffInfo | None:
    return row.info if row.condition.strength else None


def _verbalization(request: _Request, row: _Row, answer: AnswerTokens) -> Verbalization:
    tokens = answer.stripped()
    return Verbalization(
        diff=row.info.id if row.info else "",
        condition=str(row.condition),
        question=row.question,
        sample=row.sample,
        seed=request.sampling.seed,
        text="".join(tokens),
        tokens=tokens,
        token_probabilities=tuple(answer.probabilities),
    )


def _table(request: _Request, records: Sequence[Verbalization], unfinished: Sequence[int] = ()) -> Table[Verbalization]:
    extra: dict[str, Any] = {
        "sampling": {name: getattr(request.sampling, name) for name in ("temperature", "top_p", "max_new_tokens")}
    }
    return request.suite.table("verbalizations", records, extra | ({"unfinished": unfinished} if unfinished else {}))


def _last(tables: Iterator[Table[Verbalization]]) -> Table[Verbalization]:
    *_, table = tables
    return table
