"""What runs for one visitor: streamed, and stopped at once from another event.

Each visitor has a `Session` of their own in a `gr.State`, shared by all tabs; nothing about a visitor lives elsewhere.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, TypeVar

from dit_core.engine.worker import Worker
from dit_core.methods.comparison import Column
from dit_core.records import Confidence, Table, Verbalization
from dit_core.session.settings import Settings

T = TypeVar("T")
PANEL = "panel"  # the work that reads what the cards show
EVIDENCE = "evidence"  # the work that weighs what they say
FRAME = 0.08  # seconds between two looks of the page: a calm stream, and little work for the browser


@dataclass(frozen=True)
class Result:
    """What the cards show: the settings asked, the columns, the answers so far, and how far it came."""

    settings: Settings
    columns: tuple[Column, ...]
    table: Table[Verbalization]
    state: str
    stored: bool = False
    evidence: tuple[Confidence, ...] = ()  # for the cards of as many DIT adapters
    weighing: str = ""  # what stands in the place of evidence that is not there


class Work:
    """One thing that runs for a visitor: setting `stop` ends it; `found` is what it has found, as its tab keeps it."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.found: Any = None

    def begin(self) -> threading.Event:
        """Ends what is running here and gives the stop signal of what starts now."""
        self.stop.set()
        self.stop = threading.Event()
        return self.stop


class Session(Work):
    """What one visitor sees; as a `Work`, their running question. `revealed` is the id of the diff they revealed.

    `opening` says what follows once the controls are set: 'ask', 'stored' (the suite's first run) or nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.result: Result | None = None
        self.revealed = ""
        self.recent: list[tuple[str, str]] = []
        self.opening = ""
        self._works: dict[str, Work] = {}
        self._came: dict[str, str] = {}
        self._goodbyes: list[Callable[[], None]] = []
        self._leaving = threading.Lock()
        self.visit = object()  # another one each time they go

    def __deepcopy__(self, memo: dict) -> Session:
        return Session()  # Gradio copies a state's first value once per visitor: each starts with nothing

    def begin(self) -> threading.Event:
        """As any work; what is read for the answers so far ends too, and is forgotten."""
        panel = self.work(PANEL)
        panel.begin()
        panel.found = None
        self.work(EVIDENCE).stop.set()
        return super().begin()

    def work(self, name: str) -> Work:
        """What else runs for this visitor beside their question, by name; each is stopped on its own."""
        return self._works.setdefault(name, Work())

    def brings(self, tab: str, here: str) -> str:
        """The diff for a tab they come to, which has `here`: Explore's, where that is another than last time."""
        diff = self.result.settings.diff if self.result else here
        new, self._came[tab] = self._came.get(tab) != diff, diff
        return diff if new else here

    def at_leaving(self, goodbye: Callable[[], None], visit: object) -> bool:
        """Has something done when the visitor goes; at once, and False, where their `visit` has ended meanwhile."""
        with self._leaving:
            if here := visit is self.visit:
                self._goodbyes.append(goodbye)
        if not here:
            goodbye()
        return here

    def leave(self) -> None:
        """The visitor has gone: nothing goes on for them."""
        with self._leaving:
            self.visit, goodbyes, self._goodbyes = object(), self._goodbyes, []
        for work in (self, *self._works.values()):
            work.stop.set()
        for goodbye in goodbyes:
            goodbye()

    def remember(self, label: str, query: str, keep: int = 8) -> None:
        """Puts a question at the top of the recent list, once."""
        self.recent = [(label, query), *(entry for entry in self.recent if entry[1] != query)][:keep]


@dataclass(frozen=True)
class Place:
    """A visitor's place in the line for the model: how many requests come first."""

    ahead: int

    def __str__(self) -> str:
        return f"{self.ahead} request{'s' if self.ahead > 1 else ''} before yours…"


def follow(
    items: Iterator[T], stop: threading.Event, frame: float = FRAME, line: Worker | None = None
) -> Iterator[T | Place]:
    """The newest of `items`, at most one per `frame` seconds, until they end or `stop` is set.

    The items are read in a thread, so that a stop (or a reader gone) counts at once, even while the next item
    takes its time; the iterator behind them is closed at its next item. Its errors are raised here. With `line`, the
    worker that they wait for, also gives the `Place` in it whenever that changes before the first item.
    """
    client, ahead = line.client() if line else None, 0
    arrived: queue.SimpleQueue = queue.SimpleQueue()
    gone = threading.Event()

    def pump() -> None:
        try:
            for item in items:
                arrived.put(("item", item))
                if stop.is_set() or gone.is_set():
                    break
            arrived.put(("end", None))
        except BaseException as error:  # whatever it is, it belongs to the reader
            arrived.put(("error", error))
        finally:
            items.close()

    # In this context: whose request it is counts there too.
    threading.Thread(target=copy_context().run, args=[pump], daemon=True, name="dit-follow").start()
    try:
        word = "item"
        while word == "item" and not stop.is_set():
            newest = _take_all(arrived)
            word = newest[-1][0] if newest else "item"
            items_now = [value for kind, value in newest if kind == "item"]
            if items_now:
                line = None
                yield items_now[-1]
            if word == "error":
                raise newest[-1][1]
            if line and ahead != (ahead := line.ahead(client)) and ahead:
                yield Place(ahead)
            if word == "item":
                stop.wait(frame if items_now else 0)
    finally:
        gone.set()


def _take_all(arrived: queue.SimpleQueue) -> list:
    """Everything that is there now; waits a moment for a first one."""
    taken: list = []
    with contextlib.suppress(queue.Empty):
        taken.append(arrived.get(timeout=0.03))
        while True:
            taken.append(arrived.get_nowait())
    return taken


class Clock:
    """Says in words how far an answer is and how long it may still take."""

    def __init__(self, limit: int):
        self.limit, self.start = limit, time.monotonic()

    def words(self, tokens: int) -> str:
        """'token 12 of at most 40, about 2 s left'."""
        if not tokens:
            return "reading the question…"
        left = (time.monotonic() - self.start) / tokens * max(self.limit - tokens, 0)
        return f"token {tokens} of at most {self.limit}, at most {max(left, 1):.0f} s left"
