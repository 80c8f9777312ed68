"""Whether the answers on the cards can be trusted: which of them are weighed, and how a card shows it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing

from dit_core.methods.comparison import Column
from dit_core.present.cards import Trust, chance
from dit_core.records import Confidence
from dit_core.records.condition import Condition
from dit_core.request.conditions import question_of
from dit_core.session.visit import Result
from dit_core.suite import Suite
from dit_core.trust import stream_confidence

EVIDENCE_RUNNING = "Comparing with what the adapter says without this diff…"
EVIDENCE_STOPPED = "Stopped before the evidence was in: press Ask for it."


def evidence_adapter(suite: Suite, result: Result, column: Column) -> str:
    """The DIT adapter whose evidence belongs on a card; "" for a card that has none.

    Controls are asked as one adapter was trained to be: there is evidence where it alone acts, once and on the whole
    diff, and is asked its own question.
    """
    match Condition.parse(column.condition):
        case Condition(strength=1.0, adapters=((name, 1.0),), trigger="absent", layers=None):
            name = name or suite.task_of(suite.diff(result.settings.diff)).adapter
            own = name in suite.adapters and column.question == question_of(suite, name)
            return name if own else ""
    return ""


def missing_evidence(suite: Suite, result: Result) -> list[str]:
    """The adapters whose evidence the cards lack, in the order of the cards."""
    wanted = dict.fromkeys(evidence_adapter(suite, result, column) for column in result.columns)
    known = {"", *(one.adapter for one in result.evidence)}
    return [name for name in wanted if name not in known]


def fetch_evidence(suite: Suite, result: Result) -> Generator[tuple[Confidence, ...], None, None]:
    """Fetches the evidence that the cards lack, adapter by adapter; each item is all that there is so far."""
    found = result.evidence
    for name in missing_evidence(suite, result):
        with closing(stream_confidence(suite, result.settings.diff, adapter=name)) as tables:
            for table in tables:
                yield (*found, *table)
        found = (*found, *table)


def trust(result: Result, adapter: str) -> Trust:
    """The evidence that has come in about an adapter's answer, in words; its place until then."""
    found = next((one for one in result.evidence if one.adapter == adapter), None)
    if found is None:
        return Trust(result.evidence_note)
    rows = [("this diff", found.text, f"{found.times} of {found.samples}")]
    rows += [(one["kind"], one["text"], f"{one['times']} of {one['samples']}") for one in found.controls]
    if found.probability is None:
        return Trust(found.sentence, rows=rows, why=found.why)
    return Trust(found.sentence, chance(found.probability), rows)
