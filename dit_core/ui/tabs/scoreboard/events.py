"""What the Scoreboard tab shows of its runs."""

from __future__ import annotations

from collections.abc import Iterator

from markupsafe import Markup

from dit_core.session.scoreboard import GradeTab, Run, RunSettings, ScoreboardTab
from dit_core.session.tab import Frame
from dit_core.session.visit import Visit
from dit_core.suite import Suite
from dit_core.ui.tabs import Shown, TabEvents, Values
from dit_core.ui.tabs.scoreboard import view


class ScoreboardEvents(TabEvents[RunSettings, Run]):
    """The events of one suite's Scoreboard tab; `suite_ref` is how `load_suite` finds the suite."""

    tab: ScoreboardTab

    def __init__(self, suite: Suite, suite_ref: str) -> None:
        super().__init__(ScoreboardTab(suite, suite_ref))
        self.grading = GradeTab(suite, suite_ref)

    def show(self, visit: Visit, values: Values, frame: Frame[Run]) -> Shown:
        """Return the figures' origin, the table, the figures, and what a vote gains."""
        board, task = self.tab.board(visit), values["task"]
        return {
            "origin": Markup('<p class="dit-small">{}</p>').format(view.origin(board)),
            "table": view.table(self.suite, board),
            "grades": view.grades(board, task),
            "scaling": view.scaling(self.suite, board, values["axis"]),
            "votes": view.votes(board, task),
            "named": view.named(board, task, visit.revealed),
            "correlations": view.correlations(board, task),
        }

    def grade(self, visit: Visit, values: Values) -> Iterator[Shown]:
        """Grade the measured answers anew, by the grader of the left side, and show every frame."""
        yield from self.frames(self.grading, visit, values)
