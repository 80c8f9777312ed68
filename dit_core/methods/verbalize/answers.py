"""Asking: conditions in, a table of verbalizations out. Everything of a request is rows of one batch.

`ask` waits for the answers, `stream` gives them token by token. An answer depends on its diff, condition, question,
sample and seed alone, and never on what else is in the batch. Diff + DIT is Diff Interpretation Tuning, arXiv
2510.05092.
"""

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, product
from typing import Any, Unpack

from dit_core.engine.batching import MAX_DIFFS, batch_size, split_batches
from dit_core.engine.generation import generate, row_seed
from dit_core.engine.likelihood import AnswerTokens
from dit_core.errors import DitError, checked_text
from dit_core.methods.sampling import Conditions, Diffs, Sampling, SamplingOptions, checked_sampling, named_diffs
from dit_core.records import DiffInfo, Table, Verbalization
from dit_core.records.chat import ChatContext
from dit_core.records.condition import Condition, as_list, grid, parse_asked
from dit_core.request.conditions import acting_diffs, build_prompt, check_condition, fetch_adapters, row_strengths
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
    system: str
    turns: Sequence[str]
    prefill: str
    raw: bool


@at_model
def ask(suite: Suite, diff: Diffs = None, **options: Unpack[AskOptions]) -> Table[Verbalization]:
    """Ask diffs under conditions.

    Args:
        suite: what `load_suite` gave.
        diff: ids or references; None asks the base (and DIT adapters) alone.
        condition: conditions in their written form, or `Condition`s; or say them by the next four instead. One that is
            asked a question of its own is a pair, `("diff+right", "Why?")`.
        strength: of the diff, any real number; 1 by default where there is a diff.
        copies: of the DIT adapter, real numbers of 0 or more; 0 by default.
        trigger: `absent` (the default), `right`, `wrong`, or `own:` and a text.
        adapter: names of DIT adapters; by default that of the diff's task.
        question: texts of at most 2,000 characters; by default the question of the diff's task.
        system: the system prompt of all conditions.
        turns: what was said before the question: a text of the user, one of the assistant, and so on.
        prefill: how the answer begins; the model goes on from there, and what it adds is the answer's text.
        raw: whether the question is read as it is, without the base's chat template.
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
    [table] = suite.worker.run(lambda: list(_answers(request, every_step=False)))
    return table


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
    return suite.worker.stream(partial(_answers, request))


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
    system: Any = "",
    turns: Any = (),
    prefill: Any = "",
    raw: Any = False,
    **sampling: Unpack[SamplingOptions],
) -> _Request:
    """Everything that can be wrong with a request is found here, and its files fetched, before the model is touched."""
    infos = [None] if diff is None else named_diffs(suite, diff)
    parts = {"strength": strength, "copies": copies, "trigger": trigger, "adapter": adapter}
    parts = {name: value for name, value in parts.items() if value is not None}
    given = [None] if question is None else [checked_text(text, "The question") for text in as_list(question)]
    if condition is None:
        condition = grid(**{"strength": 0.0 if diff is None else 1.0} | parts)
    elif parts:
        raise DitError(f"Say conditions either whole or in parts: leave out 'condition' or '{next(iter(parts))}'.")
    asked = parse_asked(condition, given, ChatContext(system, tuple(as_list(turns)), prefill, raw))
    drawn = checked_sampling(suite, **sampling)
    if not (infos and asked):
        raise DitError("Nothing was asked: give at least one diff, condition and question, or leave them out.")
    current_limits().check(len(infos) * len(asked) * drawn.samples, drawn.max_new_tokens)
    rows: list[_Row] = []
    for info, (own, own_question) in product(infos, asked):
        check_condition(suite, info, own)
        text = own_question or suite.task(info.task if info else None).question
        prompt = build_prompt(suite, info, own, text, drawn.seed)
        where = (info.id if info else "", str(own), text)
        rows += [
            _Row(info, own, text, sample, prompt, row_seed(drawn.seed, *where, sample))
            for sample in range(drawn.samples)
        ]
    fetch_adapters(suite, [(row.info, row.condition) for row in rows])
    return _Request(suite, tuple(rows), drawn)


# ---------------------------------------------------------------- what is answered


def _answers(request: _Request, every_step: bool = True) -> Iterator[Table[Verbalization]]:
    """Yield the table after every step, or once all is said where not `every_step`. Runs in the worker's thread."""
    model, sampling = request.suite.model, request.sampling
    done: list[Verbalization] = []
    empty = [_verbalization(request, row, AnswerTokens()) for row in request.rows]
    size = batch_size(model, "answers", MAX_ROWS)
    groups = split_batches(request.rows, partial(_needed_diffs, request.suite), MAX_ROWS, MAX_DIFFS)
    for attempt in chain.from_iterable(size.attempts(rows) for rows in groups):
        with attempt as rows:
            answers = [AnswerTokens() for _ in rows]
            for step in generate(
                model,
                [model.encode(row.text, row.condition.chat) for row in rows],
                row_strengths(request.suite, [(row.info, row.condition) for row in rows]),
                sampling.max_new_tokens,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                seeds=[row.seed for row in rows],
            ):
                said = zip(answers, step.tokens, step.probabilities, step.alive, strict=True)
                for answer, token, probability, alive in said:
                    if alive:
                        answer.append(model.tokenizer, token, probability)
                    answer.finished = not alive or len(answer.ids) == sampling.max_new_tokens
                if every_step:
                    current = [_verbalization(request, row, answer) for row, answer in zip(rows, answers, strict=True)]
                    growing = [len(done) + at for at, answer in enumerate(answers) if not answer.finished]
                    rest = range(len(done) + len(rows), len(empty))
                    yield _table(request, [*done, *current, *empty[rest.start :]], [*growing, *rest])
            done += [_verbalization(request, row, answer) for row, answer in zip(rows, answers, strict=True)]
    if not every_step:
        yield _table(request, done)


def _needed_diffs(suite: Suite, row: _Row) -> Iterable[DiffInfo]:
    return acting_diffs(suite, row.info, row.condition)


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
