"""What one visitor sees and has running: one `Visit`, shared by all tabs. Nothing of a visitor is kept elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from dit_core.errors import DitError
from dit_core.methods.comparison import Column, columns
from dit_core.records import Confidence, Table, Verbalization
from dit_core.session.job import Job, State
from dit_core.session.job import Result as TabResult
from dit_core.session.settings import Settings
from dit_core.suite import Suite

PANEL = "panel"  # the job that reads what the cards show
EVIDENCE = "evidence"  # the job that gathers evidence for what they say


@dataclass(frozen=True, kw_only=True)
class Result(TabResult[Settings]):
    """What the cards show: the columns, the answers so far, and the evidence for them."""

    columns: tuple[Column, ...]
    table: Table[Verbalization]
    stored: bool = False
    evidence: tuple[Confidence, ...] = ()  # for the cards of as many DIT adapters
    evidence_note: str = ""  # shown in the place of evidence that is not there


def empty_result(suite: Suite, settings: Settings) -> Result:
    """Return a result without answers: its cards keep their places."""
    try:
        chosen = settings.condition
    except DitError:
        chosen = None  # half-written settings: asking says what is wrong
    cards = columns(suite.task_of(suite.diff(settings.diff)), settings.question, chosen)
    return Result(settings, State.EMPTY, columns=cards, table=Table(suite.name, "verbalizations", ()))


class Visit(Job):
    """A visitor's state on all tabs; as a `Job`, their running question.

    Attributes:
        revealed: the id of the diff whose reference they asked to see, or "".
        opening: what follows once the controls are set: 'ask', 'stored' (the suite's first run) or nothing.
        recent: their last questions, as (label, address).
        token: another object each time they leave.
    """

    result: Result | None

    def __init__(self) -> None:
        super().__init__()
        self.revealed = ""
        self.recent: list[tuple[str, str]] = []
        self.opening = ""
        self.token = object()
        self._jobs: dict[str, Job] = {}
        self._last_diff: dict[str, str] = {}
        self._at_leaving: list[Callable[[], None]] = []
        self._leaving = threading.Lock()

    def __deepcopy__(self, memo: dict) -> Visit:
        return Visit()  # Gradio copies a state's first value once per visitor: each starts with nothing

    def begin(self) -> threading.Event:
        """Begin a question; end and forget what is read for the answers so far."""
        panel = self.job(PANEL)
        panel.begin()
        panel.result = None
        self.job(EVIDENCE).stop.set()
        return super().begin()

    def job(self, name: str) -> Job:
        """Return what else runs for this visitor beside their question, by name; each is stopped on its own."""
        return self._jobs.setdefault(name, Job())

    def diff_for_tab(self, tab: str, shown: str) -> str:
        """Return the diff to show on a tab that is opened: Explore's, where that has changed since last time."""
        diff = self.result.settings.diff if self.result else shown
        is_new, self._last_diff[tab] = self._last_diff.get(tab) != diff, diff
        return diff if is_new else shown

    def at_leaving(self, callback: Callable[[], None], token: object) -> bool:
        """Call back when the visitor leaves; at once, and return False, where the visit of `token` has ended."""
        with self._leaving:
            if here := token is self.token:
                self._at_leaving.append(callback)
        if not here:
            callback()
        return here

    def leave(self) -> None:
        """End everything that runs: the visitor has gone."""
        with self._leaving:
            self.token, callbacks, self._at_leaving = object(), self._at_leaving, []
        for job in (self, *self._jobs.values()):
            job.stop.set()
        for callback in callbacks:
            callback()

    def remember(self, label: str, query: str, keep: int = 8) -> None:
        """Put a question at the top of the recent list, once."""
        self.recent = [(label, query), *(entry for entry in self.recent if entry[1] != query)][:keep]
