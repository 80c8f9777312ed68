"""A run of the scoreboard as jobs: any process can run one, and all results go into one ledger."""

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

SMALL_BATCH = 8  # answers; fewer take as long


@dataclass(frozen=True)
class Job:
    """Some diffs of the row with that index, and the row's choice; without diffs, the job of making that choice."""

    row: int
    infos: tuple[DiffInfo, ...] = ()
    choice: Mapping[str, Any] | None = None

    def run(self, suite: Suite, rows: Sequence[Row]) -> Any:
        """Return the row's findings about the diffs; without diffs, the row's choice."""
        row = rows[self.row]
        return row.find(suite, self.infos, dict(self.choice or {})) if self.infos else row.choose(suite)


class Engine(Protocol):
    """Where jobs are run. `workers` is how many run at once, each with its own model."""

    @property
    def workers(self) -> int:
        """The number of jobs that run at once."""

    def run_jobs(
        self, suite: Suite, rows: Sequence[Row], jobs: "deque[Job]", on_start: Callable[[Job], None]
    ) -> Generator[tuple[Job, Any], None, None]:
        """Run the jobs, from the left, and yield each with its result; calls `on_start` before each.

        The caller may add to `jobs` after each result. Closing the iterator ends the work.
        """


class LocalEngine:
    """The default engine: runs one job after another in this process."""

    workers = 1

    def run_jobs(
        self, suite: Suite, rows: Sequence[Row], jobs: "deque[Job]", on_start: Callable[[Job], None]
    ) -> Generator[tuple[Job, Any], None, None]:
        """Run the jobs and yield each with its result; see `Engine.run_jobs`."""
        while jobs:
            job = jobs.popleft()
            on_start(job)
            yield job, job.run(suite, rows)


class Agenda:
    """The remaining jobs of a run, given what its ledger holds; `jobs` are those that can be started now.

    `done` counts the answers that the ledger holds, of `total`.
    """

    def __init__(self, suite: Suite, rows: Sequence[Row], ledger: Ledger, workers: int) -> None:
        self.suite, self.rows, self.ledger, self.workers = suite, rows, ledger, workers
        self.total = self.done = sum(row.answers for row in rows)
        self.jobs: deque[Job] = deque()
        self._add_guesses()
        for index, row in enumerate(rows):
            if isinstance(row, GuessRow):
                continue
            self.done -= row.answers_per_diff * len(self._missing(row))
            if row.choice_answers and row.key not in ledger.choices and self._missing(row):
                self.done -= row.choice_answers
                self.jobs.append(Job(index))
            else:
                self.jobs.extend(self._jobs_of(index))

    @cached_property
    def _guess_rows(self) -> list[GuessRow]:
        return [row for row in self.rows if isinstance(row, GuessRow)]

    def add_result(self, job: Job, result: Any) -> None:
        """Write a job's result to the ledger; it is on disk when this returns."""
        row = self.rows[job.row]
        if job.infos:
            self.ledger.add(result)
            self._add_guesses()
            self.done += row.answers_per_diff * len(job.infos)
        else:
            self.ledger.choose(row.key, result)
            self.jobs.extendleft(reversed(self._jobs_of(job.row)))
            self.done += row.choice_answers

    @property
    def tokens(self) -> int:
        """Estimated tokens of work left; a small batch counts as one of `SMALL_BATCH` answers."""
        sizes = [
            (row.tokens, row.answers_per_diff * len(batch))
            for row in self.rows
            if not isinstance(row, GuessRow)
            for batch in batches(self._missing(row), row.batch_size)
        ]
        sizes += [
            (row.tokens, row.choice_answers)
            for row in self.rows
            if row.choice_answers and row.key not in self.ledger.choices and self._missing(row)
        ]
        return sum(tokens * max(answers, SMALL_BATCH) for tokens, answers in sizes)

    def _missing(self, row: Row) -> list[DiffInfo]:
        return self.ledger.missing(row.key, row.measures, row.infos)

    def _jobs_of(self, index: int) -> list[Job]:
        """Return the jobs of a row's diffs, in batches; where there are enough diffs, at least one for each worker."""
        row = self.rows[index]
        missing, choice = self._missing(row), self.ledger.choices.get(row.key)
        limit = current_limits().answers_at_once(row.answers_per_diff * self.suite.max_new_tokens)
        size = min(row.batch_size, limit, ceil(len(missing) / self.workers))
        return [Job(index, batch, choice) for batch in batches(missing, max(size, 1))]

    def _add_guesses(self) -> None:
        """Add the guesses that follow from findings in the ledger; no job is needed for them."""
        for row in self._guess_rows:
            self.ledger.add(row.guesses(self.suite, self.ledger))
