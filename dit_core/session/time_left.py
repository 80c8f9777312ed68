"""How long work may still take, in words: one clock for answers, readings, runs, sweeps and downloads."""

from __future__ import annotations

import time
from collections.abc import Callable

from dit_core.records import Table


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


class AnswerProgress:
    """Words for how far answers of at most `limit` tokens are, measured from the moment they were asked for."""

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit, self._left = limit, TimeLeft(clock=clock)
        self._left.start(limit)

    def words(self, tokens: int) -> str:
        """Return 'token 12 of at most 40, at most 2 s left'."""
        left = self._left.seconds(min(tokens, self._limit), self._limit)
        if left is None:
            return "reading the question…"
        return f"token {tokens} of at most {self._limit}, at most {left:.0f} s left"


class ReadingProgress:
    """Words for how far the oracle's readings are, measured from the first ones on, which also load the oracle."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._left = TimeLeft(clock=clock)

    def words(self, readings: Table | None) -> str:
        """Return 'Reading 20 of 80, about 3 s left'."""
        if readings is None:
            return "Asking the oracle…"
        done, total = len(readings), readings.extra["n_readings"]
        return f"Reading {done} of {total}{self._left.words(done, total) or '…'}"
