"""What the Scoreboard tab runs: measuring methods, and grading their answers by another grader.

Every run is graded by the rules. Another grader reads the same answers: nothing is asked anew.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace

from dit_core.errors import DitError
from dit_core.grading import Grader, GradeResult, grader
from dit_core.records import Finding, Table
from dit_core.scoreboard import Board, board, new_ledger, pairs_to_grade, read_board, stream, with_grades
from dit_core.scoreboard.ledger import Ledger
from dit_core.session.job import Result, State, TimeLeft
from dit_core.session.tab import Tab, file_content
from dit_core.session.visit import Visit
from dit_core.suite import Suite
from dit_core.suite.limits import current_limits
from dit_core.suite.snippets import IMPORTS, opening_lines

ALL = "all"
RULES, LEARNED, SMOL, EMBEDDING = "rules", "learned", "smol", "embedding"
BASE_JUDGE, CHAT_JUDGE = "judge: this base", "judge: a chat model"
GRADERS = (RULES, LEARNED, SMOL, EMBEDDING, BASE_JUDGE, CHAT_JUDGE)
ANSWERS_PER_STEP = 64  # graded between two notes on the progress
RULES_ONLY = "This public server grades by the rules alone: run DIT Explorer yourself for other graders."
UNMEASURED = "Press Run first: the stored figures came without the answers, so there is nothing to grade."


@dataclass(frozen=True)
class RunSettings:
    """The settings of a run: a split, diffs per task, and kinds of methods."""

    split: str
    limit: int | str
    kinds: tuple[str, ...]

    @property
    def max_diffs(self) -> int | None:
        """How many diffs of each task are measured; None for all."""
        return None if self.limit == ALL else int(self.limit)


@dataclass(frozen=True)
class GraderSettings:
    """Who grades: one of `GRADERS`, and of a chat model its name and endpoint."""

    by: str = RULES
    model: str = ""
    url: str = ""

    def grader(self, suite: Suite) -> Grader | None:
        """Return the grader; None for the rules. Raises `DitError` where it lacks something."""
        if self.by in (LEARNED, SMOL, EMBEDDING):
            return grader(self.by)
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
        return {BASE_JUDGE: 'grader("judge", suite=suite)', CHAT_JUDGE: chat}.get(self.by, f'grader("{self.by}")')


@dataclass(frozen=True, kw_only=True)
class Run(Result[RunSettings]):
    """A run so far: its findings, and the `ledger` that a later run of the same settings goes on with.

    `grading` is who has graded the board, `regrading` who is to.
    """

    ledger: Ledger
    findings: Table[Finding] | None = None
    board: Board | None = None
    grading: GraderSettings = GraderSettings()
    regrading: GraderSettings = GraderSettings()
    done: int = 0
    total: int = 0
    now: str = ""


class ScoreboardTab(Tab[RunSettings, Run]):
    """Measures methods on held-out diffs; before that, there is what the suite has stored."""

    name, settings_type, result_type = "scoreboard", RunSettings, Run
    working, counting = "Loading the suite…", "{done:,.0f} of {total:,.0f} answers"
    pause = 1.0  # a board changes by the batch

    def __init__(self, suite: Suite, suite_ref: str = "") -> None:
        super().__init__(suite, suite_ref)
        self.stored = read_board(suite)

    def board(self, visit: Visit) -> Board | None:
        """Return the visitor's board, else the one that the suite has stored."""
        run = self.result(visit)
        return (run and run.board) or self.stored

    def first(self, settings: RunSettings, visit: Visit) -> Run:
        """Return a run which goes on from the one before where that was of the same diffs.

        Raises:
            DitError: nothing is to be measured.
        """
        if not settings.kinds:
            raise DitError("Nothing is to be measured: tick at least one kind of method.")
        before, ledger = self.result(visit), new_ledger(self.suite, settings.max_diffs, settings.split)
        if before is not None and before.ledger.settings == ledger.settings:
            ledger = before.ledger
        return Run(settings, ledger=ledger, board=self.board(visit))

    def start(self, first: Run) -> Generator[Table[Finding], None, None]:
        """Return the findings after every batch; DitError at once for a split without diffs."""
        asked = first.settings
        return stream(self.suite, asked.max_diffs, asked.split, kinds=asked.kinds, ledger=first.ledger)

    def add(self, result: Run, found: Table[Finding]) -> Run:
        """Return the run with these findings; its board is computed only where it is read."""
        made = board(self.suite, found) if found else None
        extra = {name: found.extra[name] for name in ("done", "total", "now")}
        return replace(result, findings=found or None, board=made, **extra)

    def progress(self, result: Run) -> tuple[float, float]:
        """Return how many answers are there, of how many."""
        return result.done, result.total

    def words(self, result: Run, clock: TimeLeft) -> str:
        """Return '80 of 7,960 answers, about 40 s left; now topic DIT'."""
        words = super().words(result, clock)
        return f"{words}; now {result.now}" if result.total and result.now else words

    def ending(self, result: Run) -> str:
        """Return where a run was stopped."""
        if result.state is not State.STOPPED:
            return ""
        at = f"{result.done:,} of {result.total:,} answers"
        return f"Stopped at {at}. What was measured stays; Run goes on from there."

    def file(self, visit: Visit, name: str, form: str) -> tuple[str, str]:
        """Return `scores` or `agreement` of the board as a file's name and content; ("", "") where there is none."""
        table = getattr(self.board(visit), name, None)
        return (f"{self.suite.name}-{name}.{form}", file_content(table, form)) if table else ("", "")

    def cell(self, visit: Visit, task: str) -> str:
        """Return the lines that measure the same in a notebook, or that read what is stored; "" before either."""
        run = self.result(visit)
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


class GradeTab(Tab[GraderSettings, Run]):
    """Grades the answers of a visitor's run anew: the same job, with the same result."""

    name, settings_type, result_type = ScoreboardTab.name, GraderSettings, Run
    counting, pause = ScoreboardTab.counting, ScoreboardTab.pause

    def first(self, settings: GraderSettings, visit: Visit) -> Run:
        """Return the run whose answers are graded, as it is.

        Raises:
            DitError: nothing was measured, or a visitor of a public server wants another grader than the rules: others
                load models, or ask endpoints on its owner's account.
        """
        run = self.result(visit)
        if settings.by != RULES and not current_limits().paths:
            raise DitError(RULES_ONLY)
        if run is None or run.findings is None:
            raise DitError(UNMEASURED)
        return replace(run, state=State.RUNNING, failure="", regrading=settings, done=0, total=0)

    def start(self, first: Run) -> Generator[Run, None, None]:
        """Return the run as its answers are graded part by part; the last one's board has the new grades."""
        return self._graded(first, first.regrading.grader(self.suite))

    def _graded(self, run: Run, by: Grader | None) -> Generator[Run, None, None]:
        findings = run.findings
        assert findings is not None
        if by is not None:
            pairs = pairs_to_grade(self.suite, findings)
            results: dict[tuple[str, str], GradeResult | None] = {}
            for start in range(0, len(pairs), ANSWERS_PER_STEP):
                yield replace(run, done=start, total=len(pairs))
                part = pairs[start : start + ANSWERS_PER_STEP]
                results |= zip(part, by.grade_all(part), strict=True)
            findings = with_grades(self.suite, findings, results, by.name)
        made = board(self.suite, findings, by)
        made.agreement  # noqa: B018 (read here, where a judge's worker may be waited for, and not while the page is drawn)
        yield replace(run, board=made, grading=run.regrading)

    def progress(self, result: Run) -> tuple[float, float]:
        """Return how many answers are graded, of how many."""
        return result.done, result.total

    def words(self, result: Run, clock: TimeLeft) -> str:
        """Return '80 of 7,960 answers, about 40 s left; graded by the rules'."""
        return f"{super().words(result, clock)}; graded by {result.regrading.by}"

    def ending(self, result: Run) -> str:
        """Return that a stopped grading has changed nothing."""
        return "Stopped: the figures stay as they were graded before." if result.state is State.STOPPED else ""
