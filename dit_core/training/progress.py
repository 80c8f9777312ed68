"""A progress bar with time left for the long stages of the build."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm


class Progress:
    """One stage's bar; `advance` counts one step and shows its latest figure."""

    def __init__(self, inner: tqdm) -> None:
        self._inner = inner

    def advance(self, note: str = "", by: int = 1) -> None:
        self._inner.set_postfix_str(note, refresh=False)
        self._inner.update(by)


@contextmanager
def bar(what: str, total: int, done: int = 0) -> Iterator[Progress]:
    with tqdm(total=total, initial=done, desc=what, mininterval=2, dynamic_ncols=True) as inner:
        yield Progress(inner)
