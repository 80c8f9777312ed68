"""Jobs that run for one visitor: their states and results, streamed to them, and stopped at once by another event.

A job's newest result is kept in `result`, so that every other event sees it. One clock, `TimeLeft`, says of all of
them, of runs, sweeps and downloads, how long they may still take.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, Generic, TypeVar, overload

from dit_core.engine.worker import Stream, Worker, in_thread
from dit_core.errors import DitError
from dit_core.hub import watch_own_downloads
from dit_core.records import Table

S = TypeVar("S")
T = TypeVar("T")
FRAME = 0.08  # seconds between two looks of the page: a calm stream, and little work for the browser
LOOK = 0.03  # seconds at most until a stop counts


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
    """What was run, and how far it is; a subclass has what was found, each table in a field."""

    settings: S
    state: State = State.RUNNING
    failure: str = ""

    @property
    def tables(self) -> dict[str, Table[Any]]:
        """The tables so far that have any rows, by the names of their fields."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: table for name, table in found.items() if isinstance(table, Table) and table}


class Job:
    """Something that runs for a visitor: setting `stop` ends it, and `result` holds what it has so far."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.result: Any = None

    def begin(self) -> threading.Event:
        """End what runs here and return the stop signal of what starts now."""
        self.stop.set()
        self.stop = threading.Event()
        return self.stop


@dataclass(frozen=True)
class QueuePosition:
    """A visitor's position in the queue for the model: `ahead` requests come first."""

    ahead: int

    def __str__(self) -> str:
        return f"{self.ahead} request{'s' if self.ahead > 1 else ''} before yours…"


@overload
def follow(items: Generator[T, None, None], stop: threading.Event, frame: float = FRAME) -> Iterator[T]: ...


@overload
def follow(
    items: Generator[T, None, None], stop: threading.Event, frame: float = FRAME, *, worker: Worker
) -> Iterator[T | QueuePosition]: ...


def follow(
    items: Generator[T, None, None], stop: threading.Event, frame: float = FRAME, *, worker: Worker | None = None
) -> Iterator[T | QueuePosition]:
    """Yield the newest of `items`, at most one per `frame` seconds, until they end or `stop` is set.

    A stop, or closing this iterator, takes effect at once, even while the next item is being made; `items` is then
    closed at its next item. Its errors are raised here. The stream of a worker is read as it is; a generator that makes
    several requests runs in a thread. With the `worker` that does the work, the visitor's `QueuePosition` is yielded
    too, whenever it changes before the first item.
    """
    client, ahead = worker.client_id() if worker else None, 0
    with items if isinstance(items, Stream) else in_thread(items) as stream:
        while not stop.is_set():
            try:
                item = stream.latest(LOOK)
            except StopIteration:
                return
            if item is not None:
                worker = None
                yield item
                stop.wait(0 if stream.ended else frame)
            elif worker and ahead != (ahead := worker.jobs_ahead(client)) and ahead:
                yield QueuePosition(ahead)


@contextmanager
def downloads_until(stop: threading.Event) -> Iterator[None]:
    """While the context is open, end the downloads that are begun in it at the first bytes after `stop` is set.

    Raises:
        DitError: a download was ended.
    """

    def end_if_stopped(done: int, total: int, what: str) -> None:
        if stop.is_set():
            raise DitError(f"Stopped while '{what}' was downloaded: ask again to go on with it.")

    with watch_own_downloads(end_if_stopped):
        yield


class TimeLeft:
    """An estimate of the seconds that work still takes, from its speed since the clock started.

    It starts with the first call of `seconds`, so that what is loaded before the first result does not count, or with
    `start`; and anew where the total changes. No estimate is given before `patience` seconds, nor before any progress.
    """

    def __init__(self, patience: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._patience, self._clock = patience, clock
        self._started: tuple[float, float, float] | None = None  # the time, and what was done of what total

    def start(self, total: float, done: float = 0.0) -> None:
        """Start the clock now."""
        self._started = self._clock(), done, total

    def seconds(self, done: float, total: float) -> float | None:
        """Return the seconds that the rest of `total` may take (1 or more), or None while nothing is known."""
        if self._started is None or self._started[2] != total:
            self.start(total, done)
        started, before, _ = self._started or (0.0, 0.0, 0.0)
        elapsed, progress = self._clock() - started, done - before
        if progress <= 0 or elapsed < self._patience:
            return None
        return max(elapsed / progress * (total - done), 1.0)

    def words(self, done: float, total: float) -> str:
        """Return ', about 3 s left' or ', about 2 min left'; "" while nothing is known."""
        left = self.seconds(done, total)
        if left is None:
            return ""
        return f", about {left / 60:.0f} min left" if left >= 90 else f", about {left:.0f} s left"
