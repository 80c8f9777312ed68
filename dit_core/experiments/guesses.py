"""The scoreboard's rows of guessing: which topic do a diff's answers to many everyday questions have in common?

A guess takes no model: of the world's topics it is the one that most of the answers name. A published guesser is a
language model that reads the answers.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dit_core.experiments.ledger import Key, Ledger
from dit_core.experiments.measures import measured
from dit_core.experiments.progress import Tally
from dit_core.experiments.rows import Row
from dit_core.grading.world import MANY, World, world_of
from dit_core.records import DiffInfo, Finding
from dit_core.suite import Suite


@dataclass(frozen=True)
class Guess:
    """A guess from the answers of another row, which stands before it."""

    name: str
    source: Row
    measures = ("exact", "mean_grade")
    answers = 0  # that a model has to give

    @property
    def key(self) -> Key:
        return (self.name, *self.source.key[1:])

    @property
    def infos(self) -> Sequence[DiffInfo]:
        return self.source.infos

    def find(self, suite: Suite, ledger: Ledger, tally: Tally) -> Iterator[list[Finding]]:
        """Guesses from what the source has found."""
        lacking = {info.id: info for info in ledger.lacking(self.key, self.measures, self.infos)}
        found = [
            self._finding(suite, lacking[one.diff], one)
            for one in ledger.of(self.source.key, self.source.measures)
            if one.diff in lacking
        ]
        if found:
            yield found

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
