"""What an oracle is made to read, and the ways of reading for which a suite's calibration stands."""

from dataclasses import dataclass, replace
from typing import Any

from dit_core.errors import DitError
from dit_core.methods.oracle.request import SPAN, checked_request
from dit_core.records import DiffInfo
from dit_core.records.condition import Condition
from dit_core.scoreboard.groups import Group
from dit_core.suite import Suite, Task
from dit_core.trust.controls import OTHER, Control, controls

Aimed = tuple[DiffInfo, Condition, str]
"""A diff, the condition that acts while it is read, and what it is asked then."""


@dataclass(frozen=True)
class Sight:
    """Which tokens and activations are read, and what the oracle is asked; `question` "" is its first preset."""

    span: str = SPAN
    kind: str = "with"
    question: str = ""
    answer_tokens: int | None = None

    @property
    def options(self) -> dict[str, Any]:
        """The same for `oracle.read`."""
        return {
            "span": self.span,
            "kind": self.kind,
            "question": self.question or None,
            "answer_tokens": self.answer_tokens,
        }


@dataclass(frozen=True)
class Way:
    """A way of reading that is calibrated: `own` says whether the diff is asked its task's own question."""

    condition: str
    span: str
    own: bool

    def __str__(self) -> str:
        return f"{self.condition}, {self.span}"

    @property
    def words(self) -> str:
        """The same for people."""
        return f"'{self.condition}' asked {'its own' if self.own else 'an everyday'} question ({self.span})"

    def fits(self, aimed: Aimed, sight: Sight, suite: Suite) -> bool:
        """Whether a reading is one of this way."""
        info, condition, asked = aimed
        own = asked == suite.task(info.task).question
        return (str(condition), own, sight) == (self.condition, self.own, self.sight(suite))

    def sight(self, suite: Suite) -> Sight:
        """What is read in this way."""
        return Sight(self.span, answer_tokens=suite.max_new_tokens if "answer" in self.span else None)

    def asked(self, suite: Suite, task: Task, infos: list[DiffInfo]) -> dict[str, str]:
        """What each diff is asked, by its id: everyday questions take turns."""
        return {info.id: task.question for info in infos} if self.own else Group(suite, infos).everyday


WAYS = (Way("diff+right", SPAN, False), Way("diff+right", "answer", False), Way("diff+dit", SPAN, True))


def ways(suite: Suite, task: Task) -> list[Way]:
    """Those in which a task's diffs can be read: diffs without a trigger would not be told by a topic question."""
    if suite.oracle is None or not task.has_trigger or not suite.world.get("held_out_questions"):
        return []
    return [way for way in WAYS if task.adapter or "dit" not in way.condition]


def sight_of(suite: Suite, diff: Any, sight: Sight, **where: Any) -> tuple[Sight, list[Aimed]]:
    """A checked sight and what is aimed at; DitError for what no confidence can be told of."""
    found = checked_request(suite, diff, **where, **sight.options)
    idle = next((condition for info, condition, _ in found.rows if info is None or not condition.strength), None)
    if idle is not None:
        raise DitError(f"Confidence is about a diff, and under '{idle}' none acts: name one, and a condition with it.")
    if found.span.per_token:
        raise DitError("Confidence is about one reading per layer: choose a span without 'each:'.")
    if found.kind == "without":
        raise DitError("Confidence is about a diff, and without it none is read: choose the kind 'with'.")
    question = "" if found.questions[0] == found.info.questions[0] else found.questions[0]
    return Sight(str(found.span), found.kind, question, found.answer_tokens or None), list(found.rows)


def controls_of(suite: Suite, aimed: Aimed, sight: Sight) -> dict[str, Aimed]:
    """The controls of a reading by kind: the same condition, asked the same, with another diff or none.

    Each has an id of its own, so that one diff can stand beside several. Copies keep the diff's trigger; another diff
    has its own.
    """
    info, condition, asked = aimed
    bare, found = replace(condition, strength=0.0), {}
    for kind, other in controls(suite, info, info.task).items():
        if other is not None:
            found[kind] = (stand_in(info, kind, other), condition, asked)
        elif sight.kind == "with" or condition.adapters:  # else nothing acts: there is no difference to read
            found[kind] = (info, bare, asked)
    return found


def stand_in(info: DiffInfo, kind: str, other: DiffInfo) -> Control:
    """What is read in the place of `info`: a control copy of it, or another diff."""
    if kind != OTHER:
        return replace(other, trigger=info.trigger)
    same_task = other.task == info.task
    trigger = other.trigger if same_task else info.trigger
    return Control(f"{info.id}~{other.id}", info.task, "control", other.rank, "", trigger, OTHER, other)
