"""How long work may still take, in words: one clock for answers, readings, runs, sweeps and downloads."""

from __future__ import annotations

import time
from collections.abc import Callable


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
