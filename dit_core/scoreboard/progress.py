"""How far a long experiment is: told in answers done, of all answers, with the method at hand."""

from collections.abc import Callable
from dataclasses import dataclass

Progress = Callable[[int, int, str], None]


@dataclass
class Tally:
    """Answers done, of `total`; `progress`, where there is one, is told of every change."""

    progress: Progress | None
    total: int = 0
    done: int = 0
    now: str = ""

    def at(self, what: str) -> None:
        """Says what is being done now."""
        self.now = what
        if self.progress:
            self.progress(self.done, self.total, what)
