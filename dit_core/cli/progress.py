"""What a terminal is told while something is fetched or loaded: one line that follows the download, and sentences."""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from dit_core.hub import format_bytes, watch_downloads

_EVERY = 0.2  # seconds between two looks at one download
_SMALL = 10_000_000  # bytes that are here before anybody has read a line


@contextmanager
def told() -> Iterator[None]:
    """While the context is open, downloads and what loading takes are told on stderr."""
    handler = logging.StreamHandler(sys.stderr)
    log = logging.getLogger("dit_core")
    before = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        with watch_downloads(_Line()):
            yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before)


class _Line:
    """Rewrites one line of a terminal; in a file or a pipe it writes one line per finished download."""

    def __init__(self) -> None:
        self._last = 0.0

    def __call__(self, done: int, total: int, what: str) -> None:
        over, now = done >= total, time.monotonic()
        if total < _SMALL or (not over and (now - self._last < _EVERY or not sys.stderr.isatty())):
            return
        self._last = now
        text = f"{what}: {format_bytes(done)} of {format_bytes(total)}"
        start, end = ("\r", "\n" if over else "") if sys.stderr.isatty() else ("", "\n")
        print(f"{start}{text}", end=end, file=sys.stderr, flush=True)
