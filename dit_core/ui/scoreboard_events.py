"""What happens on the Scoreboard tab when a visitor does something. Every method is one event.

What a visitor measured is kept in their `Session`, as `work("scoreboard").found`; before that, the suite's own stored
figures are shown.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from dit_core.cards import DONE, RUNNING, STOPPED, note_html
from dit_core.experiments import Board, read_board
from dit_core.suite import Suite
from dit_core.ui import scoreboard_view as view
from dit_core.ui.answering import Place, Session, follow
from dit_core.ui.scoreboard_run import Clock, Run, Wanted, begin, steps
from dit_core.ui.shared import content, sentence

NAME = "scoreboard"
FRAME = 1.0  # seconds between two drawings: a board changes by the batch


class ScoreboardEvents:
    """The events of one suite's Scoreboard tab; `word` is how `load_suite` finds the suite."""

    def __init__(self, suite: Suite, word: str):
        self.suite, self.word = suite, word
        self.stored = read_board(suite)

    def run(self, session: Session, task: str, by: str, *values: Any) -> Iterator[tuple]:
        """Measures what the left side says. Gives the note and all that is shown."""
        work = session.work(NAME)
        before, stop = work.found, work.begin()
        try:
            yield from self._run(session, task, by, begin(self.suite, Wanted(*values), before), stop)
        except Exception as error:
            if work.stop is stop:
                if work.found is not None and work.found.state == RUNNING:
                    work.found = replace(work.found, state=STOPPED)  # what was measured stays, and counts
                yield note_html(sentence(error), "error"), *self.shown(session, task, by)

    def _run(self, session: Session, task: str, by: str, run: Run, stop: threading.Event) -> Iterator[tuple]:
        items, work, clock = steps(self.suite, run), session.work(NAME), Clock()
        work.found = replace(run, board=self.board(session))
        yield note_html(clock.words(run), "busy"), *self.shown(session, task, by)
        for item in follow(items, stop, FRAME, self.suite.worker):
            if isinstance(item, Place):
                yield note_html(str(item), "busy"), *self.shown(session, task, by)
                continue
            work.found = run = item
            yield note_html(clock.words(run), "busy"), *self.shown(session, task, by)
        if work.stop is not stop:
            return  # the same visitor's next run has taken the tab over
        work.found = replace(work.found, state=STOPPED if stop.is_set() else DONE)
        yield note_html(self._ending(work.found)), *self.shown(session, task, by)

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
            room, lines = "read_board", "made = read_board(suite)  # measured anew: board(suite, findings(suite))"
        else:
            wanted = f"limit={run.wanted.at_most}, split={run.wanted.split!r}, kinds={list(run.wanted.kinds)}"
            room, lines = "board, findings", f"made = board(suite, findings(suite, {wanted}))"
        return (
            f"from dit_core import load_suite, plots\nfrom dit_core.experiments import {room}\n\n"
            f"suite = load_suite({self.word!r})\n{lines}\nplots.grade_bars(made.scores, {task!r})\n"
        )
