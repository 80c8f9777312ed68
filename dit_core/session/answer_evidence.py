"""The evidence for the answers on the cards: which cards have any, fetching it, and showing it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing

from dit_core.methods.comparison import Column
from dit_core.records import Confidence
from dit_core.records.condition import Condition
from dit_core.request.conditions import question_of
from dit_core.session.visit import Result
from dit_core.suite import Suite
from dit_core.trust import stream_confidence

EVIDENCE_RUNNING = "Comparing with what the adapter says without this diff…"
EVIDENCE_STOPPED = "Stopped before the evidence was in: press Ask for it."


def evidence_adapter(suite: Suite, result: Result, column: Column) -> str:
    """Return the DIT adapter whose evidence belongs on a card; "" for a card that has none.

    Controls are asked in the way that one adapter was trained on. So there is evidence where that adapter alone acts,
    once and on the whole diff, and is asked its own question.
    """
    match Condition.parse(column.condition):
        case Condition(strength=1.0, adapters=((name, 1.0),), trigger="absent", layers=None):
            name = name or suite.task_of(suite.diff(result.settings.diff)).adapter
            own = name in suite.adapters and column.question == question_of(suite, name)
            return name if own else ""
    return ""


def missing_evidence(suite: Suite, result: Result) -> list[str]:
    """Return the adapters whose evidence the cards lack, in the order of the cards."""
    adapters = dict.fromkeys(evidence_adapter(suite, result, column) for column in result.columns)
    known = {"", *(evidence.adapter for evidence in result.evidence)}
    return [name for name in adapters if name not in known]


def fetch_evidence(suite: Suite, result: Result) -> Generator[tuple[Confidence, ...], None, None]:
    """Fetch the evidence that the cards lack, adapter by adapter; yield all that there is so far."""
    finished = result.evidence
    for name in missing_evidence(suite, result):
        with closing(stream_confidence(suite, result.settings.diff, adapter=name)) as tables:
            for table in tables:
                yield (*finished, *table)
        finished = (*finished, *table)


def known_evidence(result: Result, adapter: str) -> Confidence | str:
    """Return the evidence that has come in for an adapter's answer; the sentence in its place until then."""
    return next((record for record in result.evidence if record.adapter == adapter), result.evidence_note)
