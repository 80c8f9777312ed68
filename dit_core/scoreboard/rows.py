"""The base class of the scoreboard's rows: a method that finds something out about diffs, batch by batch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

from dit_core.engine.batching import MAX_DIFFS
from dit_core.engine.generation import generate
from dit_core.engine.model import Model
from dit_core.grading.grades import Progress
from dit_core.records import DiffInfo, Finding
from dit_core.scoreboard.ledger import Key
from dit_core.suite import Suite


@dataclass
class ProgressCount:
    """Number of answers done, of `total`; each change is passed on to `progress`, where there is one."""

    progress: Progress | None
    total: int = 0
    done: int = 0
    now: str = ""

    def report(self, what: str) -> None:
        """Report what is being done now."""
        self.now = what
        if self.progress:
            self.progress(self.done, self.total, what)


def seconds_per_token(model: Model, rows: int = 32, tokens: int = 8) -> float:
    """Measure how many seconds the base takes per token and row, for `rows` rows at once. Worker's thread only."""
    prompt = model.encode("How are you?")

    def write() -> float:
        start = perf_counter()
        for _ in generate(model, [prompt] * rows, {}, tokens, stop_at_end=False, owners=range(rows)):
            pass
        return (perf_counter() - start) / (rows * tokens)

    write()  # the first time is the slowest
    return write()


class Row:
    """A method asked of the diffs of a task. It holds plain data and suites: another process can do its work.

    Attributes:
        key: method, task and adapter.
        measures: names of what is measured of every diff.
        infos: the diffs.
        batch_size: diffs per batch, the most that a stopped run loses.
        answers_per_diff: the answers that a diff takes, as progress counts them.
        choice_answers: the answers that the row's choice takes, before all diffs; 0 where nothing is chosen.
        tokens: the work of one answer, in tokens of the base, as measured on the pocket suite.
    """

    if TYPE_CHECKING:  # read only: rows have them as fields, constants or properties

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
        """The number of answers that the row takes at most."""
        return self.choice_answers + self.answers_per_diff * len(self.infos)

    @property
    def title(self) -> str:
        """The row's name in progress messages."""
        method, task, adapter = self.key
        return " ".join(filter(None, (task, method, adapter)))

    def choose(self, suite: Suite) -> dict[str, Any]:
        """Return what has to be known before `find`, such as the layer to read at, as JSON-ready data."""
        raise NotImplementedError

    def find(self, suite: Suite, infos: Sequence[DiffInfo], choice: dict[str, Any]) -> list[Finding]:
        """Return the findings about some of the row's diffs, given its `choice`."""
        raise NotImplementedError


def batches(infos: Sequence[DiffInfo], size: int) -> Iterator[tuple[DiffInfo, ...]]:
    """Yield the diffs in batches of `size`."""
    return (tuple(infos[start : start + size]) for start in range(0, len(infos), size))
