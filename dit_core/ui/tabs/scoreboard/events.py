"""What happens on the Scoreboard tab when a visitor does something. Every method is one event.

What a visitor measured is kept in their `Session`, as `work("scoreboard").found`; before that, the suite's own stored
figures are shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from dit_core.present.cards import DONE, RUNNING, STOPPED, note_html
from dit_core.scoreboard import Board, read_board
from dit_core.session.grading import RULES, Grading, graded
from dit_core.session.notebook_cells import IMPORTS
from dit_core.session.running import Failed, running
from dit_core.session.scoreboard import Clock, Run, Wanted, begin, steps
from dit_core.session.visit import Place, Session
from dit_core.session.words import content
from dit_core.suite import Suite
from dit_core.suite.snippets import opening
from dit_core.ui.tabs.scoreboard import view

NAME = "scoreboard"
UNGRADED = "Stopped: the figures stay as they were graded before."
FRAME = 1.0  # seconds between two drawings: a board changes by the batch


class ScoreboardEvents:
    """The events of one suite's Scoreboard tab; `word` is how `load_suite` finds the suite."""

    def __init__(self, suite: Suite, word: str):
        self.suite, self.word = suite, word
        self.stored = read_board(suite)

    def run(self, session: Session, task: str, by: str, *values: Any) -> Iterator[tuple]:
        """Measures what the left side says. Gives the note and all that is shown."""
        work, clock, run = session.work(NAME), Clock(), None
        for now in running(work, lambda: self._steps(session, Wanted(*values)), self.suite.worker, FRAME):
            if isinstance(now, Run):
                run = now
            elif isinstance(now, Failed) and run is not None:
                work.found = replace(run, state=STOPPED)  # what was measured stays, and counts
            yield self._said(now, clock), *self.shown(session, task, by)

    def _steps(self, session: Session, wanted: Wanted) -> Iterator[Run]:
        run = begin(self.suite, wanted, session.work(NAME).found)
        items = steps(self.suite, run)
        yield replace(run, board=self.board(session))
        yield from items

    def grade(self, session: Session, task: str, by: str, *values: Any) -> Iterator[tuple]:
        """Grades what was measured anew, by whom the left side says. Gives what `run` gives."""
        work, clock, grading = session.work(NAME), Clock(), Grading(*values)
        for now in running(work, lambda: graded(self.suite, work.found, grading), self.suite.worker, FRAME):
            stopped = isinstance(now, Run) and now.state == STOPPED
            yield note_html(UNGRADED) if stopped else self._said(now, clock), *self.shown(session, task, by)

    def _said(self, now: Run | Place | Failed, clock: Clock) -> str:
        if isinstance(now, Failed | Place):
            return note_html(str(now), "error" if isinstance(now, Failed) else "busy")
        return note_html(clock.words(now), "busy") if now.state == RUNNING else note_html(self._ending(now))

    def _ending(self, run: Run) -> str:
        if run.state == DONE:
            return ""
        return f"Stopped at {run.done:,} of {run.total:,} answers. What was measured stays; Run goes on from there."

    def stop(self, session: Session) -> None:
        """Ends the run; the batch in flight is lost."""
        session.work(NAME).stop.set()

    def board(self, session: Session) -> Board | None:
        """What the visitor measured, else what the suite has stored."""
        run: Run | None = session.work(NAME).found
        return (run and run.board) or self.stored

    def shown(self, session: Session, task: str, by: str) -> tuple[str, ...]:
        """Where the figures come from, the table, the figures, and what a vote gains."""
        board = self.board(session)
        return (
            f'<p class="dit-small">{view.escape(view.origin(board))}</p>',
            view.table(self.suite, board),
            view.grades(board, task),
            view.scaling(self.suite, board, by),
            view.votes(board, task),
            view.named(board, task, session.revealed),
            view.correlations(board, task),
        )

    def arrive(self, session: Session, task: str, by: str) -> tuple[str, ...]:
        """The tab was opened, or another task or axis chosen: all is shown as it is now."""
        return self.shown(session, task, by)

    def saved(self, session: Session, what: str, form: str) -> tuple[str, str]:
        """File name and content of `scores` or `agreement`, as `json` or `csv`; ("", "") where there is nothing."""
        board = self.board(session)
        table = getattr(board, what, None)
        return (f"{self.suite.name}-{what}.{form}", content(table, form)) if table else ("", "")

    def cell(self, session: Session, task: str) -> str:
        """The lines that measure the same in a notebook, or that read what is stored; "" where there is nothing."""
        run: Run | None = session.work(NAME).found
        if self.board(session) is None:
            return ""
        if run is None or run.board is None:
            rooms = ["from dit_core.scoreboard import read_board"]
            lines = ["made = read_board(suite)  # measured anew: board(suite, findings(suite))"]
        else:
            wanted = f"limit={run.wanted.at_most}, split={run.wanted.split!r}, kinds={list(run.wanted.kinds)}"
            rooms = ["from dit_core.scoreboard import board, findings"]
            lines = [f"found = findings(suite, {wanted})", "made = board(suite, found)"]
            if run.grading.by != RULES:
                rooms = [f"{rooms[0]}, regraded", "from dit_core.grading import grader"]
                lines[1:] = [f"by = {run.grading.code}", "made = board(suite, regraded(suite, found, by), by)"]
        first = opening(self.suite, self.word, None, *IMPORTS, *rooms)
        return "\n".join([*first, *lines, f"plots.grade_bars(made.scores, {task!r})\n"])
