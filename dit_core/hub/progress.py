"""How far downloads are: told to listeners, of which one may end its own download."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

Listener = Callable[[int, int, str], None]
_listeners: list[Listener] = []
_follower: ContextVar[Listener | None] = ContextVar("follower", default=None)


@contextmanager
def watching(listener: Listener) -> Iterator[None]:
    """While the context is open, `listener(done, total, what)` hears of every download, in bytes, in its own thread.

    Without a listener the client's own progress bars are shown.
    """
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


@contextmanager
def following(listener: Listener) -> Iterator[None]:
    """As `watching`, of the downloads alone that are begun in this context; what the listener raises ends them."""
    token = _follower.set(listener)
    try:
        yield
    finally:
        _follower.reset(token)


def gigabytes(size: float) -> str:
    """A number of bytes as people write it: `8.1 GB`, `35 MB`."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


@contextmanager
def bar_class(what: str, silent: bool = False) -> Iterator[type | None]:
    """A class of progress bars that tell the listeners; None, for the client's own, where nobody listens."""
    from tqdm.auto import tqdm

    follower = _follower.get()  # here, for what comes is told in threads of the client's
    if not _listeners and not follower and not silent:
        yield None
        return
    most = 0

    class Bar(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options | {"file": io.StringIO()})

        def update(self, n: float | None = 1) -> bool | None:
            nonlocal most
            shown = super().update(n)
            if silent or self.unit != "B":
                return shown
            further, most = self.n > most, max(most, int(self.n))  # of several bars of one download the furthest
            total = max(most, int(self.total or 0))
            for listener in tuple(_listeners) if further else ():
                listener(most, total, what)
            if follower:
                follower(most, total, what)
            return shown

    yield Bar
