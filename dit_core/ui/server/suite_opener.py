"""Opening another suite while all else goes on: fetch its files, load its base, draw its page; or say why not."""

from __future__ import annotations

import threading
from collections.abc import Callable

from dit_core.errors import DitError
from dit_core.hub import format_bytes, watch_own_downloads
from dit_core.methods.comparison import first_info
from dit_core.suite import Suite


class Cancelled(DitError):
    """Nobody waits for this any more."""


class Opening:
    """One suite's opening, in a thread of its own. Whoever waits for it counts; without anybody it ends.

    `words` say what it does now, `done` of `total` bytes how far a download is (`total` 0: none is running). `over` is
    set at the end, and `error` says what went wrong.
    """

    def __init__(self, load: Callable[[], Suite], show: Callable[[Suite], None]) -> None:
        self.words, self.done, self.total = "Looking at what it takes…", 0, 0
        self.over = threading.Event()
        self.error: Exception | None = None
        self._load, self._show = load, show
        self._waiting, self._lock = 0, threading.Lock()
        self._thread = threading.Thread(target=self._run, daemon=True, name="dit-open")

    def begin(self) -> None:
        """Starts, unless it has been started."""
        with self._lock:
            if self._thread.ident is None:
                self._thread.start()

    def __enter__(self) -> Opening:
        with self._lock:
            self._waiting += 1
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._waiting -= 1

    def _run(self) -> None:
        try:
            with watch_own_downloads(self._hear):
                suite = self._load()
                fetch_first(suite)
            self._say("Loading the base into memory…")
            suite.worker.run(lambda: self._loaded(suite))
            self._say("Drawing its page…")
            self._show(suite)
        except Exception as error:
            self.error = error
        finally:
            self.over.set()

    def _loaded(self, suite: Suite) -> None:
        self._go_on()  # its turn may have come late, and the base that is loaded now be needed
        suite.model  # noqa: B018  loads it

    def _hear(self, done: int, total: int, what: str) -> None:
        self._go_on()
        self.done, self.total = done, total
        self.words = f"Downloading {what}: {format_bytes(done)} of {format_bytes(total)}"

    def _say(self, words: str) -> None:
        self._go_on()
        self.words, self.total = words, 0

    def _go_on(self) -> None:
        if not self._waiting:
            raise Cancelled("Cancelled. What was downloaded is kept.")


def fetch_first(suite: Suite) -> None:
    """Fetches what a first question needs: base, first diff, its task's DIT adapter. DitError where it can't fit."""
    info = first_info(suite)
    suite.requirements_for(info).check()
    suite.fetch([info], [name] if (name := suite.task(info.task).adapter) else [])
