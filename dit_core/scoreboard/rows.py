"""What every row of the scoreboard is: a method that finds something out about diffs, some of them at a time."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

from dit_core.engine.batching import MAX_DIFFS
from dit_core.engine.generation import generate
from dit_core.engine.model import Model
from dit_core.records import DiffInfo, Finding
from dit_core.scoreboard.ledger import Key
from dit_core.suite import Suite

Progress = Callable[[int, int, str], None]


@dataclass
class ProgressCount:
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


class Row:
    """A method asked of the diffs of a task. It holds plain data and suites: another process can do its work.

    Attributes:
        key: method, task and adapter.
        measures: what is measured of every diff.
        infos: the diffs.
        at_once: how many of them go into a batch: the most that a stopped run loses.
        each: the answers that a diff takes, as progress counts them.
        choosing: the answers that a choice takes which comes before all diffs; 0 where nothing is chosen.
        tokens: the work of one answer, in tokens of the base, as measured on the pocket suite.
    """

    if TYPE_CHECKING:  # read only: a row has them as fields, as constants or as properties

        @property
        def key(self) -> Key: ...

        @property
        def measures(self) -> Sequence[str]: ...

        @property
        def infos(self) -> Sequence[DiffInfo]: ...

        @property
        def batch_size(self) -> int: ...

        @property
        def answers_per_diff(self) -> int: ...

        @property
        def choice_answers(self) -> int: ...

        @property
        def tokens(self) -> int: ...

    else:
        batch_size, answers_per_diff, choice_answers, tokens = MAX_DIFFS, 1, 0, 16

    @property
    def answers(self) -> int:
        """How many answers it takes at most."""
        return self.choice_answers + self.answers_per_diff * len(self.infos)

    @property
    def title(self) -> str:
        """What it does, for people who wait for it."""
        method, task, adapter = self.key
        return " ".join(filter(None, (task, method, adapter)))

    def choose(self, suite: Suite) -> dict[str, Any]:
        """What has to be known first, such as the layer to read at, as plain data for a file of JSON."""
        raise NotImplementedError

    def find(self, suite: Suite, infos: Sequence[DiffInfo], choice: dict[str, Any]) -> list[Finding]:
        """What it finds out about some of its diffs, after `choice`."""
        raise NotImplementedError


def batches(infos: Sequence[DiffInfo], size: int) -> Iterator[tuple[DiffInfo, ...]]:
    """The diffs by the batch."""
    return (tuple(infos[start : start + size]) for start in range(0, len(infos), size))
