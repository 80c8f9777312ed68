"""What every row of the scoreboard is: a method that finds something out about diffs, part by part."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from dit_core.batching import MAX_DIFFS
from dit_core.experiments.ledger import Key, Ledger
from dit_core.experiments.progress import Tally
from dit_core.records import DiffInfo, Finding
from dit_core.suite import Suite


class Row(Protocol):
    """A method asked of the diffs of a task; `answers` is how many it takes at most, as progress counts them."""

    key: Key
    measures: Sequence[str]
    infos: Sequence[DiffInfo]
    answers: int

    def find(self, suite: Suite, ledger: Ledger, tally: Tally) -> Iterator[list[Finding]]:
        """Gives what `ledger` lacks, part by part. Whoever takes a part adds it to the ledger before the next."""


def parts(infos: Sequence[DiffInfo], size: int = MAX_DIFFS) -> Iterator[Sequence[DiffInfo]]:
    """The diffs by the batch: the most that a stopped run loses."""
    return (infos[start : start + size] for start in range(0, len(infos), size))
