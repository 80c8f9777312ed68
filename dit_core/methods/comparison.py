"""The comparison: the conditions that always stand side by side, and the suite's stored first run.

Whoever looks at one condition needs the others next to it: what the base says, what the diff says when asked
openly, what its trigger brings out, what the DIT adapter says where there is nothing to find, and diff + DIT.
All are asked in one request (`pairs`), and read: by logit lens and through the oracle, in one pass over their prompts
(`read`).
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar, Unpack

from dit_core.engine.activations import parse_layers
from dit_core.errors import DitError
from dit_core.methods import lens, oracle
from dit_core.methods.lens.prompt_lens import next_token_records
from dit_core.methods.oracle.batch import OracleRow, SpansOfTarget, read_spans, rows_of
from dit_core.methods.oracle.reading import reading_tables
from dit_core.methods.oracle.request import ReadOptions, Request, checked_request
from dit_core.methods.verbalize import ask
from dit_core.present.palette import TITLES
from dit_core.records import DiffInfo, NextToken, Reading, Table, Target, Verbalization, records_from_json
from dit_core.records.chat import PLAIN_CHAT
from dit_core.records.condition import VECTOR, Condition
from dit_core.request.targets import (
    TargetRow,
    WantedActivations,
    activations_by_kind,
    target_rows,
    tokenize_targets,
)
from dit_core.suite import Suite, Task
from dit_core.suite.offload import streamed_at_model

R = TypeVar("R", Target, Reading, NextToken)
FIRST_RUN = "first-run.json"


@dataclass(frozen=True)
class Column:
    """One card of the comparison: a condition asked one question; `kind` is a key of `COLOURS`."""

    kind: str
    title: str
    condition: str
    question: str
    chosen: bool = False

    def holds(self, verbalization: Verbalization) -> bool:
        """Return whether a verbalization is an answer of this column."""
        return (verbalization.condition, verbalization.question) == (self.condition, self.question)

    def of(self, records: Iterable[R]) -> list[R]:
        """Select the records that are about this column's condition, asked what this column asks."""
        return [record for record in records if (record.condition, record.asked) == (self.condition, self.question)]


def columns(task: Task, question: str | None = None, chosen: Condition | None = None) -> tuple[Column, ...]:
    """Return the cards of the comparison for a diff of `task`, in the order they are shown.

    `question` (the task's own by default) goes to every condition, but for one card: a diff shows what it hides in
    everyday talk and not when it is asked about itself, so beside the task's own question diff + trigger gets the
    suite's first everyday question. Where diffs have no trigger, the task's behaviour prompt takes its place.
    `chosen` is marked where it stands already and added at the end where it is another condition; all cards have its
    chat around their question.
    """
    question = task.question if question is None else question.strip()
    base = Condition(chat=chosen.chat if chosen else PLAIN_CHAT)
    kinds = {"base": base, "diff": replace(base, strength=1.0), "dit": replace(base, adapters=(("", 1.0),))}
    kinds["both"] = replace(kinds["dit"], strength=1.0)
    cards = [Column(kind, TITLES[kind], str(kinds[kind]), question) for kind in ("base", "diff", "dit", "both")]
    if task.has_trigger:
        everyday = task.questions[0] if task.questions and question == task.question else question
        cards.insert(2, Column("trigger", TITLES["trigger"], str(replace(kinds["diff"], trigger="right")), everyday))
    elif task.behaviour and task.behaviour != question:
        cards.insert(2, Column("trigger", "diff at work", str(kinds["diff"]), task.behaviour))
    if chosen is None:
        return tuple(cards)
    target = (str(_plain(task, chosen)), question)
    marked = [replace(c, chosen=True) if (c.condition, c.question) == target else c for c in cards]
    if not any(c.chosen for c in marked):
        marked.append(Column("other", TITLES["other"], target[0], question, chosen=True))
    return tuple(marked)


def _plain(task: Task, condition: Condition) -> Condition:
    """The same condition with the task's default adapter unnamed and absent adapters left out."""
    default = (task.adapter, task.adapter + VECTOR)
    kept = (
        (name.removeprefix(task.adapter) if name in default else name, copies)
        for name, copies in condition.adapters
        if copies
    )
    return replace(condition, adapters=tuple(kept))


def targets(suite: Suite, info: DiffInfo, cards: Sequence[Column], seed: int = 0) -> Table[Target]:
    """Return the tokens of each card's prompt."""
    return _ordered(cards, oracle.targets(suite, info, condition=pairs(cards), seed=seed))


def next_tokens(
    suite: Suite, info: DiffInfo, cards: Sequence[Column], seed: int = 0, reference: bool = False
) -> Table[NextToken]:
    """Return the logit lens of what comes after each card's prompt; arguments are those of `lens.next_tokens`."""
    return _ordered(cards, lens.next_tokens(suite, info, condition=pairs(cards), seed=seed, reference=reference))


@streamed_at_model
def read(
    suite: Suite,
    info: DiffInfo,
    cards: Sequence[Column],
    lens_cards: Sequence[Column] = (),
    at_once: int = 10,
    **options: Unpack[ReadOptions],
) -> Generator[Table[NextToken] | Table[Reading], None, None]:
    """Stream the logit lens of `lens_cards`, then what the oracle reads of `cards`, layer by layer.

    One pass of the base over the prompts serves both. Yields the table of next tokens (and of the reference's) where
    there are `lens_cards`, then a partial table per about `at_once` readings (whole layers, where each has one span),
    rows ordered as the cards are. `options` are those of `oracle.stream`. Raises DitError as `oracle.read` does.
    """
    options["condition"] = pairs(cards)
    request = checked_request(suite, info, **options)
    followed = target_rows(suite, info, pairs(lens_cards), seed=request.seed) if lens_cards else ()
    per_layer = len(cards) * request.sampling.samples
    whole_layers = per_layer * max(at_once // per_layer, 1)

    def tables() -> Generator[Table[NextToken] | Table[Reading], None, None]:
        next_tokens, rows = _read(request, followed)
        if next_tokens:
            yield _ordered(lens_cards, suite.table("next_tokens", next_tokens, {"sampling": {"seed": request.seed}}))
        for table in reading_tables(request, rows, whole_layers):
            yield _ordered(cards, table)

    return suite.worker.stream(tables)


def _read(request: Request, followed: Sequence[TargetRow]) -> tuple[list[NextToken], list[OracleRow]]:
    """One pass over all prompts: the next tokens of those that are followed, and the oracle's rows of those read."""
    suite, every_layer = request.suite, range(len(request.suite.model.layers))
    layers = parse_layers(suite.model, request.layers)
    read = read_spans(request)
    unread = tokenize_targets(suite, [row for row in followed if row not in request.rows], request.seed)
    prompts = [*read, *(SpansOfTarget(target, []) for target in unread)]
    wanted = []
    for at, own in enumerate(prompts):
        kinds = [request.kind] * (at < len(read)) + ["with"] * (own.target.row in followed)
        wanted.append(WantedActivations(own.target, own.positions, tuple(kinds)))
    hidden = activations_by_kind(suite, wanted, every_layer)
    next_tokens: list[NextToken] = []
    for own, by_kind in zip(prompts, hidden, strict=True):
        if own.target.row in followed:
            at_last = by_kind["with"][:, [own.positions.index(own.last)]]
            next_tokens += next_token_records(suite, own.target.prompt, [own.last], at_last, every_layer, True)
    return next_tokens, rows_of(request, layers, read, [own[request.kind][layers] for own in hidden[: len(read)]])


def pairs(cards: Sequence[Column]) -> list[str | Condition | tuple[str | Condition, str]]:
    """Return the cards as conditions with a question of their own, so that all are asked, or read, in one request."""
    return [(card.condition, card.question) for card in cards]


def _ordered(cards: Sequence[Column], table: Table[R]) -> Table[R]:
    return replace(table, records=tuple(record for card in cards for record in card.of(table)))


def first_info(suite: Suite) -> DiffInfo:
    """Return the diff that a first visitor meets: the suite's `first_diff`, else its first held-out one.

    Raises:
        DitError: the suite lists no diff.
    """
    if suite.first_diff:
        return suite.diff(suite.first_diff)
    if not suite.diffs:
        raise DitError(
            f"The suite '{suite.name}' lists no diff to begin with: choose another, or bring your own to it."
        )
    return next((d for d in suite.diffs if d.split == "test"), suite.diffs[0])


def first_run(suite: Suite) -> dict[str, Any]:
    """Ask the first diff the comparison: the content of the suite's `first-run.json`."""
    info = first_info(suite)
    table = ask(suite, info.id, condition=pairs(columns(suite.task_of(info))))
    return {"fingerprint": suite.fingerprint, "diff": info.id, **table.to_json()}


def read_first_run(suite: Suite) -> Table[Verbalization] | None:
    """Return the stored first run, or None where there is none or the suite has changed since it was stored."""
    try:
        stored = json.loads((suite.folder / FIRST_RUN).read_text(encoding="utf-8"))
        if stored["fingerprint"] != suite.fingerprint or stored["diff"] != first_info(suite).id:
            return None
        records = records_from_json(stored["verbalizations"], Verbalization)
    except (OSError, ValueError, KeyError, TypeError, RecursionError, DitError):
        return None  # asked live instead: a damaged stored run is no reason to stop
    made_with = {name: stored[name] for name in ("fingerprint", "sampling", "versions") if name in stored}
    return Table(suite.name, "verbalizations", records, made_with)
