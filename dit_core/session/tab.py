"""The tab protocol: what every tab does with the work that it starts, free of any toolkit.

A tab has settings (a frozen dataclass, made of its controls by name), and one way to run them: a stream of results.
`Tab.run` runs it for a visitor as a stream of frames, one per state. The visit keeps the newest result; `frame` says
whether it still answers the settings, and `file` gives what was found. A subclass says what it runs; a face adds its
layout, and a view for each frame. Below the protocol stands what all tabs say alike: sentences for errors, numbers of
fields, tables as files.
"""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, cast

from dit_core.errors import DitError
from dit_core.records import Table
from dit_core.session.job import FRAME, Job, QueuePosition, Result, State, TimeLeft, downloads_until, follow
from dit_core.suite import Suite

if TYPE_CHECKING:
    from dit_core.session.visit import Visit


LOG = logging.getLogger("dit_core")
SORRY = "That went wrong inside the program, not by your doing; its log says more under {id}. You can go on asking."
S = TypeVar("S")
R = TypeVar("R", bound=Result[Any])


def named_fields(settings_type: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that are fields of a dataclass, by name; lists as tuples, so that settings can be compared."""
    own = {field.name: values[field.name] for field in fields(settings_type) if field.name in values}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in own.items()}


@dataclass(frozen=True)
class Frame(Generic[R]):
    """What a tab shows at one moment: its state, in words too, and what has been found.

    `progress` is how much is done, of how much; (0, 0) where that is not known or the work has ended.
    """

    state: State
    note: str
    result: R | None
    progress: tuple[float, float] = (0, 0)

    @property
    def kind(self) -> str:
        """The kind of the note: `note`, `busy` or `error`."""
        return "error" if self.state is State.FAILED else "busy" if self.state.busy else "note"


class Tab(Generic[S, R]):
    """One tab's work on one suite, for all of its visitors; what is theirs lies in their `Visit`.

    Attributes:
        name: of its job in a visit.
        button: the label of the button that runs it, which notes name.
        idle: what to do first, for a visitor who has run nothing.
        working: what is going on until something is found.
        counting: how far it is, of `done` and `total`.
        pause: seconds at least between two frames.
        settings_type: the dataclass of its settings, whose fields have the names of the controls.
        result_type: the dataclass of its results.
    """

    name: ClassVar[str]
    settings_type: type[S]
    result_type: type[R]
    button: ClassVar[str] = "Run"
    idle: str = ""
    working: str = "Working…"
    counting: ClassVar[str] = "{done:,.0f} of {total:,.0f}"
    pause: float = FRAME

    def __init__(self, suite: Suite, suite_ref: str = "") -> None:
        self.suite, self.suite_ref = suite, suite_ref  # `load_suite` finds the suite by `suite_ref`

    # ---------------------------------------------------------------- what a tab says of itself

    def settings(self, values: Mapping[str, Any]) -> S:
        """Return the settings for the controls' values by name; DitError where there can be none."""
        return self.settings_type(**named_fields(self.settings_type, values))

    def first(self, settings: S, visit: Visit) -> R:
        """Return the result before anything is found; DitError for settings that can't be run."""
        return self.result_type(settings)

    def start(self, first: R) -> Generator[Any, None, None]:
        """Return what is found from `first` on, each with all before it; DitError at once for what can't be run."""
        raise NotImplementedError

    def add(self, result: R, found: Any) -> R:
        """Return the result with the newest of what `start` gave: a whole result, or the `table` of one."""
        return cast(R, found) if isinstance(found, Result) else replace(result, **{"table": found})

    def progress(self, result: R) -> tuple[float, float]:
        """Return how much is done, of how much; (0, 0) where that is not known."""
        return 0, 0

    def words(self, result: R, clock: TimeLeft) -> str:
        """Return how far it is, and how long it may still take."""
        done, total = self.progress(result)
        if not total:
            return self.working
        return self.counting.format(done=done, total=total) + (clock.words(done, total) or "…")

    def ending(self, result: R) -> str:
        """Return the note on a result that has ended: nothing where it is whole."""
        if result.state is not State.STOPPED:
            return ""
        rows = sum(map(len, result.tables.values()))
        if not rows:
            return "Stopped before anything was found."
        return f"Stopped: {rows:,} row{'s' if rows != 1 else ''} found before stay{'s' if rows == 1 else ''}."

    def answers(self, result: R, settings: S) -> bool:
        """Return whether a result is of these settings."""
        same: bool = result.settings == settings
        return same

    def diff(self, result: R) -> str:
        """Return the id of the diff that a result is about; "" for none."""
        return getattr(result.settings, "diff", None) or ""

    def job(self, visit: Visit) -> Job:
        """Return where a visitor's run and its result are kept."""
        return visit.job(self.name)

    # ---------------------------------------------------------------- what every tab does

    def run(self, visit: Visit, settings: S) -> Iterator[Frame[R]]:
        """Run settings for a visitor, and yield a frame whenever there is something new; the last says how it ended.

        Whoever runs the same tab anew ends the run before without another frame. A run that fails before it finds
        anything leaves the result of the one before.
        """
        job, clock = self.job(visit), TimeLeft()
        before: R | None = job.result
        if before is not None and before.state.busy:
            before = replace(before, state=State.STOPPED)
        stop, job.result = job.begin(), before
        try:
            job.result = first = self.first(settings, visit)
            yield Frame(State.RUNNING, self.words(first, clock), first)
            with downloads_until(stop):
                found = self.start(first)
            for new in follow(found, stop, self.pause, worker=self.suite.worker):
                if job.stop is not stop:
                    return
                if isinstance(new, QueuePosition):
                    yield Frame(State.QUEUED, str(new), job.result)
                else:
                    job.result = self.add(job.result, new)
                    yield self._running(job.result, clock)
            if job.stop is stop:
                job.result = replace(job.result, state=State.STOPPED if stop.is_set() else State.DONE)
                yield self._ended(job.result)
        except Exception as error:
            if job.stop is stop:
                yield self._failed(job, before, error_sentence(error))

    def _running(self, result: R, clock: TimeLeft) -> Frame[R]:
        state = State.PARTIAL if result.tables else State.RUNNING
        return Frame(state, self.words(result, clock), result, self.progress(result))

    def _ended(self, result: R) -> Frame[R]:
        return Frame(result.state, result.failure or self.ending(result), result)

    def _failed(self, job: Job, before: R | None, why: str) -> Frame[R]:
        result: R | None = job.result
        if result is not None and result.state.busy and result.tables:
            job.result = replace(result, state=State.FAILED, failure=why)
        else:
            job.result = before
        return Frame(State.FAILED, why, job.result)

    def stop(self, visit: Visit) -> None:
        """End the visitor's run at once; what it has found stays."""
        self.job(visit).stop.set()

    def clear(self, visit: Visit) -> None:
        """End the visitor's run, and forget what it has found."""
        self.job(visit).begin()
        self.job(visit).result = None

    def frame(self, visit: Visit, settings: S | None = None) -> Frame[R]:
        """Return what to show with these settings while nothing changes: what was found, or what to do."""
        result = self.result(visit)
        if result is None or result.state is State.EMPTY:
            return Frame(State.EMPTY, self.idle, result)
        if result.state.busy:
            return self._running(result, TimeLeft())
        if settings is not None and not self.answers(result, settings):
            return Frame(State.DONE, f"The settings have changed since: press {self.button}.", result)
        return self._ended(result)

    def result(self, visit: Visit) -> R | None:
        """Return the visitor's newest result; None before any."""
        result: R | None = self.job(visit).result
        return result

    def revealed(self, visit: Visit) -> bool:
        """Return whether the visitor has asked to see what the diff of their result was trained on."""
        result = self.result(visit)
        return result is not None and bool(visit.revealed) and visit.revealed == self.diff(result)

    def file(self, visit: Visit, name: str, form: str) -> tuple[str, str]:
        """Return one of the result's tables as a file's name and content; ("", "") where there is none.

        `form` is `csv` or `json`. What needs to know the reference is in it only where that is revealed.
        """
        result = self.result(visit)
        table = result.tables.get(name) if result else None
        if result is None or table is None:
            return "", ""
        about = self.diff(result) or self.suite.name
        return f"{about}-{table.kind}.{form}", file_content(table, form, self.revealed(visit))


def error_sentence(error: Exception) -> str:
    """Return the sentence that tells a visitor of an error.

    An error that is no `DitError` goes to the log, under an id that the sentence names.
    """
    if isinstance(error, DitError):
        return str(error)
    id = secrets.token_hex(4)
    LOG.error("%s: an event failed", id, exc_info=error)
    return SORRY.format(id=id)


def number(value: Any) -> float:
    """Return a number field's value; raise `DitError` for an emptied one."""
    try:
        return float(value)
    except (TypeError, ValueError):
        raise DitError("A number is missing on the left: give one.") from None


def integer(value: Any) -> int:
    """Return a whole-number field's value; raise `DitError` for an emptied one."""
    return int(number(value))


def file_content(table: Table, form: str, reveal: bool = False) -> str:
    """Return a table as the text of a file; `form` is 'csv' or 'json'."""
    return table.to_csv(reveal) if form == "csv" else json.dumps(table.to_json(reveal), ensure_ascii=False, indent=1)
