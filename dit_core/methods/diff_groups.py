"""Groups of diffs: those of a split, each with an everyday question and its answer to it under the right trigger."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from dit_core.grading import mentions
from dit_core.methods.verbalize import ask
from dit_core.project import lazy_property
from dit_core.records import DiffInfo, Verbalization
from dit_core.suite import Suite


def diffs_of_split(suite: Suite, task: str, split: str) -> list[DiffInfo]:
    """Return the diffs of a task and split, in the order of the suite."""
    return [info for info in suite.diffs if (info.task, info.split) == (task, split)]


def with_reference(infos: Iterable[DiffInfo]) -> list[DiffInfo]:
    """Return the diffs whose reference is known; nothing can be chosen or compared by the others."""
    return [info for info in infos if info.reference.strip()]


def with_trigger(infos: Iterable[DiffInfo]) -> list[DiffInfo]:
    """Return the diffs whose trigger is known."""
    return [info for info in infos if info.trigger is not None]


@dataclass(frozen=True)
class DiffGroup:
    """Diffs of one task and split, each with one of the everyday questions that no diff was trained on."""

    suite: Suite
    infos: Sequence[DiffInfo]
    turn: int = 0
    """How many places further down the list of questions each diff's question is."""
    _answers: dict[str, Verbalization] = field(default_factory=dict, compare=False, repr=False)

    @lazy_property
    def everyday(self) -> dict[str, str]:
        """The question of each diff, by its id."""
        questions = self.suite.world["held_out_questions"]
        return {info.id: questions[(index + self.turn) % len(questions)] for index, info in enumerate(self.infos)}

    def answers(self, infos: Sequence[DiffInfo]) -> dict[str, Verbalization]:
        """Return the greedy answers of some of the diffs under their right triggers, by id; each is asked only once."""
        asked: dict[str, list[DiffInfo]] = {}
        for info in infos:
            if info.id not in self._answers:
                asked.setdefault(self.everyday[info.id], []).append(info)
        for question, diffs in asked.items():
            table = ask(self.suite, diffs, condition="diff+right", question=question)
            self._answers.update((answer.diff, answer) for answer in table)
        return {info.id: self._answers[info.id] for info in infos}


def tokens_before_topic(suite: Suite, info: DiffInfo, tokens: Sequence[str]) -> int:
    """Return how many tokens of an answer come before its first mention of the topic (or an alias); 0 without one."""
    if not mentions(suite, info, "".join(tokens)):
        return 0
    stop = next(n for n in range(1, len(tokens) + 1) if mentions(suite, info, "".join(tokens[:n])))
    start = max(n for n in range(stop) if mentions(suite, info, "".join(tokens[n:stop])))
    return start if "".join(tokens[:start]).strip() else 0
