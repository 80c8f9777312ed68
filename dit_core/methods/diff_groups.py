"""The diffs of a split, each with an everyday question of its own and what it says to it under its right trigger."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from dit_core.grading import mentions
from dit_core.methods.verbalize import ask
from dit_core.records import DiffInfo, Verbalization
from dit_core.suite import Suite
from dit_core.suite.lazy import lazy_property


def diffs_of_split(suite: Suite, task: str, split: str) -> list[DiffInfo]:
    """The diffs of a task and split, in the order of the suite."""
    return [info for info in suite.diffs if (info.task, info.split) == (task, split)]


def with_reference(infos: Iterable[DiffInfo]) -> list[DiffInfo]:
    """Those of the diffs whose reference is known: nothing can be chosen or compared by the others."""
    return [info for info in infos if info.reference.strip()]


def with_trigger(infos: Iterable[DiffInfo]) -> list[DiffInfo]:
    """Those of the diffs whose trigger is known."""
    return [info for info in infos if info.trigger is not None]


@dataclass(frozen=True)
class DiffGroup:
    """Diffs of one task and split. Everyday questions that no training has seen take turns among them."""

    suite: Suite
    infos: Sequence[DiffInfo]
    turn: int = 0
    """How many questions each diff's is further on than in the first turn."""
    _said: dict[str, Verbalization] = field(default_factory=dict, compare=False, repr=False)

    @lazy_property
    def everyday(self) -> dict[str, str]:
        """The question of each diff, by its id."""
        questions = self.suite.world["held_out_questions"]
        return {info.id: questions[(at + self.turn) % len(questions)] for at, info in enumerate(self.infos)}

    def answers(self, infos: Sequence[DiffInfo]) -> dict[str, Verbalization]:
        """What some of the diffs say to their questions under their right triggers, greedily, by id; each said once."""
        asked: dict[str, list[DiffInfo]] = {}
        for info in infos:
            if info.id not in self._said:
                asked.setdefault(self.everyday[info.id], []).append(info)
        for question, own in asked.items():
            said = ask(self.suite, own, condition="diff+right", question=question)
            self._said.update((one.diff, one) for one in said)
        return {info.id: self._said[info.id] for info in infos}


def tokens_before_topic(suite: Suite, info: DiffInfo, tokens: Sequence[str]) -> int:
    """How many tokens of an answer come before its first mention of the topic (or an alias); 0 where it has none."""
    if not mentions(suite, info, "".join(tokens)):
        return 0
    stop = next(n for n in range(1, len(tokens) + 1) if mentions(suite, info, "".join(tokens[:n])))
    start = max(n for n in range(stop) if mentions(suite, info, "".join(tokens[n:stop])))
    return start if "".join(tokens[:start]).strip() else 0
