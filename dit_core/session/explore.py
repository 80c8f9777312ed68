"""What the Explore tab asks: the standing comparison, the evidence for its answers, and a cell that asks the same."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

from dit_core.errors import DitError, checked_text
from dit_core.methods.comparison import Column, columns, pairs
from dit_core.methods.verbalize import stream
from dit_core.records import Confidence
from dit_core.records.condition import Condition
from dit_core.request.conditions import question_of
from dit_core.session.job import Job, QueuePosition, State, TimeLeft, follow
from dit_core.session.oracle import PanelResult, arguments
from dit_core.session.settings import Settings, to_query
from dit_core.session.tab import Tab, error_sentence
from dit_core.session.visit import EVIDENCE, PANEL, Result, Visit, empty_result
from dit_core.suite import Suite
from dit_core.suite.snippets import call, opening_lines
from dit_core.trust import stream_confidence

STORED = "A stored run of the real thing, made when this suite was built. Press Ask to ask it now."
EVIDENCE_RUNNING = "Comparing with what the adapter says without this diff…"
EVIDENCE_STOPPED = "Stopped before the evidence was in: press Ask for it."


def evidence_adapter(suite: Suite, result: Result, column: Column) -> str:
    """Return the DIT adapter whose evidence belongs on a card; "" for a card that has none.

    Controls are asked in the way that one adapter was trained on. So there is evidence where that adapter alone acts,
    once and on the whole diff, and is asked its own question.
    """
    match Condition.parse(column.condition):
        case Condition(1.0, ((name, 1.0),), "absent", None, ()) as condition if not condition.chat:
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


class ExploreTab(Tab[Settings, Result]):
    """Asks what the controls say: the standing comparison, and the chosen condition, as one batch."""

    name, button, settings_type, result_type = "explore", "Ask", Settings, Result
    idle = "Press Ask."

    def job(self, visit: Visit) -> Job:
        """Return the visit itself: whoever asks anew ends what is read for the answers before."""
        return visit

    def first(self, settings: Settings, visit: Visit) -> Result:
        """Return the cards without answers; DitError for settings that make no sense."""
        info, condition = self.suite.diff(settings.diff), settings.condition
        settings = replace(settings, question=checked_text(settings.question, "The question"), **settings.sampling)
        cards = columns(self.suite.task_of(info), settings.question, condition)
        return replace(empty_result(self.suite, settings), columns=cards, state=State.RUNNING)

    def start(self, first: Result) -> Generator[Any, None, None]:
        """Return the answers as tokens arrive."""
        return stream(self.suite, first.settings.diff, condition=pairs(first.columns), **first.settings.sampling)

    def words(self, result: Result, clock: TimeLeft) -> str:
        """Return 'token 12 of at most 40, at most 2 s left', measured from the moment of asking."""
        limit, length = result.settings.max_new_tokens, _length(result)
        if not result.table:
            clock.start(limit)
            return f"Asking {len(result.columns)} conditions as one batch…"
        left = clock.seconds(min(length, limit), limit)
        if left is None:
            return "reading the question…"
        return f"token {length} of at most {limit}, at most {left:.0f} s left"

    def ending(self, result: Result) -> str:
        """Return where the answers come from, or where they were stopped."""
        if result.state is State.STOPPED:
            return f"Stopped after {_length(result)} tokens. What was said stays."
        return STORED if result.stored else ""

    def answers(self, result: Result, settings: Settings) -> bool:
        """Return whether a result is of settings with the same address."""
        try:
            return to_query(self.suite, settings) == to_query(self.suite, result.settings)
        except DitError:
            return False

    def stop(self, visit: Visit) -> None:
        """End the running question, or the evidence and the reading that follow it, at once."""
        for job in (visit, visit.job(PANEL), visit.job(EVIDENCE)):
            job.stop.set()

    def fetch_evidence(self, visit: Visit) -> Iterator[Result]:
        """Fetch the evidence for the answers once they are there; yield the result whenever there is more."""
        result = visit.result
        if not (result and result.state == State.DONE and missing_evidence(self.suite, result)):
            return
        stop, note = visit.job(EVIDENCE).begin(), EVIDENCE_STOPPED
        visit.result = result = replace(result, evidence_note=EVIDENCE_RUNNING)
        yield result
        try:
            for found in follow(fetch_evidence(self.suite, result), stop, worker=self.suite.worker):
                if visit.result is not result:
                    return  # the same visitor's next question has taken the cards over
                if not isinstance(found, QueuePosition) and len(found) > len(result.evidence):
                    visit.result = result = replace(result, evidence=found)
                    yield result
        except Exception as error:
            note = error_sentence(error)
        if visit.result is result and missing_evidence(self.suite, result):
            visit.result = replace(result, evidence_note=note)
            yield visit.result


def _length(result: Result) -> int:
    return max((len(answer.tokens) for answer in result.table), default=0)


def cell_code(suite: Suite, suite_ref: str, settings: Settings, columns: Sequence[Column]) -> str:
    """Return a cell that gives the same answers; `suite_ref` is how `load_suite` finds the suite."""
    plain = Settings.for_diff(suite, settings.diff)
    changed = {name: value for name, value in settings.sampling.items() if value != getattr(plain, name)}
    lines = opening_lines(suite, suite_ref, settings.diff, "from dit_core import ask, load_suite")
    asked = list(dict.fromkeys(column.question for column in columns))
    tables = ("table", "shown")[: len(asked)]
    for table, question in zip(tables, asked, strict=True):
        options = {
            "condition": [column.condition for column in columns if column.question == question],
            "question": question,
            **changed,
        }
        lines += [f"{table} = {call('ask', suite, settings.diff, options)}"]
    return "\n".join([*lines, f"display({', '.join(f'{table}.to_frame()' for table in tables)})"])


def read_code(suite: Suite, panel: PanelResult) -> str:
    """Return the part of a cell that draws the panel's figures, for behind a cell that loads `suite`."""
    diff, seed = panel.cards.settings.diff, panel.cards.settings.sampling["seed"]
    followed = [column for column in panel.cards.columns if column.of(panel.next_tokens or ())]
    options = {"condition": pairs(followed), "seed": seed}
    imports = [
        "from dit_core.methods.lens import next_tokens",
        "from dit_core.present.plots import by_layer, next_token_by_layer",
    ]
    lines = [f"next_token_by_layer({call('next_tokens', suite, diff, options)}).show()"]
    if panel.readings:
        imports.insert(1, "from dit_core.methods.oracle import read")
        options = {"condition": pairs(panel.columns)} | arguments(panel)
        lines.insert(0, f"by_layer({call('read', suite, diff, options)}).show()")
    return "\n".join([*imports, "", *lines])
