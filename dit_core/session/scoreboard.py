"""Runs of the Scoreboard tab: their settings, steps and progress, and grading them by another grader.

Every run is graded by the rules. Another grader reads the same answers: nothing is asked anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

from dit_core.errors import DitError
from dit_core.grading import Grader, GradeResult, grader
from dit_core.present.cards import RUNNING
from dit_core.records import Finding, Table
from dit_core.scoreboard import Board, board, new_ledger, pairs_to_grade, stream, with_grades
from dit_core.scoreboard.ledger import Ledger
from dit_core.session.time_left import TimeLeft
from dit_core.suite import Suite
from dit_core.suite.limits import current_limits

ALL = "all"
RULES, EMBEDDING, BASE_JUDGE, CHAT_JUDGE = "rules", "embedding", "judge: this base", "judge: a chat model"
GRADERS = (RULES, EMBEDDING, BASE_JUDGE, CHAT_JUDGE)
ANSWERS_PER_STEP = 64  # graded between two notes on the progress
RULES_ONLY = "This public server grades by the rules alone: run DIT Explorer yourself for other graders."
UNMEASURED = "Press Run first: the stored figures came without the answers, so there is nothing to grade."


@dataclass(frozen=True)
class RunSettings:
    """The settings of a run, in the order of the controls: a split, diffs per task, and kinds of methods."""

    split: str
    limit: int | str
    kinds: Sequence[str]

    @property
    def max_diffs(self) -> int | None:
        """How many diffs of each task are measured; None for all."""
        return None if self.limit == ALL else int(self.limit)


@dataclass(frozen=True)
class GraderSettings:
    """Who grades, in the order of the controls: one of `GRADERS`, and of a chat model its name and endpoint."""

    by: str = RULES
    model: str = ""
    url: str = ""

    def grader(self, suite: Suite) -> Grader | None:
        """Return the grader; None for the rules. Raises `DitError` where it lacks something."""
        if self.by == EMBEDDING:
            return grader("embedding")
        if self.by == BASE_JUDGE:
            return grader("judge", suite=suite)
        if self.by == CHAT_JUDGE:
            if not self.model.strip():
                raise DitError("Which chat model is to grade? Give its name at the endpoint.")
            return grader("judge", model=self.model.strip(), base_url=self.url.strip() or None)
        return None

    @property
    def code(self) -> str:
        """The Python that makes the same grader."""
        url = f", base_url={self.url.strip()!r}" if self.url.strip() else ""
        chat = f'grader("judge", model={self.model.strip()!r}{url})'
        return {EMBEDDING: 'grader("embedding")', BASE_JUDGE: 'grader("judge", suite=suite)', CHAT_JUDGE: chat}[self.by]


@dataclass(frozen=True)
class Run:
    """A run so far: its findings, and the `ledger` that a later run of the same settings goes on with."""

    settings: RunSettings
    ledger: Ledger
    findings: Table[Finding] | None = None
    board: Board | None = None
    grading: GraderSettings = GraderSettings()
    done: int = 0
    total: int = 0
    now: str = ""
    state: str = RUNNING


def start_run(suite: Suite, settings: RunSettings, before: Run | None) -> Run:
    """Return a run of these settings, which goes on from the run `before` where that was of the same diffs.

    Raises DitError where nothing is to be measured.
    """
    if not settings.kinds:
        raise DitError("Nothing is to be measured: tick at least one kind of method.")
    fresh = new_ledger(suite, settings.max_diffs, settings.split)
    if before is not None and before.ledger.settings == fresh.settings:
        return Run(settings, before.ledger)
    return Run(settings, fresh)


def steps(suite: Suite, run: Run) -> Generator[Run, None, None]:
    """Yield the run after every batch; its board is computed only where it is read.

    Raises DitError at once for a split without diffs.
    """
    tables = stream(suite, run.settings.max_diffs, run.settings.split, kinds=run.settings.kinds, ledger=run.ledger)
    return _steps(suite, run, tables)


def _steps(suite: Suite, run: Run, tables: Generator[Table[Finding], None, None]) -> Generator[Run, None, None]:
    with closing(tables):
        for table in tables:
            made = board(suite, table) if table else None
            extra = {name: table.extra[name] for name in ("done", "total", "now")}
            yield replace(run, findings=table if table else None, board=made, **extra)


def grade_run(suite: Suite, run: Run | None, grading: GraderSettings) -> Generator[Run, None, None]:
    """Yield the run as its answers are graded anew, part by part; the last one's board has the new grades.

    Raises DitError where nothing was measured, for what the grader lacks, and for visitors of a public server: other
    graders load models, or ask endpoints on its owner's account.
    """
    if grading.by != RULES and not current_limits().paths:
        raise DitError(RULES_ONLY)
    if run is None or run.findings is None:
        raise DitError(UNMEASURED)
    return _grade_run(suite, run, run.findings, grading, grading.grader(suite))


def _grade_run(
    suite: Suite, run: Run, findings: Table[Finding], grading: GraderSettings, by: Grader | None
) -> Generator[Run, None, None]:
    run = replace(run, state=RUNNING, done=0, total=0, now=f"graded by {grading.by}")
    yield run
    if by is not None:
        pairs = pairs_to_grade(suite, findings)
        results: dict[tuple[str, str], GradeResult | None] = {}
        for start in range(0, len(pairs), ANSWERS_PER_STEP):
            yield replace(run, done=start, total=len(pairs))
            part = pairs[start : start + ANSWERS_PER_STEP]
            results |= zip(part, by.grade_all(part), strict=True)
        findings = with_grades(suite, findings, results, by.name)
    made = board(suite, findings, by)
    made.agreement  # noqa: B018 (read here, where a judge's worker may be waited for, and not while the page is drawn)
    yield replace(run, board=made, grading=grading)


class RunProgress:
    """Words for how far a run is and how long it may still take, measured from the first batch on."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._left = TimeLeft(clock=clock)

    def words(self, run: Run) -> str:
        """Return '80 of 7,960 answers, about 40 s left; now topic DIT'."""
        if not run.total:
            return "Loading the suite…"
        text = f"{run.done:,} of {run.total:,} answers{self._left.words(run.done, run.total)}"
        return f"{text}; now {run.now}" if run.now else text
