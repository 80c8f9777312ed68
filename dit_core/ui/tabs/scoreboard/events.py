"""Events of the Scoreboard tab. Every method is one event.

The visitor's `Visit` keeps their run as `job("scoreboard").result`; before that, the suite's stored figures are shown.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import replace
from typing import Any

from markupsafe import Markup

from dit_core.present.cards import DONE, RUNNING, STOPPED, note_html
from dit_core.scoreboard import Board, read_board
from dit_core.session.job import Failed, QueuePosition, run_job
from dit_core.session.messages import file_content
from dit_core.session.notebook_cells import IMPORTS
from dit_core.session.scoreboard import (
    RULES,
    GraderSettings,
    Run,
    RunProgress,
    RunSettings,
    grade_run,
    start_run,
    steps,
)
from dit_core.session.visit import Visit
from dit_core.suite import Suite
from dit_core.suite.snippets import opening_lines
from dit_core.ui.tabs.scoreboard import view

NAME = "scoreboard"
UNGRADED = "Stopped: the figures stay as they were graded before."
FRAME = 1.0  # seconds between two drawings: a board changes by the batch


class ScoreboardEvents:
    """The events of one suite's Scoreboard tab; `suite_ref` is how `load_suite` finds the suite."""

    def __init__(self, suite: Suite, suite_ref: str):
        self.suite, self.suite_ref = suite, suite_ref
        self.stored = read_board(suite)

    def run(self, visit: Visit, task: str, by: str, *values: Any) -> Iterator[tuple]:
        """Measure what the left side says; yield the note and all that is shown."""
        job, clock, run = visit.job(NAME), RunProgress(), None
        for now in run_job(job, lambda: self._steps(visit, RunSettings(*values)), self.suite.worker, FRAME):
            if isinstance(now, Run):
                run = now
            elif isinstance(now, Failed) and run is not None:
                job.result = replace(run, state=STOPPED)  # what was measured stays, and counts
            yield self._note(now, clock), *self.shown(visit, task, by)

    def _steps(self, visit: Visit, settings: RunSettings) -> Generator[Run, None, None]:
        run = start_run(self.suite, settings, visit.job(NAME).result)
        items = steps(self.suite, run)
        yield replace(run, board=self.board(visit))
        yield from items

    def grade(self, visit: Visit, task: str, by: str, *values: Any) -> Iterator[tuple]:
        """Grade the measured answers anew, by the left side's grader; yield what `run` yields."""
        job, clock, grading = visit.job(NAME), RunProgress(), GraderSettings(*values)
        for now in run_job(job, lambda: grade_run(self.suite, job.result, grading), self.suite.worker, FRAME):
            stopped = isinstance(now, Run) and now.state == STOPPED
            yield note_html(UNGRADED) if stopped else self._note(now, clock), *self.shown(visit, task, by)

    def _note(self, now: Run | QueuePosition | Failed, clock: RunProgress) -> str:
        if isinstance(now, Failed | QueuePosition):
            return note_html(str(now), "error" if isinstance(now, Failed) else "busy")
        return note_html(clock.words(now), "busy") if now.state == RUNNING else note_html(self._ending(now))

    def _ending(self, run: Run) -> str:
        if run.state == DONE:
            return ""
        return f"Stopped at {run.done:,} of {run.total:,} answers. What was measured stays; Run goes on from there."

    def stop(self, visit: Visit) -> None:
        """End the run; the batch in flight is lost."""
        visit.job(NAME).stop.set()

    def board(self, visit: Visit) -> Board | None:
        """Return the visitor's board, else the one that the suite has stored."""
        run: Run | None = visit.job(NAME).result
        return (run and run.board) or self.stored

    def shown(self, visit: Visit, task: str, by: str) -> tuple[str, ...]:
        """Return the figures' origin, the table, the figures, and what a vote gains."""
        board = self.board(visit)
        return (
            Markup('<p class="dit-small">{}</p>').format(view.origin(board)),
            view.table(self.suite, board),
            view.grades(board, task),
            view.scaling(self.suite, board, by),
            view.votes(board, task),
            view.named(board, task, visit.revealed),
            view.correlations(board, task),
        )

    def arrive(self, visit: Visit, task: str, by: str) -> tuple[str, ...]:
        """Show everything as it is now: the tab was opened, or another task or axis chosen."""
        return self.shown(visit, task, by)

    def saved(self, visit: Visit, what: str, form: str) -> tuple[str, str]:
        """Return file name and content of `scores` or `agreement`, as `json` or `csv`; ("", "") where there is none."""
        board = self.board(visit)
        table = getattr(board, what, None)
        return (f"{self.suite.name}-{what}.{form}", file_content(table, form)) if table else ("", "")

    def cell(self, visit: Visit, task: str) -> str:
        """Return the lines that measure the same in a notebook, or that read what is stored; "" before either."""
        run: Run | None = visit.job(NAME).result
        if self.board(visit) is None:
            return ""
        if run is None or run.board is None:
            rooms = ["from dit_core.scoreboard import read_board"]
            lines = ["made = read_board(suite)  # measured anew: board(suite, findings(suite))"]
        else:
            settings = f"limit={run.settings.max_diffs}, split={run.settings.split!r}, kinds={list(run.settings.kinds)}"
            rooms = ["from dit_core.scoreboard import board, findings"]
            lines = [f"found = findings(suite, {settings})", "made = board(suite, found)"]
            if run.grading.by != RULES:
                rooms = [f"{rooms[0]}, regrade", "from dit_core.grading import grader"]
                lines[1:] = [f"by = {run.grading.code}", "made = board(suite, regrade(suite, found, by), by)"]
        first = opening_lines(self.suite, self.suite_ref, None, *IMPORTS, *rooms)
        return "\n".join([*first, *lines, f"plots.grade_bars(made.scores, {task!r})\n"])
