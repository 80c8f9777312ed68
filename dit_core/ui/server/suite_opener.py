"""Opening another suite while all else goes on: fetch its files, load its base, draw its page; or say why not."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from starlette.responses import HTMLResponse

from dit_core.errors import DitError
from dit_core.hub import HubPath, format_bytes, watch_own_downloads
from dit_core.methods.comparison import first_info
from dit_core.present.cards import note_html
from dit_core.present.html import render
from dit_core.session.tab import error_sentence
from dit_core.suite import Requirements, Suite
from dit_core.ui.pieces import progress_html


class Cancelled(DitError):
    """The error of an opening that nobody waits for any more."""


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
        """Start, unless it has been started."""
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
            with watch_own_downloads(self._on_download):
                suite = self._load()
                fetch_first(suite)
            self._set_words("Loading the base into memory…")
            suite.worker.run(lambda: self._loaded(suite))
            self._set_words("Drawing its page…")
            self._show(suite)
        except Exception as error:
            self.error = error
        finally:
            self.over.set()

    def _loaded(self, suite: Suite) -> None:
        self._check_wanted()  # its turn may have come late, and the base that is loaded now be needed
        suite.model  # noqa: B018  loads it

    def _on_download(self, done: int, total: int, what: str) -> None:
        self._check_wanted()
        self.done, self.total = done, total
        self.words = f"Downloading {what}: {format_bytes(done)} of {format_bytes(total)}"

    def _set_words(self, words: str) -> None:
        self._check_wanted()
        self.words, self.total = words, 0

    def _check_wanted(self) -> None:
        if not self._waiting:
            raise Cancelled("Cancelled. What was downloaded is kept.")


def fetch_first(suite: Suite) -> None:
    """Fetch what a first question needs: base, first diff, its task's DIT adapter.

    Raises:
        DitError: it can't fit.
    """
    info = first_info(suite)
    suite.requirements_for(info).check()
    suite.fetch([info], [name] if (name := suite.task(info.task).adapter) else [])


def download(found: Requirements) -> str:
    """Return how much is downloaded and how much is here: 'downloads 8.2 GB, 1.5 GB is here already'."""
    missing = found.download + found.extra_download
    if not missing:
        return "nothing is downloaded, all of it is on this disk"
    here = f", {format_bytes(found.on_disk)} is here already" if found.on_disk else ""
    return f"downloads {format_bytes(missing)}{here}"


def requirements_html(suite: Suite, found: Requirements) -> str:
    """Return what opening a suite takes, as HTML."""
    has = "" if found.memory_free is None else f", has {format_bytes(found.memory_free)}"
    base = suite.spec.base
    facts = [("base", base.repo if isinstance(base, HubPath) else str(base))] if not isinstance(base, Path) else []
    facts += [
        ("disk", f"{download(found)}; has {format_bytes(found.disk_free)} left"),
        ("memory", f"needs {format_bytes(found.memory)} on {found.device}{has}"),
        ("oracle", "yes" if suite.oracle else "none"),
    ]
    return render("ui/server/requirements.html", title=suite.title, facts=facts)


def already_open_html(suite: Suite) -> str:
    """Return that a suite's page is open, as HTML."""
    return render("ui/server/requirements.html", title=suite.title, facts=())


def opening_html(opening: Opening, left: str) -> str:
    """Return what an opening does now, over a bar where that is a download."""
    text = f"{opening.words}{left}"
    if not opening.total:
        return note_html(text, "busy")
    return progress_html(text, "busy", opening.done, opening.total)


def closed_page(title: str, home: str, found: Requirements) -> HTMLResponse:
    """Return the page of a suite that has to be downloaded first, which an address alone does not do."""
    words = (
        f"“{title}” is not open on this server. To open it, choose it under “Base model / suite” on the start page and "
        f"press Open: {download(found)}."
    )
    return _page(words, home, 404)


def failed_page(error: Exception, home: str) -> HTMLResponse:
    """Return the page of a suite that does not exist, is not offered here, or could not be opened."""
    return _page(error_sentence(error), home, 404)


def waiting_page(words: str) -> HTMLResponse:
    """Return the page of a suite that is being opened; it reloads itself."""
    return HTMLResponse(render("ui/server/page.html", words=words, home=""), 200)


def _page(words: str, home: str, status: int) -> HTMLResponse:
    return HTMLResponse(render("ui/server/page.html", words=words, home=home), status)
