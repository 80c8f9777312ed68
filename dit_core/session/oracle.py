"""What the panel under the cards was asked, what it has read, and the evidence for the readings of one layer."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

from dit_core.errors import DitError
from dit_core.methods import comparison as standing
from dit_core.methods.comparison import Column
from dit_core.present.cards import evidence_html
from dit_core.records import Confidence, NextToken, Reading, Table, Target
from dit_core.records.condition import Condition
from dit_core.request.conditions import Span
from dit_core.session.job import Job, State, TimeLeft, follow
from dit_core.session.job import Result as TabResult
from dit_core.session.settings import PanelSettings, counts_from_start
from dit_core.session.tab import Tab, error_sentence
from dit_core.session.visit import PANEL, Result, Visit
from dit_core.suite import Suite
from dit_core.trust import stream_reading_confidence

UNASKED = "Press Ask first: the panel reads the conditions on the cards."
NO_ORACLE = (
    "This suite has no activation oracle, so nothing is read in words. What each layer would say next needs none."
)


@dataclass(frozen=True)
class PanelDisplay:
    """How a visitor looks at a panel's result: both figures' y axes, and the column of `PanelSettings.of`.

    `first` is the token of a span that was clicked so far, `layer` the one whose readings are shown in full.
    """

    y: str = ""
    next_y: str = ""
    of: str = ""
    first: int | None = None
    layer: int | None = None


@dataclass(frozen=True, kw_only=True)
class PanelResult(TabResult[PanelSettings]):
    """A panel's result for `cards`: their tokens, the logit lens, and the oracle's readings so far.

    `columns` are those that are read; `left_out` says in a sentence why others are not. `evidence` holds the evidence
    for a column's readings of a layer, or a sentence in its place.
    """

    cards: Result
    columns: tuple[Column, ...] = ()
    left_out: str = ""
    targets: Table[Target] | None = None
    next_tokens: Table[NextToken] | None = None
    readings: Table[Reading] | None = None
    display: PanelDisplay = PanelDisplay()
    evidence: Mapping[tuple[Column, int], Confidence | str] = field(default_factory=dict)

    def target(self, column: Column) -> Target | None:
        """Return the tokens of a column's prompt, None until they are known."""
        return next(iter(column.of(self.targets or ())), None)


def column_of(columns: Sequence[Column], kind: str) -> Column:
    """Return the column of a kind, else the chosen one, else the last."""
    named = [column for column in columns if column.kind == kind]
    return (named or [column for column in columns if column.chosen] or [columns[-1]])[0]


class PanelTab(Tab[PanelSettings, PanelResult]):
    """Reads what the cards show: the logit lens, then the oracle's readings layer by layer."""

    name, button, settings_type, result_type = PANEL, "Read", PanelSettings, PanelResult
    working, counting = "Reading the prompts…", "Reading {done} of {total}"

    def __init__(self, suite: Suite, suite_ref: str = "") -> None:
        super().__init__(suite, suite_ref)
        self.idle = "" if suite.oracle else NO_ORACLE

    def settings(self, values: Mapping[str, Any]) -> PanelSettings:
        """Return the settings for the controls' values; defaults are written as such."""
        return PanelSettings.from_controls(self.suite, values)

    def first(self, settings: PanelSettings, visit: Visit) -> PanelResult:
        """Return the panel of the cards that are shown; DitError where there are none yet."""
        if visit.result is None or visit.result.state is State.EMPTY:
            raise DitError(UNASKED)
        return PanelResult(settings, cards=visit.result, display=PanelDisplay(of=settings.of))

    def start(self, first: PanelResult) -> Generator[PanelResult, None, None]:
        """Yield the panel after each step; without an oracle it ends with the logit lens.

        Raises:
            DitError: nothing is left to read.
        """
        suite, result, settings = self.suite, first.cards, first.settings
        info, seed = suite.diff(result.settings.diff), result.settings.sampling["seed"]
        panel = replace(first, targets=standing.targets(suite, info, result.columns, seed=seed))
        columns, left_out = _readable(panel)
        if suite.oracle and not columns:
            raise DitError(f"{left_out} Nothing is left to read: choose other conditions or tokens.".strip())
        lens = [column for column in result.columns if column.kind in settings.kinds] or result.columns
        panel = replace(panel, columns=columns, left_out=left_out)
        if suite.oracle is None:
            yield replace(panel, next_tokens=standing.next_tokens(suite, info, lens, seed=seed, reference=True))
            return
        with closing(standing.read(suite, info, columns, lens, **arguments(panel))) as tables:
            for table in tables:
                fields: dict[str, Any] = {table.kind: table}  # `next_tokens`, then `readings`
                panel = replace(panel, **fields)
                yield panel

    def add(self, result: PanelResult, found: PanelResult) -> PanelResult:
        """Return what was found, looked at as by now: that may have changed while it was read."""
        return replace(found, display=result.display)

    def progress(self, result: PanelResult) -> tuple[float, float]:
        """Return how many readings there are, of how many."""
        return (len(result.readings), result.readings.extra["n_readings"]) if result.readings else (0, 0)

    def words(self, result: PanelResult, clock: TimeLeft) -> str:
        """Return which step is under way, and how far the readings are."""
        return super().words(result, clock) if result.readings or not result.next_tokens else "Asking the oracle…"

    def ending(self, result: PanelResult) -> str:
        """Return how the reading has ended, and why there is less to see where that is so."""
        if self.idle:
            return self.idle
        if result.state is State.STOPPED:
            return f"Stopped after {len(result.readings or ())} readings. What was read stays."
        return result.left_out

    def answers(self, result: PanelResult, settings: PanelSettings) -> bool:
        """Return whether the same would be read, however it is shown."""
        return result.settings.reads == settings.reads

    def diff(self, result: PanelResult) -> str:
        """Return the id of the cards' diff."""
        return result.cards.settings.diff


def arguments(panel: PanelResult) -> dict[str, Any]:
    """Return the arguments of `oracle.read` beside diff, conditions and questions; defaults are left out."""
    settings, sampling = panel.settings, panel.cards.settings.sampling
    values = {name: getattr(settings, name) for name in ("question", "span", "kind", "layers")}
    default = PanelSettings()
    chosen = {name: value for name, value in values.items() if value != getattr(default, name)}
    chosen |= {name: sampling[name] for name in ("samples", "temperature", "seed") if sampling[name] != _PLAIN[name]}
    if Span(settings.span).needs_answer:
        chosen["answer_tokens"] = sampling["max_new_tokens"]
    return chosen


_PLAIN = {"samples": 1, "temperature": 0.0, "seed": 0}


def _readable(panel: PanelResult) -> tuple[tuple[Column, ...], str]:
    """Return the columns that can be read as the settings say, and a sentence about those that can't."""
    columns = [column for column in panel.cards.columns if column.kind in panel.settings.kinds]
    idle = [column for column in columns if panel.settings.kind == "difference" and _idle(column)]
    columns = [column for column in columns if column not in idle]
    other = [column for column in columns if counts_from_start(panel.settings.span) and not _same_tokens(panel, column)]
    sentences = [_left_out(idle, "nothing acts there"), _left_out(other, "other tokens stand there")]
    return tuple(column for column in columns if column not in other), " ".join(filter(None, sentences))


def _left_out(columns: Sequence[Column], why: str) -> str:
    names = " and ".join(column.title for column in columns)
    return f"Left out: {names}, for {why}." if columns else ""


def _idle(column: Column) -> bool:
    return not Condition.parse(column.condition).acts


def _same_tokens(panel: PanelResult, column: Column) -> bool:
    """Return whether a column's prompt has the tokens of the clicked column, up to the last that is read."""
    mine, clicked = panel.target(column), panel.target(column_of(panel.cards.columns, panel.settings.of))
    if mine is None or clicked is None:
        return False
    stop = max(map(max, Span(panel.settings.span).positions(clicked.prompt_tokens)), default=0) + 1
    return mine.tokens[:stop] == clicked.tokens[:stop]


EVIDENCE_RUNNING = "Comparing with what the oracle reads without this diff…"
EVIDENCE_STOPPED = "Stopped before the evidence was in: click the point again."
NOTHING = "The span holds nothing to compare with."


def has_evidence(panel: PanelResult, column: Column) -> bool:
    """Return whether a column's readings can have evidence: a diff acts, and each layer is read once."""
    acts = Condition.parse(column.condition).needs_diff
    return acts and panel.settings.kind != "without" and not Span(panel.settings.span).per_token


def fetch_reading_evidence(suite: Suite, job: Job) -> Iterator[None]:
    """Fetch the evidence for the clicked layer into `job.result`, column by column; yield when there is more to show.

    Yield nothing while the panel still reads; end where the job begins something else.
    """
    columns = _missing_evidence(job.result)
    if not columns:
        return
    layer, stop = job.result.display.layer, job.begin()
    for column in columns:
        job.result = _kept(job.result, column, layer, EVIDENCE_RUNNING)
    yield
    for column in columns:
        evidence = _evidence(suite, job.result, column, layer, stop)
        if job.stop is not stop:
            return  # another layer was clicked, or the panel reads anew
        job.result = _kept(job.result, column, layer, evidence)
        yield


def _missing_evidence(panel: PanelResult | None) -> list[Column]:
    """Return the columns whose readings of the clicked layer have no evidence yet."""
    if panel is None or panel.display.layer is None or panel.state.busy:
        return []
    layer = panel.display.layer
    if all(reading.layer != layer for reading in panel.readings or ()):
        return []
    known = {key for key, evidence in panel.evidence.items() if isinstance(evidence, Confidence)}
    return [column for column in panel.columns if has_evidence(panel, column) and (column, layer) not in known]


def _evidence(suite: Suite, panel: PanelResult, column: Column, layer: int, stop: threading.Event) -> Confidence | str:
    """Return the evidence for a column's readings of a layer, or a sentence on why there is none."""
    newest: Table[Confidence] | None = None
    try:
        if not stop.is_set():
            for table in follow(_stream_evidence(suite, panel, column, layer), stop):
                newest = table
    except Exception as error:
        return error_sentence(error)
    if not newest:
        return EVIDENCE_STOPPED if stop.is_set() else NOTHING
    return newest[0]


def _stream_evidence(
    suite: Suite, panel: PanelResult, column: Column, layer: int
) -> Generator[Table[Confidence], None, None]:
    asked, sampling = panel.settings, panel.cards.settings.sampling
    return stream_reading_confidence(
        suite,
        panel.cards.settings.diff,
        condition=column.condition,
        asked=column.question,
        layers=layer,
        span=asked.span,
        kind=asked.kind,
        question=asked.question,
        answer_tokens=sampling["max_new_tokens"] if Span(asked.span).needs_answer else None,
        seed=sampling["seed"],
    )


def _kept(panel: PanelResult, column: Column, layer: int, evidence: Confidence | str) -> PanelResult:
    return replace(panel, evidence={**panel.evidence, (column, layer): evidence})


def evidence_of_layer(panel: PanelResult, column: Column) -> str:
    """Return the evidence for a column's readings of the clicked layer as HTML.

    Until it is there, a sentence keeps its place. Empty where no layer was clicked, or there can be no evidence.
    """
    if panel.display.layer is None or not has_evidence(panel, column):
        return ""
    return evidence_html(panel.evidence.get((column, panel.display.layer), ""))
