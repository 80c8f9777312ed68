"""Targets: conditions turned into tokens to be read, and the residual stream there.

All conditions of a request are rows of one batch: first, where a span needs it, they answer; then one forward pass
takes every layer at the positions asked for. In the worker's thread only.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from torch import Tensor

from dit_core.engine.activations import residuals
from dit_core.engine.batching import batch_size, split_batches
from dit_core.engine.generation import generate, overflow_error
from dit_core.errors import DitError
from dit_core.records import DiffInfo, Target
from dit_core.records.condition import Condition, as_list, checked_text, parse_conditions
from dit_core.request.conditions import adapter_names, fetch_adapters, row_strengths
from dit_core.request.prompts import build_prompt
from dit_core.suite import Suite

T = TypeVar("T")
R = TypeVar("R")

ACTIVATION_KINDS = ("with", "without", "difference")
MAX_ROWS = 256  # of one batch of targets, before memory has its say
# Of the base's norm: what differs by less is rounding, and a direction of it would mean nothing.
ROUNDING = 1e-6

TargetRow = tuple[DiffInfo | None, Condition, str]
Questions = str | Mapping[str, str] | None


@dataclass(frozen=True)
class TargetTokens:
    """One condition of one diff, asked: `ids` are the tokens of its prompt and, after `prompt_tokens`, its answer."""

    info: DiffInfo | None
    condition: Condition
    asked: str
    ids: tuple[int, ...]
    prompt_tokens: int

    @property
    def answer_tokens(self) -> int:
        """Tokens of the answer; 0 where the target has not been asked to answer."""
        return len(self.ids) - self.prompt_tokens

    def record(self, suite: Suite) -> Target:
        """The same for people: tokens as text."""
        pieces = tuple(_pieces(suite.model.tokenizer, self.ids))
        return Target(self.info.id if self.info else "", str(self.condition), self.asked, self.prompt_tokens, pieces)


def target_rows(
    suite: Suite, diff: Any = None, condition: Any = None, asked: Questions = None, seed: int = 0
) -> tuple[TargetRow, ...]:
    """All (diff, condition, question) of a request, checked and their files fetched: what `tokenize_targets` takes.

    By default the condition is `diff`, or `base` without a diff, and the question that of the diff's task; `asked` is
    one question, or questions by diff id. A pair of a condition and a question, among the conditions, is asked that.
    Raises DitError for what there isn't, and for conditions that need a diff or a trigger where there is none.
    """
    infos = [None] if diff is None else list(dict.fromkeys(suite.diff(name) for name in as_list(diff)))
    conditions = as_list(("base" if diff is None else "diff") if condition is None else condition)
    if not (infos and conditions):
        raise DitError("Nothing was asked: give at least one diff and one condition, or leave them out.")
    pairs = [_pair(one, asked) for one in conditions]
    rows = tuple(dict.fromkeys(_checked(suite, info, *pair, seed) for info in infos for pair in pairs))
    fetch_adapters(suite, [(info, condition) for info, condition, _ in rows])
    return rows


def _pair(one: Any, asked: Questions) -> tuple[Condition, Questions]:
    if isinstance(one, tuple):
        if len(one) != 2 or one[1] is None:
            raise DitError("A condition with a question of its own is a pair of both, as in ('diff+right', 'Why?').")
        one, asked = one
    [condition] = parse_conditions(one)
    return condition, asked


def _checked(suite: Suite, info: DiffInfo | None, condition: Condition, asked: Questions, seed: int) -> TargetRow:
    if condition.strength and info is None:
        raise DitError(f"The condition '{condition}' needs a diff: choose one, or leave 'diff' out of the condition.")
    adapter_names(suite, info, condition)  # raises where there is no such adapter
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
    """The targets for (diff, condition, question) rows, each with its greedy answer of at most `answer_tokens`.

    Raises DitError where that is more than one request may ask for.
    """
    suite.limits.check(len(rows), max(answer_tokens, 1))  # to be read takes a row as much as to say a token
    found = []
    for info, condition, asked in rows:
        ids = tuple(suite.model.encode(build_prompt(suite, info, condition, asked, seed)))
        found.append(TargetTokens(info, condition, asked, ids, len(ids)))
    if not answer_tokens:
        return found
    parts = _batches(suite, found, lambda aim: aim, lambda part: _answers(suite, part, answer_tokens))
    return [aim for part in parts for aim in part]


def target_activations(
    suite: Suite,
    targets: Sequence[TargetTokens],
    positions: Sequence[Sequence[int]],
    layers: Sequence[int],
    kind: str = "with",
) -> list[Tensor]:
    """The residual stream of each target at its positions: [layers, positions, d_model] each.

    `kind`: `with` the condition, `without` it (the base reads the same tokens), or the `difference` of the two, which
    is zero where it is no more than rounding.
    """
    items = list(zip(targets, positions, strict=True))
    parts = _batches(suite, items, lambda item: item[0], lambda part: _taken(suite, part, layers, kind))
    return [one for part in parts for one in part]


def depth_percent(suite: Suite, layer: int) -> float:
    """How deep a layer is in the base, in percent of its layers."""
    return round(100 * layer / len(suite.model.layers), 1)


def _batches(
    suite: Suite, items: Sequence[T], aim: Callable[[T], TargetTokens], work: Callable[[Sequence[T]], list[R]]
) -> Iterator[list[R]]:
    """The work of each batch of items; each has an aim, whose diff it needs on the model."""
    size = batch_size(suite.model, "targets", MAX_ROWS)
    for group in split_batches(items, lambda item: aim(item).info if aim(item).condition.strength else None, MAX_ROWS):
        for _, done in size.map(group, work):
            yield done


def _taken(
    suite: Suite, part: Sequence[tuple[TargetTokens, Sequence[int]]], layers: Sequence[int], kind: str
) -> list[Tensor]:
    """One pass. For a difference both sides are in it, so that nothing but the condition differs."""
    acting = [(aim.info, aim.condition) for aim, _ in part]
    plain = [(None, Condition())] * len(part)
    rows = {"with": acting, "without": plain, "difference": acting + plain}[kind]
    targets, places = zip(*part, strict=True)
    times = len(rows) // len(part)
    ids = [aim.ids for aim in targets] * times
    taken = residuals(suite.model, ids, row_strengths(suite, rows), places * times, layers)
    if not all(hidden.isfinite().all() for hidden in taken):
        raise overflow_error(suite.model)
    if kind != "difference":
        return taken
    return [_difference(mine, base) for mine, base in zip(taken[: len(part)], taken[len(part) :], strict=True)]


def _difference(mine: Tensor, base: Tensor) -> Tensor:
    found = mine - base
    found[found.norm(dim=-1) <= ROUNDING * base.norm(dim=-1)] = 0
    return found


def _answers(suite: Suite, part: Sequence[TargetTokens], limit: int) -> list[TargetTokens]:
    acting = row_strengths(suite, [(aim.info, aim.condition) for aim in part])
    said: list[list[int]] = [[] for _ in part]
    for step in generate(suite.model, [aim.ids for aim in part], acting, limit):
        for answer, token, alive in zip(said, step.tokens, step.alive, strict=True):
            if alive:
                answer.append(token)
    return [replace(aim, ids=(*aim.ids, *answer)) for aim, answer in zip(part, said, strict=True)]
