"""The evidence for the oracle's readings of one layer: fetching it, and showing it in the panel."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from dit_core.methods.comparison import Column
from dit_core.present.cards import evidence_html
from dit_core.records import Confidence, Table
from dit_core.records.condition import Condition
from dit_core.request.conditions import Span
from dit_core.session.job import Job, follow
from dit_core.session.messages import error_sentence
from dit_core.suite import Suite
from dit_core.trust import stream_reading_confidence

if TYPE_CHECKING:
    from dit_core.session.oracle import PanelResult

EVIDENCE_RUNNING = "Comparing with what the oracle reads without this diff…"
EVIDENCE_STOPPED = "Stopped before the evidence was in: click the point again."
NOTHING = "The span holds nothing to compare with."


def has_evidence(panel: PanelResult, column: Column) -> bool:
    """Return whether a column's readings can have evidence: a diff acts, and each layer is read once."""
    acts = Condition.parse(column.condition).strength
    return bool(acts) and panel.settings.kind != "without" and not Span(panel.settings.span).per_token


def fetch_evidence(suite: Suite, job: Job) -> Iterator[None]:
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
