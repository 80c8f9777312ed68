"""How far downloads are: told to listeners, of which one may end its own download."""

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeAlias

Listener: TypeAlias = Callable[[int, int, str], None]
"""Called with the bytes that came, the bytes in all, and what is downloaded."""
_listeners: list[Listener] = []
_own_listener: ContextVar[Listener | None] = ContextVar("own_listener", default=None)


@contextmanager
def watch_downloads(listener: Listener) -> Iterator[None]:
    """While the context is open, `listener(done, total, what)` hears of every download, in bytes, in its own thread.

    Without a listener the client's own progress bars are shown.
    """
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


@contextmanager
def watch_own_downloads(listener: Listener) -> Iterator[None]:
    """As `watch_downloads`, of the downloads that are begun in this context alone.

    What the listener raises ends them.
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
    """A class of progress bars that tell the listeners; None, for the client's own, where nobody listens.

    The client counts one download in several bars and threads: listeners hear the furthest of them, never a step back.
    How large all of it is grows while its files are begun, so that its end is told once, where the context closes.
    """
    from tqdm.auto import tqdm

    own_listener = _own_listener.get()  # here, for what comes is told in threads of the client's
    if not _listeners and not own_listener and not silent:
        yield None
        return
    most = whole = 0
    one_at_a_time = threading.Lock()

    def tell(total: int) -> None:
        for listener in (*_listeners, *([own_listener] if own_listener else [])):
            listener(most, total, what)

    class Bar(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options | {"file": io.StringIO()})

        def update(self, n: float | None = 1) -> bool | None:
            nonlocal most, whole
            with one_at_a_time:
                shown = super().update(n)
                if not silent and self.unit == "B":
                    further, most = self.n > most, max(most, int(self.n))
                    whole = max(whole, most, int(self.total or 0))
                    if further and most < whole:
                        tell(whole)
                return shown

    yield Bar
    if most:
        tell(most)
