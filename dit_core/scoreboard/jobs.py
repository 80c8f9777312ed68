"""A run of the scoreboard as jobs: each can be done anywhere, and what comes of it goes into the one ledger."""

from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from typing import Any, Protocol

from dit_core.records import DiffInfo
from dit_core.scoreboard.ledger import Ledger
from dit_core.scoreboard.rows import Row, batches
from dit_core.scoreboard.verbal_rows import GuessRow
from dit_core.suite import Suite
from dit_core.suite.limits import current_limits

SMALL_BATCH = 8  # answers: fewer take as long


@dataclass(frozen=True)
class Job:
    """Some diffs of the row at that place, and what was chosen for it; without diffs, to choose it."""

    row: int
    infos: tuple[DiffInfo, ...] = ()
    choice: Mapping[str, Any] | None = None

    def run(self, suite: Suite, rows: Sequence[Row]) -> Any:
        """Findings, or a choice."""
        row = rows[self.row]
        return row.find(suite, self.infos, dict(self.choice or {})) if self.infos else row.choose(suite)


class Engine(Protocol):
    """Where jobs are done. `workers` is how many of them are done at once, each with a model of its own."""

    @property
    def workers(self) -> int: ...

    def run_jobs(
        self, suite: Suite, rows: Sequence[Row], jobs: "deque[Job]", on_start: Callable[[Job], None]
    ) -> Generator[tuple[Job, Any], None, None]:
        """Does the jobs, from the left, and gives each with what came of it; tells `on_start` of each before.

        Others may come into `jobs` whenever something was given. Closing the iterator ends the work.
        """


class LocalEngine:
    """The engine that is always there: one job after another, in this process."""

    workers = 1

    def run_jobs(
        self, suite: Suite, rows: Sequence[Row], jobs: "deque[Job]", on_start: Callable[[Job], None]
    ) -> Generator[tuple[Job, Any], None, None]:
        """As `Engine` says."""
        while jobs:
            job = jobs.popleft()
            on_start(job)
            yield job, job.run(suite, rows)


class Agenda:
    """What is left of a run, given what its ledger has; `jobs` are those that nothing has to be waited for.

    `done` counts the answers that are there, of `total`.
    """

    def __init__(self, suite: Suite, rows: Sequence[Row], ledger: Ledger, workers: int) -> None:
        self.suite, self.rows, self.ledger, self.workers = suite, rows, ledger, workers
        self.total = self.done = sum(row.answers for row in rows)
        self.jobs: deque[Job] = deque()
        self._guess()
        for at, row in enumerate(rows):
            if isinstance(row, GuessRow):
                continue
            self.done -= row.answers_per_diff * len(self._lacking(row))
            if row.choice_answers and row.key not in ledger.choices and self._lacking(row):
                self.done -= row.choice_answers
                self.jobs.append(Job(at))
            else:
                self.jobs.extend(self._parts(at))

    @cached_property
    def _guesses(self) -> list[GuessRow]:
        return [row for row in self.rows if isinstance(row, GuessRow)]

    def add_result(self, job: Job, found: Any) -> None:
        """Takes what came of a job: it is in the ledger when this returns."""
        row = self.rows[job.row]
        if job.infos:
            self.ledger.add(found)
            self._guess()
            self.done += row.answers_per_diff * len(job.infos)
        else:
            self.ledger.choose(row.key, found)
            self.jobs.extendleft(reversed(self._parts(job.row)))
            self.done += row.choice_answers

    @property
    def tokens(self) -> int:
        """About how many tokens of work are left; a small batch takes as long as one of `SMALL_BATCH` answers."""
        sizes = [
            (row.tokens, row.answers_per_diff * len(part))
            for row in self.rows
            if not isinstance(row, GuessRow)
            for part in batches(self._lacking(row), row.batch_size)
        ]
        sizes += [
            (row.tokens, row.choice_answers)
            for row in self.rows
            if row.choice_answers and row.key not in self.ledger.choices and self._lacking(row)
        ]
        return sum(tokens * max(answers, SMALL_BATCH) for tokens, answers in sizes)

    def _lacking(self, row: Row) -> list[DiffInfo]:
        return self.ledger.missing(row.key, row.measures, row.infos)

    def _parts(self, at: int) -> list[Job]:
        """The jobs of a row's diffs: in batches, but something for every worker."""
        row = self.rows[at]
        lacking, choice = self._lacking(row), self.ledger.choices.get(row.key)
        allowed = current_limits().answers_at_once(row.answers_per_diff * self.suite.max_new_tokens)
        size = min(row.batch_size, allowed, ceil(len(lacking) / self.workers))
        return [Job(at, part, choice) for part in batches(lacking, max(size, 1))]

    def _guess(self) -> None:
        """What can be guessed from what has been found takes no job."""
        for row in self._guesses:
            self.ledger.add(row.guesses(self.suite, self.ledger))
