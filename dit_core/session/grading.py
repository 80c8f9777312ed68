"""Who grades what was measured on the Scoreboard tab, and how far that is; without any Gradio.

Every run is graded by the rules. Another grader reads the same answers: nothing is asked anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dit_core.errors import DitError
from dit_core.grading import Grader, grader
from dit_core.present.cards import RUNNING
from dit_core.scoreboard import board, by_marks, to_grade
from dit_core.suite import Suite

if TYPE_CHECKING:
    from dit_core.session.scoreboard import Run

RULES, MEANING, BASE, CHAT = "rules", "embedding", "judge: this base", "judge: a chat model"
GRADERS = (RULES, MEANING, BASE, CHAT)
PART = 64  # answers graded between two words on how far it is
PUBLIC = "This public server grades by the rules alone: run DIT Explorer yourself for other graders."
UNMEASURED = "Press Run first: the stored figures came without the answers, so there is nothing to grade."


@dataclass(frozen=True)
class Grading:
    """What the controls say, in their order: one of `GRADERS`, and of a chat model its name and endpoint."""

    by: str = RULES
    model: str = ""
    url: str = ""

    def grader(self, suite: Suite) -> Grader | None:
        """The grader; None for the rules. Raises DitError where it lacks something."""
        if self.by == MEANING:
            return grader("embedding")
        if self.by == BASE:
            return grader("judge", suite=suite)
        if self.by == CHAT:
            if not self.model.strip():
                raise DitError("Which chat model is to grade? Give its name at the endpoint.")
            return grader("judge", model=self.model.strip(), base_url=self.url.strip() or None)
        return None

    @property
    def code(self) -> str:
        """The Python that makes the same grader."""
        url = f", base_url={self.url.strip()!r}" if self.url.strip() else ""
        chat = f'grader("judge", model={self.model.strip()!r}{url})'
        return {MEANING: 'grader("embedding")', BASE: 'grader("judge", suite=suite)', CHAT: chat}[self.by]


def graded(suite: Suite, run: Run | None, grading: Grading) -> Iterator[Run]:
    """What was measured, part by part graded anew; the last one's board is by the new grades.

    Raises DitError where nothing was measured, for what the grader lacks, and for visitors of a public server: other
    graders load models, or ask endpoints on its owner's account.
    """
    if grading.by != RULES and not suite.limits.paths:
        raise DitError(PUBLIC)
    if run is None or run.found is None:
        raise DitError(UNMEASURED)
    return _graded(suite, run, grading, grading.grader(suite))


def _graded(suite: Suite, run: Run, grading: Grading, by: Grader | None) -> Iterator[Run]:
    found = run.found
    run = replace(run, state=RUNNING, done=0, total=0, now=f"graded by {grading.by}")
    yield run
    if by is not None:
        pairs, marks = to_grade(suite, found), {}
        for start in range(0, len(pairs), PART):
            yield replace(run, done=start, total=len(pairs))
            part = pairs[start : start + PART]
            marks |= zip(part, by.marks(part), strict=True)
        found = by_marks(suite, found, marks, by.name)
    yield replace(run, board=board(suite, found, by), grading=grading)
