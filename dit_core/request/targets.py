"""Targets: conditions turned into tokens to be read, and the residual stream there.

All conditions of a request are rows of one batch: first, where a span needs it, they answer; then one forward pass
takes every layer at the positions asked for. In the worker's thread only.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from torch import Tensor

from dit_core.engine.activations import residuals
from dit_core.engine.batching import Attempt, batch_size, split_batches
from dit_core.engine.generation import generate, overflow_error
from dit_core.errors import DitError, MixedRowsError, checked_text
from dit_core.records import DiffInfo, Target
from dit_core.records.condition import Condition, as_list, parse_asked
from dit_core.request.conditions import acting_diffs, build_prompt, check_condition, fetch_adapters, row_strengths
from dit_core.suite import Suite
from dit_core.suite.limits import current_limits

T = TypeVar("T")

ACTIVATION_KINDS = ("with", "without", "difference")
MAX_ROWS = 256  # of one batch of targets, before memory has its say
# As a share of the base's norm: what differs by less is rounding, and a direction of it would mean nothing.
MIN_RELATIVE_DIFFERENCE = 1e-6

TargetRow = tuple[DiffInfo | None, Condition, str]
Questions = str | Mapping[str, str] | None


@dataclass(frozen=True)
class TargetTokens:
    """One condition of one diff, asked a question, as tokens.

    Attributes:
        ids: the tokens of its prompt and, after the first `prompt_tokens`, of its answer.
    """

    info: DiffInfo | None
    condition: Condition
    asked: str
    ids: tuple[int, ...]
    prompt_tokens: int

    @property
    def answer_tokens(self) -> int:
        """Tokens of the answer; 0 where the target has not been asked to answer."""
        return len(self.ids) - self.prompt_tokens

    @property
    def row(self) -> "TargetRow":
        """What it was made of."""
        return self.info, self.condition, self.asked

    @property
    def prompt(self) -> "TargetTokens":
        """The same target without its answer."""
        return replace(self, ids=self.ids[: self.prompt_tokens])

    def record(self, suite: Suite) -> Target:
        """Return the record of it, with tokens as text."""
        pieces = tuple(_pieces(suite.model.tokenizer, self.ids))
        return Target(self.info.id if self.info else "", str(self.condition), self.asked, self.prompt_tokens, pieces)


def target_rows(
    suite: Suite, diff: Any = None, condition: Any = None, asked: Questions = None, seed: int = 0
) -> tuple[TargetRow, ...]:
    """Return every (diff, condition, question) of a request, checked, and fetch the files that they need.

    Args:
        diff: a diff's id, several, or None for the base.
        condition: one or several, by default `diff`, or `base` without a diff. A pair of a condition and a question is
            asked that question.
        asked: one question, or questions by diff id; by default that of the diff's task.
        seed: of the digits behind a trigger.

    Raises:
        DitError: the suite has no such diff or adapter, or a condition needs a diff or a trigger where there is none.
    """
    infos = [None] if diff is None else list(dict.fromkeys(suite.diff(name) for name in as_list(diff)))
    conditions = as_list(("base" if diff is None else "diff") if condition is None else condition)
    if not (infos and conditions):
        raise DitError("Nothing was asked: give at least one diff and one condition, or leave them out.")
    pairs = parse_asked(conditions, [None])
    rows = tuple(
        dict.fromkeys(
            _checked(suite, info, own, asked if question is None else question, seed)
            for info in infos
            for own, question in pairs
        )
    )
    fetch_adapters(suite, [(info, condition) for info, condition, _ in rows])
    return rows


def _checked(suite: Suite, info: DiffInfo | None, condition: Condition, asked: Questions, seed: int) -> TargetRow:
    check_condition(suite, info, condition)
    task = suite.task(info.task if info else None)
    if isinstance(asked, Mapping):
        asked = asked.get(info.id if info else "")
    text = task.question if asked is None else checked_text(asked, "The question to the target")
    build_prompt(suite, info, condition, text, seed)  # raises where there is no such trigger
    return info, condition, text


def _pieces(tokenizer: Any, ids: Sequence[int]) -> Iterator[str]:
    """What each token adds to the text: its space too, and a character of several tokens with the last of them."""
    before = 0
    for count in range(1, len(ids) + 1):
        whole = tokenizer.decode(ids[:count], clean_up_tokenization_spaces=False).rstrip("\ufffd")
        yield whole[before:]
        before = max(before, len(whole))


def tokenize_targets(
    suite: Suite, rows: Sequence[TargetRow], seed: int = 0, answer_tokens: int = 0
) -> list[TargetTokens]:
    """Return the tokens of (diff, condition, question) rows, each with its greedy answer of at most `answer_tokens`.

    Raises:
        DitError: that is more than one request may ask for.
    """
    current_limits().check(len(rows), max(answer_tokens, 1))  # to be read takes a row as much as to say a token
    targets = []
    for info, condition, asked in rows:
        ids = tuple(suite.model.encode(build_prompt(suite, info, condition, asked, seed), condition.chat))
        targets.append(TargetTokens(info, condition, asked, ids, len(ids)))
    if not answer_tokens:
        return targets
    answered: list[TargetTokens] = []
    for attempt in _attempts(suite, targets, lambda target: target):
        with attempt as batch:
            answered += _answered(suite, batch, answer_tokens)
    return answered


def target_activations(
    suite: Suite,
    targets: Sequence[TargetTokens],
    positions: Sequence[Sequence[int]],
    layers: Sequence[int],
    kind: str = "with",
) -> list[Tensor]:
    """Return the residual stream of each target at its positions: [layers, positions, d_model] each, in float32.

    Args:
        targets: what is read.
        positions: which tokens of each target.
        layers: layer l is the output of decoder block l, before the final norm.
        kind: one of `ACTIVATION_KINDS`: `with` the condition, `without` it (the base reads the same tokens), or the
            `difference` of the two, which is zero where it is no more than rounding.

    Raises:
        DitError: the model's numbers overflow, or there is no such layer or position.
    """
    wanted = [WantedActivations(*item, kinds=(kind,)) for item in zip(targets, positions, strict=True)]
    return [own[kind] for own in activations_by_kind(suite, wanted, layers)]


@dataclass(frozen=True)
class WantedActivations:
    """The positions of a target at which its residual stream is wanted, in one or more of `ACTIVATION_KINDS`."""

    target: TargetTokens
    positions: Sequence[int]
    kinds: tuple[str, ...]


def activations_by_kind(
    suite: Suite, wanted: Sequence[WantedActivations], layers: Sequence[int]
) -> list[dict[str, Tensor]]:
    """Return the same as `target_activations`, by kind: all kinds of all targets come from one pass."""
    by_kind: list[dict[str, Tensor]] = []
    for attempt in _attempts(suite, wanted, lambda item: item.target):
        with attempt as batch:
            by_kind += _residuals(suite, batch, layers)
    return by_kind


def depth_percent(suite: Suite, layer: int) -> float:
    """Return how deep a layer is in the base, in percent of its layers."""
    return round(100 * layer / len(suite.model.layers), 1)


def _attempts(suite: Suite, items: Sequence[T], target_of: Callable[[T], TargetTokens]) -> Iterator[Attempt[T]]:
    """Yield batches of items, each of which is about a target."""

    def needed(item: T) -> Iterable[DiffInfo]:
        target = target_of(item)
        return acting_diffs(suite, target.info, target.condition)

    size = batch_size(suite.model, "targets", MAX_ROWS)
    for group in split_batches(items, needed, MAX_ROWS):
        yield from size.attempts(group)


def _residuals(suite: Suite, batch: Sequence[WantedActivations], layers: Sequence[int]) -> list[dict[str, Tensor]]:
    """One pass. For a difference both sides are in it, so that nothing but the condition differs."""
    rows = [
        (side, place)
        for side in ("with", "without")
        for place, wanted in enumerate(batch)
        if {side, "difference"} & set(wanted.kinds)
    ]

    def read(side_rows: Sequence[tuple[str, int]]) -> list[Tensor]:
        targets = [batch[place].target for _, place in side_rows]
        acting: list[tuple[DiffInfo | None, Condition]] = [
            (target.info, target.condition) if side == "with" else (None, Condition())
            for (side, _), target in zip(side_rows, targets, strict=True)
        ]
        positions, ids = [batch[place].positions for _, place in side_rows], [target.ids for target in targets]
        return residuals(suite.model, ids, row_strengths(suite, acting), positions, layers)

    try:
        hidden = read(rows)
    except MixedRowsError:  # then each side by itself
        sides_asked = dict.fromkeys(side for side, _ in rows)
        hidden = [own for side in sides_asked for own in read([row for row in rows if row[0] == side])]
    if not all(own.isfinite().all() for own in hidden):
        raise overflow_error(suite.model)
    sides = dict(zip(rows, hidden, strict=True))
    return [
        {
            kind: _difference(sides["with", place], sides["without", place])
            if kind == "difference"
            else sides[kind, place]
            for kind in wanted.kinds
        }
        for place, wanted in enumerate(batch)
    ]


def _difference(changed: Tensor, base: Tensor) -> Tensor:
    difference = changed - base
    difference[difference.norm(dim=-1) <= MIN_RELATIVE_DIFFERENCE * base.norm(dim=-1)] = 0
    return difference


def _answered(suite: Suite, batch: Sequence[TargetTokens], max_new_tokens: int) -> list[TargetTokens]:
    """Return the targets with their greedy answers."""
    acting = row_strengths(suite, [(target.info, target.condition) for target in batch])
    answers: list[list[int]] = [[] for _ in batch]
    for step in generate(suite.model, [target.ids for target in batch], acting, max_new_tokens):
        for answer, token, alive in zip(answers, step.tokens, step.alive, strict=True):
            if alive:
                answer.append(token)
    return [replace(target, ids=(*target.ids, *answer)) for target, answer in zip(batch, answers, strict=True)]
