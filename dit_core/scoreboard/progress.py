"""How far a long experiment is: told in answers done, of all answers, with the method at hand."""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

from dit_core.engine.generation import generate
from dit_core.engine.model import Model

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


def seconds_per_token(model: Model, rows: int = 32, tokens: int = 8) -> float:
    """Measure how long the base takes for a token of a row, where `rows` are written at once. Worker's thread only."""
    prompt = model.encode("How are you?")

    def write() -> float:
        start = perf_counter()
        for _ in generate(model, [prompt] * rows, {}, tokens, stop_at_end=False, owners=range(rows)):
            pass
        return (perf_counter() - start) / (rows * tokens)

    write()  # the first time is slower than all others
    return write()
