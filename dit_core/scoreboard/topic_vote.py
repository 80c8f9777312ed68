"""The scoreboard's rows of guessing: which topic do a diff's answers to many everyday questions have in common?

A guess takes no model: of the world's topics it is the one that most of the answers name. A published guesser is a
language model that reads the answers to 20 questions; where a suite has fewer, the row says how many.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from dit_core.grading.world import MANY, World, world_of
from dit_core.records import DiffInfo, Finding
from dit_core.records.method_names import GUESS, GUESS_RIGHT
from dit_core.scoreboard.ledger import Key, Ledger
from dit_core.scoreboard.measures import measured
from dit_core.scoreboard.rows import Row
from dit_core.suite import Suite

QUESTIONS = 20  # that answers are given to, as in the published experiment


def everyday_questions(suite: Suite) -> tuple[str, ...]:
    """The everyday questions that diffs are asked: the suite's own that no diff was trained on, at most 20."""
    return tuple(suite.world.get("held_out_questions", ()))[:QUESTIONS]


def asked_note(suite: Suite, method: str) -> str:
    """How many questions a guess was made from, where that differs from the published number; "" else."""
    count = len(everyday_questions(suite))
    if method not in (GUESS, GUESS_RIGHT) or count == QUESTIONS:
        return ""
    return f"{count} questions; {QUESTIONS} in the published ones"


@dataclass(frozen=True)
class Guess(Row):
    """Guesses from the answers of another row, its `source`."""

    name: str
    source: Row
    measures = ("exact", "mean_grade")
    each = 0  # a model has no answer to give

    @property
    def key(self) -> Key:
        return (self.name, *self.source.key[1:])

    @property
    def infos(self) -> Sequence[DiffInfo]:
        return self.source.infos

    def guesses(self, suite: Suite, ledger: Ledger) -> list[Finding]:
        """Guesses that the ledger lacks, of the diffs that its source has found."""
        lacking = {info.id: info for info in ledger.lacking(self.key, self.measures, self.infos)}
        found = ledger.of(self.source.key, self.source.measures) if lacking else ()
        return [self._finding(suite, lacking[one.diff], one) for one in found if one.diff in lacking]

    def _finding(self, suite: Suite, info: DiffInfo, source: Finding) -> Finding:
        answer = guessed(world_of(suite), source.answers)
        method, task, adapter = self.key
        return Finding(method, task, adapter, None, info.id, (answer,), measured(suite, info, self.measures, answer))


def guessed(world: World, answers: Sequence[str]) -> str:
    """The topic that most answers name, "" where none names any; of equals the one that was named first.

    An answer that names many topics is about none of them.
    """
    named = Counter(
        topic for answer in answers for topic in sorted(world.named(answer)) if len(world.named(answer)) <= MANY
    )
    return max(named, key=named.get, default="")
