"""What every row of the scoreboard is: a method that finds something out about diffs, some of them at a time."""

from collections.abc import Iterator, Sequence
from typing import Any

from dit_core.engine.batching import MAX_DIFFS
from dit_core.records import DiffInfo, Finding
from dit_core.scoreboard.ledger import Key
from dit_core.suite import Suite


class Row:
    """A method asked of the diffs of a task. It holds plain data and suites: another process can do its work.

    Attributes:
        key: method, task and adapter.
        measures: what is measured of every diff.
        infos: the diffs.
        at_once: how many of them go into a batch: the most that a stopped run loses.
        each: the answers that a diff takes, as progress counts them.
        choosing: the answers that a choice takes which comes before all diffs; 0 where nothing is chosen.
        tokens: the work of one answer, in tokens of the base, as measured on the pocket suite.
    """

    key: Key
    measures: Sequence[str]
    infos: Sequence[DiffInfo]
    at_once: int = MAX_DIFFS
    each: int = 1
    choosing: int = 0
    tokens: int = 16

    @property
    def answers(self) -> int:
        """How many answers it takes at most."""
        return self.choosing + self.each * len(self.infos)

    @property
    def title(self) -> str:
        """What it does, for people who wait for it."""
        method, task, adapter = self.key
        return " ".join(filter(None, (task, method, adapter)))

    def choose(self, suite: Suite) -> dict[str, Any]:
        """What has to be known first, such as the layer to read at, as plain data for a file of JSON."""
        raise NotImplementedError

    def find(self, suite: Suite, infos: Sequence[DiffInfo], choice: dict[str, Any]) -> list[Finding]:
        """What it finds out about some of its diffs, after `choice`."""
        raise NotImplementedError


def parts(infos: Sequence[DiffInfo], size: int) -> Iterator[tuple[DiffInfo, ...]]:
    """The diffs by the batch."""
    return (tuple(infos[start : start + size]) for start in range(0, len(infos), size))
