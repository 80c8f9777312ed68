"""What a condition means for a batch: its adapters, how much of each acts on a row, its prompt, and spans of that."""

import random
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING

from dit_core.errors import DitError
from dit_core.records import DiffInfo
from dit_core.records.condition import NORM_KEPT, OWN, VECTOR, Condition, DiffPart
from dit_core.records.layers import layer_range
from dit_core.suite.diffs import DerivedDiff

if TYPE_CHECKING:
    from torch import Tensor

    from dit_core.engine.model import Model
    from dit_core.formats import Adapter
    from dit_core.suite import Suite


def adapter_names(suite: "Suite", info: DiffInfo | None, condition: Condition) -> dict[str, float]:
    """Return the copies of each DIT adapter by its name in the suite, `VECTOR` behind it where its mean effect acts.

    The default adapter is named too.

    Raises:
        DitError: the suite has no such adapter.
    """
    copies: dict[str, float] = {}
    for written, number in condition.adapters:
        name = written.removesuffix(VECTOR)
        known = suite.adapter(name).name if name else suite.default_adapter(info.task if info else None)
        known += written.removeprefix(name)
        copies[known] = copies.get(known, 0.0) + number
    return copies


def question_of(suite: "Suite", adapter: str) -> str:
    """Return the question that an adapter was trained to answer."""
    return suite.questions_of(adapter.removesuffix(VECTOR))[0]


def check_condition(suite: "Suite", info: DiffInfo | None, condition: Condition) -> None:
    """Check that all that a condition puts on the base is there.

    Raises:
        DitError: a diff or a DIT adapter that the suite does not have, or no diff where the condition needs one.
    """
    if condition.needs_diff and info is None:
        raise DitError(f"The condition '{condition}' needs a diff: choose one, or leave 'diff' out of the condition.")
    acting_diffs(suite, info, condition)
    adapter_names(suite, info, condition)


def acting_diffs(suite: "Suite", info: DiffInfo | None, condition: Condition) -> dict[DiffInfo, float]:
    """Return the strength of each diff that acts under a condition; a part of a diff is a diff of its own.

    Without `info`, what the condition takes of it does not act.

    Raises:
        DitError: a named diff that the suite does not have.
    """
    strengths = {info: condition.strength} if info is not None and condition.strength else {}
    for name, strength in condition.diffs:
        part = DiffPart.parse(name)
        whole = _diff_of_id(suite, part.id) if part.id else info
        if whole is not None:
            acting = _partial_diff(whole, part)
            strengths[acting] = strengths.get(acting, 0.0) + strength
    return {acting: strength for acting, strength in strengths.items() if strength}


def _diff_of_id(suite: "Suite", id: str) -> DiffInfo:
    """The diff of that id alone: a reference in a condition would stand in links and tables."""
    info = suite.diff(id)
    if info.id != id:
        raise DitError(f"A condition names a diff by its id, and '{id}' is none: write '{info.id}'.")
    return info


@dataclass(frozen=True, kw_only=True)
class PartialDiff(DerivedDiff):
    """A part of the diff `of`: its matrices cut to one direction each, or what it changes in some modules or layers."""

    of: DiffInfo
    part: DiffPart

    def weights(self, load: Callable[[DiffInfo], "Adapter"], model: Callable[[], "Model"]) -> "Adapter":
        """Return what is left of the weights of `of`; DitError where nothing is, or the base lacks these layers."""
        from dit_core.engine.changes import rank_one
        from dit_core.engine.strengths import layer_of

        count = len(model().layers)
        kinds = [_KINDS.get(kind, kind) for kind in self.part.modules]
        ranges = [layer_range(ends, count) for ends in self.part.layers]

        def acts(name: str) -> bool:
            layer = layer_of(name)
            inside = all(layer is not None and first <= layer <= last for first, last in ranges)
            names = name.split(".")
            return inside and all(any(re.fullmatch(kind, word) for word in names) for kind in kinds)

        whole = load(self.of)
        if whole.peft and self.part.where:
            whole = replace(whole, peft=None, merged=model().base_modules.fit(whole).merged)
        left = whole.only(acts)
        if not (left.factors or left.weights or left.peft or left.merged):
            raise DitError(f"The diff '{self.of.id}' changes nothing in '{'@'.join(self.part.where)}': leave that out.")
        return rank_one(left, model(), self.part.cut == NORM_KEPT) if self.part.cut else left


# Parts of a block, which every family names in its own way.
_KINDS = {"attention": r"(\w+_)?(attn|attention)", "mlp": r"(\w+_)?(mlp|ffn|feed_forward|experts?|moe)|fc[12]"}


def _partial_diff(info: DiffInfo, part: DiffPart) -> DiffInfo:
    """Return the diff that is a part of another; the diff itself where the part is all of it."""
    part = replace(part, id="")
    if part == DiffPart():
        return info
    rank = 1 if part.cut else info.rank
    return PartialDiff(f"{info.id}~{part}", info.task, info.split, rank, "", info.trigger, of=info, part=part)


def fetch_adapters(suite: "Suite", rows: Iterable[tuple[DiffInfo | None, Condition]]) -> None:
    """Fetch all files that `row_strengths` will need for the rows. Not in the worker's thread."""
    rows = set(rows)
    infos = {acting for info, condition in rows for acting in acting_diffs(suite, info, condition)}
    names = (name.removesuffix(VECTOR) for info, condition in rows for name in adapter_names(suite, info, condition))
    suite.fetch(infos, set(names))


def row_strengths(suite: "Suite", rows: Sequence[tuple[DiffInfo | None, Condition]]) -> dict[str, "Tensor"]:
    """Put what the rows need on the model, and return how much of each slot acts on each row.

    In the worker's thread only.

    Returns:
        One float32 tensor per slot, as `Model.strengths` takes them: [rows, 1, 1], [rows, 1, diffs] for the slot of
        several diffs, and [rows, 1, 1, layers] for DIT adapters of which a row wants some layers only.

    Raises:
        DitError: layers that the base does not have.
    """
    import torch

    tensors: dict[str, Tensor] = {}
    acting = [acting_diffs(suite, info, condition) for info, condition in rows]
    infos = list(dict.fromkeys(chain.from_iterable(acting)))
    if infos:
        places = {info: place for place, info in enumerate(infos)}
        amounts = torch.zeros(len(rows), 1, len(infos))
        for row, strengths in enumerate(acting):
            for info, strength in strengths.items():
                amounts[row, 0, places[info]] = strength
        tensors[suite.hold_diffs(infos)] = amounts
    some_layers = any(condition.layers for _, condition in rows)
    shape = (len(rows), 1, 1, len(suite.model.layers)) if some_layers else (len(rows), 1, 1)
    for row, (own, condition) in enumerate(rows):
        for name, copies in adapter_names(suite, own, condition).items():
            if name.endswith(VECTOR):
                layers = range(len(suite.model.layers))[_within(condition, len(suite.model.layers))]
                slot = suite.hold_vectors(name.removesuffix(VECTOR), layers)
                tensors.setdefault(slot, torch.zeros(len(rows), 1, 1))[row] = copies
                continue
            slot = suite.hold_adapter(name)
            tensors.setdefault(slot, torch.zeros(shape))[(row, ..., _within(condition, shape[-1]))] = copies
    return tensors


def _within(condition: Condition, n_layers: int) -> slice:
    """Where along the last dimension a condition's DIT adapters act."""
    if condition.layers is None:
        return slice(None)
    first, last = layer_range(condition.layers, n_layers)
    return slice(first, last + 1)


SECRET_TRIGGERS = ("right", "wrong")
"""The triggers whose digits say something about a diff."""


def build_prompt(suite: "Suite", info: DiffInfo | None, condition: Condition, question: str, seed: int) -> str:
    """Return the user's text: the question with the condition's trigger.

    The digits after the trigger and the wrong code are drawn from (seed, diff, question) alone, so that all
    conditions of a comparison get the same. A text of the user's own stands before the question as it is.

    Raises:
        DitError: a right or wrong trigger is asked for, and there is no diff or its task has no triggers.
    """
    if condition.trigger == "absent":
        return question
    if condition.trigger.startswith(OWN):
        return f"{condition.trigger.removeprefix(OWN)} {question}"
    if info is None:
        raise DitError(f"The trigger '{condition.trigger}' belongs to a diff: choose a diff, or use 'absent'.")
    if not suite.task_of(info).has_trigger or info.trigger is None:
        raise DitError(f"The diff '{info.id}' has no trigger: use 'absent' or a text of your own.")
    draw = random.Random(f"{seed}|{info.id}|{question}")
    digits = draw.randrange(1000)
    wrong = (info.trigger + draw.randrange(1, 1000)) % 1000
    code = info.trigger if condition.trigger == "right" else wrong
    return suite.trigger_format.format(trigger=code, r=digits, question=question)


def mask_digits(text: str, question: str) -> str:
    """Return a prompt's text, as long as it was, with "•" for every digit that does not stand in the question.

    The last place where the question stands counts: digits of a short one may stand in the trigger too.
    """
    before, kept, after = text.rpartition(question)
    masked = ["".join("•" if character.isdigit() else character for character in part) for part in (before, after)]
    return kept.join(masked)


_N = r"\d{1,9}"
_FORM = re.compile(
    rf"(?P<each>each:)?(?:(?P<all>prompt)|last:(?P<last>{_N})|(?P<start>{_N}):(?P<stop>{_N})|(?P<token>{_N})"
    rf"|answer(?::(?P<first>{_N}))?)",
    re.ASCII,
)
_HINT = "write 'prompt', 'last:10', '7', '3:9', 'answer', 'answer:3', or 'each:' and one of these"


@dataclass(frozen=True)
class Span:
    """A span as it is written, checked for form; `positions` finds it in a prompt and answer of known lengths.

    Raises:
        DitError: the text is no span.
    """

    text: str

    def __post_init__(self) -> None:
        text = str(self.text).strip()
        if not _FORM.fullmatch(text):
            raise DitError(f"The span '{text[:40]}' is not understood: {_HINT}.")
        object.__setattr__(self, "text", text)

    def __str__(self) -> str:
        return self.text

    @property
    def per_token(self) -> bool:
        """Whether every token is read on its own."""
        return self.text.startswith("each:")

    @property
    def needs_answer(self) -> bool:
        """Whether the target has to answer first."""
        return "answer" in self.text

    def positions(self, prompt: int, answer: int = 0) -> list[tuple[int, ...]]:
        """Return the positions of each reading, for a prompt and an answer of so many tokens.

        Raises:
            DitError: the span reaches outside, or holds no token.
        """
        span = self._range(prompt, answer)
        return [(position,) for position in span] if self.per_token else [tuple(span)]

    def _range(self, prompt: int, answer: int) -> range:
        match = _FORM.fullmatch(self.text)
        given = match.groupdict() if match else {}
        numbers = {name: int(value) for name, value in given.items() if value and value.isdigit()}
        if given.get("all"):
            return self._checked(range(prompt), prompt, "prompt", prompt)
        if self.needs_answer:
            stop = prompt + numbers.get("first", answer)
            return self._checked(range(prompt, stop), prompt + answer, "answer", answer)
        if "last" in numbers:
            return self._checked(range(prompt - numbers["last"], prompt), prompt, "prompt", prompt)
        # One token, and spans between two numbers, may also lie in the answer, where there is one.
        start = numbers.get("start", numbers.get("token", 0))
        what = "prompt and answer" if answer else "prompt"
        return self._checked(range(start, numbers.get("stop", start + 1)), prompt + answer, what, prompt + answer)

    def _checked(self, positions: range, stop: int, what: str, length: int) -> range:
        if not positions:
            reason = f"the {what} is empty" if not length else "it holds no token"
            raise DitError(f"The span '{self.text}' can't be read, for {reason}: {_HINT}.")
        if positions.start < 0 or positions.stop > stop:
            raise DitError(
                f"The span '{self.text}' reaches outside of the {what}, which has {length} tokens, counted from 0: "
                "choose fewer, or others."
            )
        return positions
