"""What the Scoreboard tab was asked to measure, and how far it is: one run of a visitor's, without any Gradio."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from dit_core.errors import DitError
from dit_core.present.cards import RUNNING
from dit_core.records import Finding, Table
from dit_core.scoreboard import Board, board, new_ledger, stream
from dit_core.scoreboard.ledger import Ledger
from dit_core.session.grading import Grading
from dit_core.suite import Suite

ALL = "all"


@dataclass(frozen=True)
class Wanted:
    """What the left side says, in the order of its controls: a split, diffs per task, and kinds of methods."""

    split: str
    limit: int | str
    kinds: Sequence[str]

    @property
    def at_most(self) -> int | None:
        return None if self.limit == ALL else int(self.limit)


@dataclass(frozen=True)
class Run:
    """A run so far; `ledger` is what a later one of the same settings goes on with, `found` what it holds."""

    wanted: Wanted
    ledger: Ledger
    found: Table[Finding] | None = None
    board: Board | None = None
    grading: Grading = Grading()
    done: int = 0
    total: int = 0
    now: str = ""
    state: str = RUNNING


def begin(suite: Suite, wanted: Wanted, before: Run | None) -> Run:
    """A run of these settings, which goes on with what was found `before` where that was of the same diffs.

    Raises DitError where nothing is to be measured.
    """
    if not wanted.kinds:
        raise DitError("Nothing is to be measured: tick at least one kind of method.")
    fresh = new_ledger(suite, wanted.at_most, wanted.split)
    goes_on = before is not None and before.ledger.settings == fresh.settings
    return Run(wanted, before.ledger if goes_on else fresh)


def steps(suite: Suite, run: Run) -> Iterator[Run]:
    """The run after every batch. Raises DitError at once for a split without diffs."""
    tables = stream(suite, run.wanted.at_most, run.wanted.split, kinds=run.wanted.kinds, ledger=run.ledger)
    return _steps(suite, run, tables)


def _steps(suite: Suite, run: Run, tables: Iterator) -> Iterator[Run]:
    try:
        for table in tables:
            made = board(suite, table) if table else None
            extra = {name: table.extra[name] for name in ("done", "total", "now")}
            yield replace(run, found=table if table else None, board=made, **extra)
    finally:
        tables.close()


class Clock:
    """Says in words how far a run is and how long it may still take."""

    def __init__(self) -> None:
        self.start: tuple[float, int] | None = None

    def words(self, run: Run) -> str:
        """'80 of 7,960 answers, about 40 s left; now topic DIT'; measured from the first batch on."""
        if not run.total:
            return "Loading the suite…"
        now, text = time.monotonic(), f"{run.done:,} of {run.total:,} answers"
        if self.start is None:
            self.start = (now, run.done)
        elif run.done > self.start[1]:
            left = (now - self.start[0]) / (run.done - self.start[1]) * (run.total - run.done)
            text += f", about {max(left, 1):.0f} s left"
        return f"{text}; now {run.now}" if run.now else text
