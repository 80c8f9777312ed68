"""Progress of downloads: listeners are called with it, and a download's own listener can end it."""

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeAlias

Listener: TypeAlias = Callable[[int, int, str], None]
"""A callback for downloads: bytes done, bytes in all, and what is downloaded."""
_listeners: list[Listener] = []
_own_listener: ContextVar[Listener | None] = ContextVar("own_listener", default=None)


@contextmanager
def watch_downloads(listener: Listener) -> Iterator[None]:
    """Call `listener(done, total, what)` for every download while the context is open.

    Sizes are in bytes. It is called in the download's thread. Without a listener the client's own bars are shown.
    """
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


@contextmanager
def watch_own_downloads(listener: Listener) -> Iterator[None]:
    """Call the listener as `watch_downloads` does, only for downloads that are started in this context.

    An exception raised by the listener ends them.
    """
    token = _own_listener.set(listener)
    try:
        yield
    finally:
        _own_listener.reset(token)


def format_bytes(size: float) -> str:
    """Return a number of bytes as people write it: `8.1 GB`, `35 MB`."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


@contextmanager
def progress_bar_class(what: str, silent: bool = False) -> Iterator[type | None]:
    """Yield a class of progress bars that call the listeners; None, for the client's own bars, without listeners.

    The client counts one download in several bars and threads: listeners get the furthest of them, never a step back.
    The total grows while files are started, so that the end is reported once, when the context closes.
    """
    from tqdm.auto import tqdm

    own_listener = _own_listener.get()  # read here, as the client reports in threads of its own
    if not _listeners and not own_listener and not silent:
        yield None
        return
    most = total = 0
    lock = threading.Lock()

    def report(size: int) -> None:
        for listener in (*_listeners, *([own_listener] if own_listener else [])):
            listener(most, size, what)

    class Bar(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options | {"file": io.StringIO()})

        def update(self, n: float | None = 1) -> bool | None:
            nonlocal most, total
            with lock:
                shown = super().update(n)
                if not silent and self.unit == "B":
                    grew, most = self.n > most, max(most, int(self.n))
                    total = max(total, most, int(self.total or 0))
                    if grew and most < total:
                        report(total)
                return shown

    yield Bar
    if most:
        report(most)


@contextmanager
def without_loading_bars() -> Iterator[None]:
    """Hide the progress bars of transformers: a small base is loaded before anybody could read them."""
    from transformers.utils import logging as bars

    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            bars.enable_progress_bar()
