"""One piece of a visitor's work, from the press of its button to its last word.

What it finds is kept in the visitor's `Work` as it comes, so that every other event sees the newest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from dit_core.engine.worker import Worker
from dit_core.present.cards import DONE, STOPPED
from dit_core.session.visit import FRAME, Place, Work, follow
from dit_core.session.words import sentence

F = TypeVar("F")  # a dataclass with a `state`


@dataclass(frozen=True)
class Failed:
    """Why work ended early, in a sentence for who asked for it."""

    why: str

    def __str__(self) -> str:
        return self.why


def running(
    work: Work,
    steps: Callable[[], Iterator[F]],
    line: Worker,
    frame: float = FRAME,
    kept: Callable[[Any, F], F] = lambda before, found: found,
) -> Iterator[F | Place | Failed]:
    """Gives what `steps` find, each kept as `work.found`; the last once more at the end, as done or stopped.

    The first of `steps` is what there is before any work: it must come at once. `kept` merges what was there with what
    was found. After an error there is again what was there before. Ends without a word where the same visitor has begun
    something else with this `work`.
    """
    stop, before = work.begin(), work.found
    try:
        items = steps()
        work.found = next(items)
        yield work.found
        for item in follow(items, stop, frame, line):
            if work.stop is not stop:
                return
            if not isinstance(item, Place):
                work.found = item = kept(work.found, item)
            yield item
        if work.stop is stop:
            work.found = replace(work.found, state=STOPPED if stop.is_set() else DONE)
            yield work.found
    except Exception as error:
        if work.stop is stop:
            work.found = before
            yield Failed(sentence(error))
