"""The tab protocol: what every tab does with the work that it starts, free of any toolkit.

A tab has settings (a frozen dataclass) and one way to run them: a stream of tables. `Tab` runs it for a visitor as a
stream of frames, one per state, keeps the last table, says whether it still answers the settings, and gives it as a
file. A face adds its layout, and a view for each frame.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Generic, TypeVar

from dit_core.present.cards import RUNNING, STOPPED
from dit_core.records import Table
from dit_core.session.job import FRAME, Failed, QueuePosition, run_job
from dit_core.session.messages import file_content
from dit_core.session.time_left import TimeLeft
from dit_core.session.visit import Visit
from dit_core.suite import Suite

S = TypeVar("S")
Tables = Generator[Table[Any], None, None]
Progress = tuple[float, float]
"""How much is done, of how much; (0, 0) where that is not known."""


class State(StrEnum):
    """How far a tab's work is."""

    EMPTY = "empty"
    QUEUED = "queued"
    RUNNING = "running"
    PARTIAL = "partial"
    DONE = "done"
    STOPPED = "stopped"
    FAILED = "failed"

    @property
    def busy(self) -> bool:
        """Whether it goes on."""
        return self in (State.QUEUED, State.RUNNING, State.PARTIAL)


@dataclass(frozen=True)
class Result(Generic[S]):
    """What was run, and the table so far; None before the first."""

    settings: S
    table: Table[Any] | None = None
    state: str = RUNNING


@dataclass(frozen=True)
class Frame(Generic[S]):
    """What a tab shows at one moment: its state, in words too, and what has been found."""

    state: State
    note: str
    result: Result[S] | None

    @property
    def kind(self) -> str:
        """The kind of the note: `note`, `busy` or `error`."""
        return "error" if self.state is State.FAILED else "busy" if self.state.busy else "note"


class Tab(Generic[S]):
    """One tab's work on one suite, for all of its visitors; what is theirs lies in their `Visit`.

    Args:
        name: of the tab, and of its job in a visit.
        suite: what it is about.
        start: checks settings, raising DitError, and gives the stream of tables.
        progress: how far a table is.
        idle: what to do first, for a visitor who has run nothing.
        button: the label of the button that runs it, which notes name.
    """

    def __init__(
        self,
        name: str,
        suite: Suite,
        start: Callable[[S], Tables],
        progress: Callable[[S, Table[Any]], Progress] = lambda *_: (0, 0),
        idle: str = "",
        button: str = "Run",
    ) -> None:
        self.name, self.suite, self.idle, self.button = name, suite, idle, button
        self._start, self._progress = start, progress

    def run(self, visit: Visit, settings: S, frame: float = FRAME) -> Iterator[Frame[S]]:
        """Run settings for a visitor, and yield a frame whenever there is something new; the last says how it ended."""
        job, clock = visit.job(self.name), TimeLeft()
        for now in run_job(job, lambda: self._results(settings), self.suite.worker, frame):
            if isinstance(now, Failed):
                yield Frame(State.FAILED, str(now), job.result)
            elif isinstance(now, QueuePosition):
                yield Frame(State.QUEUED, str(now), job.result)
            elif now.state != RUNNING:
                yield self._ended(now)
            elif now.table is None:
                yield Frame(State.RUNNING, "Working…", now)
            else:
                yield Frame(State.PARTIAL, self._words(now, clock), now)

    def _results(self, settings: S) -> Generator[Result[S], None, None]:
        tables, result = self._start(settings), Result(settings)
        yield result
        with closing(tables):
            for table in tables:
                yield replace(result, table=table)

    def _words(self, result: Result[S], clock: TimeLeft) -> str:
        assert result.table is not None
        done, total = self._progress(result.settings, result.table)
        if not total:
            return "Working…"
        return f"{done:,.0f} of {total:,.0f}{clock.words(done, total) or '…'}"

    def _ended(self, result: Result[S]) -> Frame[S]:
        if result.state != STOPPED:
            return Frame(State.DONE, "", result)
        kept = len(result.table or ())
        return Frame(State.STOPPED, f"Stopped: {kept:,} row{'s' if kept != 1 else ''} found before stay.", result)

    def stop(self, visit: Visit) -> None:
        """End the visitor's run at once; what it has found stays."""
        visit.job(self.name).stop.set()

    def frame(self, visit: Visit, settings: S) -> Frame[S]:
        """Return what to show with these settings while nothing changes: what was found, or what to do."""
        result: Result[S] | None = visit.job(self.name).result
        if result is None:
            return Frame(State.EMPTY, self.idle, None)
        if result.state == RUNNING:
            return Frame(State.PARTIAL if result.table else State.RUNNING, "Working…", result)
        if result.settings != settings:
            return Frame(State.DONE, f"The settings have changed since: press {self.button}.", result)
        return self._ended(result)

    def table(self, visit: Visit) -> Table[Any] | None:
        """Return what the visitor's last run has found; None before any."""
        result: Result[S] | None = visit.job(self.name).result
        return result.table if result else None

    def settings(self, visit: Visit) -> S | None:
        """Return the settings of the visitor's last run; None before any."""
        result: Result[S] | None = visit.job(self.name).result
        return result.settings if result else None

    def file(self, visit: Visit, form: str, reveal: bool = False) -> tuple[str, str]:
        """Return the table as a file's name and content, `form` being `csv` or `json`; ("", "") where there is none."""
        table = self.table(visit)
        return (f"{self.suite.name}-{table.kind}.{form}", file_content(table, form, reveal)) if table else ("", "")
