"""Events of the Explore tab. Every method is one event.

Nothing about a visitor is kept here: that is in their `Visit`, which each event gets and changes.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from weakref import WeakValueDictionary

import gradio as gr

from dit_core.errors import DitError
from dit_core.methods.comparison import columns, compare, first_info, read_first_run
from dit_core.present.cards import DONE, RUNNING, STOPPED, WAITING, note_html
from dit_core.records import as_dict
from dit_core.records.condition import checked_text
from dit_core.session import answer_evidence
from dit_core.session import explore_view as view
from dit_core.session.job import QueuePosition, downloads_until, follow
from dit_core.session.messages import STALE, STORED, error_sentence
from dit_core.session.notebook_cells import cell_code, read_code
from dit_core.session.settings import PanelSettings, Settings, from_query, query_settings, to_query
from dit_core.session.time_left import AnswerProgress
from dit_core.session.visit import EVIDENCE, PANEL, Result, Visit, empty_result
from dit_core.suite import Suite
from dit_core.ui.tabs.explore.controls import show


class Events:
    """The events of one suite's Explore tab; `suite_ref` is how `load_suite` finds the suite."""

    def __init__(self, suite: Suite, suite_ref: str):
        self.suite, self.suite_ref = suite, suite_ref
        self._open: WeakValueDictionary[str, Visit] = WeakValueDictionary()  # by Gradio's visit hash, to be left

    def first(self) -> Settings:
        """Return the settings that a first visitor meets."""
        return Settings.for_diff(self.suite, first_info(self.suite).id)

    def result(self, visit: Visit) -> Result:
        """Return what the cards show; empty cards for a first visitor."""
        return visit.result or empty_result(self.suite, self.first())

    def board(self, visit: Visit, note: str = "", kind: str = "note") -> tuple[str, str, str]:
        """Return heading, cards and note for what the visit shows."""
        result = self.result(visit)
        return view.heading(result), view.board(self.suite, result, visit.revealed), note_html(note, kind)

    def blank(self) -> tuple[str, str, str]:
        """Return the right side before the page has said which address it has."""
        return self.board(Visit())

    def controls(self, visit: Visit, settings: Settings) -> list[Any]:
        """Return the left side's updates: controls, presets, secret, reveal button."""
        return [*show(self.suite, settings), *self.hidden(visit, settings.diff)]

    def hidden(self, visit: Visit, diff: str) -> tuple[str, Any]:
        """Return the line about a diff's topic, and the reveal button."""
        word = "Hide" if visit.revealed == diff else "Reveal"
        return view.secret(self.suite, diff, visit.revealed), gr.update(value=word)

    # ---------------------------------------------------------------- asking

    def ask(self, visit: Visit, *values: Any) -> Iterator[tuple]:
        """Ask what the left side says; the cards fill as tokens arrive. The last note says how it ended."""
        stop, before = visit.begin(), visit.result
        try:
            settings = Settings(*values)
            info, condition = self.suite.diff(settings.diff), settings.condition
            settings = replace(settings, question=checked_text(settings.question, "The question"))
            cards = columns(self.suite.task_of(info), settings.question, condition)
            visit.result = result = replace(empty_result(self.suite, settings), columns=cards, state=RUNNING)
            clock, length = AnswerProgress(settings.sampling["max_new_tokens"]), 0
            yield *self.board(visit, f"Asking {len(cards)} conditions as one batch…", "busy"), gr.skip()
            with downloads_until(stop):
                answers = compare(self.suite, info, cards, **settings.sampling)
            for table in follow(answers, stop, worker=self.suite.worker):
                if isinstance(table, QueuePosition):
                    yield *self.board(visit, str(table), "busy"), gr.skip()
                    continue
                length = max((len(answer.tokens) for answer in table), default=0)
                visit.result = result = replace(result, table=table)
                yield *self.board(visit, clock.words(length), "busy"), gr.skip()
            if visit.stop is not stop:
                return  # the same visitor's next question has taken the page over
            visit.result = replace(result, state=STOPPED if stop.is_set() else DONE)
            visit.remember(view.label(settings), to_query(self.suite, settings))
            note = f"Stopped after {length} tokens. What was said stays." if stop.is_set() else ""
            yield *self.board(visit, note), gr.update(choices=visit.recent, value=None)
        except Exception as error:
            if visit.stop is stop:
                visit.result = before
                yield *self.board(visit, error_sentence(error), "error"), gr.skip()

    def stop(self, visit: Visit) -> None:
        """End the running question, or the reading that follows it, at once."""
        visit.stop.set()
        visit.job(PANEL).stop.set()
        visit.job(EVIDENCE).stop.set()

    def fetch_evidence(self, visit: Visit) -> Iterator[str]:
        """Fetch the evidence for the answers once they are there, and show the cards with it."""
        result = visit.result
        if not (result and result.state == DONE and answer_evidence.missing_evidence(self.suite, result)):
            yield gr.skip()
            return
        stop, note = visit.job(EVIDENCE).begin(), answer_evidence.EVIDENCE_STOPPED
        visit.result = result = replace(result, evidence_note=answer_evidence.EVIDENCE_RUNNING)
        yield view.board(self.suite, result, visit.revealed)
        try:
            for found in follow(answer_evidence.fetch_evidence(self.suite, result), stop, worker=self.suite.worker):
                if visit.result is not result:
                    return  # the same visitor's next question has taken the cards over
                if not isinstance(found, QueuePosition) and len(found) > len(result.evidence):
                    visit.result = result = replace(result, evidence=found)
                    yield view.board(self.suite, result, visit.revealed)
        except Exception as error:
            note = error_sentence(error)
        if visit.result is result and answer_evidence.missing_evidence(self.suite, result):
            visit.result = replace(result, evidence_note=note)
            yield view.board(self.suite, visit.result, visit.revealed)

    # ---------------------------------------------------------------- choosing

    def opened(self, visit: Visit, query: str, request: gr.Request) -> list[Any]:
        """Show what the visitor's address says."""
        self._open[request.session_hash or ""] = visit
        return self.restore(visit, query)

    def left(self, request: gr.Request) -> None:
        """End everything that runs for a visitor who has gone."""
        if visit := self._open.get(request.session_hash or ""):
            visit.leave()

    def restore(self, visit: Visit, query: str) -> list[Any]:
        """Set everything to what an address, or an entry of the recent list, says."""
        visit.begin()
        try:
            settings, note = (from_query(self.suite, query), "") if query_settings(query) else (self.first(), "")
            visit.opening = "ask" if query_settings(query) else "stored"
        except DitError as error:
            settings, note, visit.opening = self.first(), str(error), ""
        visit.result = empty_result(self.suite, settings)
        return [*self.controls(visit, settings), *self.board(visit, note, "error" if note else "note")]

    def answer_opening(self, visit: Visit, *values: Any) -> Iterator[tuple]:
        """Show the stored run where it is still true, else ask: what follows `restore` and `surprise`."""
        opening, visit.opening = visit.opening, ""
        if opening == "stored" and (table := read_first_run(self.suite)) is not None:
            visit.result = replace(empty_result(self.suite, self.first()), table=table, state=DONE, stored=True)
            yield *self.board(visit, STORED), gr.skip()
        elif opening:
            yield from self.ask(visit, *values)
        else:
            yield (gr.skip(),) * 4  # an event that gives nothing would empty the page

    def choose(self, visit: Visit, *values: Any) -> list[Any]:
        """Show another diff: its cards are empty until asked; a question of the visitor's own stays."""
        visit.begin()
        settings = Settings(*values).with_diff(self.suite, values[0])
        visit.result = empty_result(self.suite, settings)
        return [*self.controls(visit, settings), *self.board(visit, "Press Ask.")]

    def surprise(self, visit: Visit, *values: Any) -> list[Any]:
        """Pick a held-out diff of the same task and ask it."""
        visit.begin()
        diff = pick(self.suite, self.suite.diff(values[0]).task if values[0] else None, but=values[0])
        settings = Settings(*values).with_diff(self.suite, diff)
        visit.result, visit.opening = empty_result(self.suite, settings), "ask"
        return [*self.controls(visit, settings), *self.board(visit)]

    def reveal(self, visit: Visit, diff: str) -> tuple:
        """Show or hides what the diff was trained on, its trigger and the grades."""
        visit.revealed = "" if visit.revealed == diff else diff
        return self.truth(visit, diff)

    def truth(self, visit: Visit, diff: str) -> tuple:
        """Return what may be shown of a diff now: it may have been revealed on another tab."""
        if not diff:
            return (gr.skip(),) * 3  # the page is still being set up
        return *self.hidden(visit, diff), self.board(visit)[1]

    def changed(self, visit: Visit, *values: Any) -> tuple:
        """Return the address for left side and panel, and a note where the cards no longer answer the left side.

        The last of `values` is the number that the browser gave this change; it stands before the address.
        """
        *controls, turn = values
        count = len(Settings.__dataclass_fields__)
        settings, panel = Settings(*controls[:count]), PanelSettings.from_controls(self.suite, *controls[count:])
        try:
            query, address = to_query(self.suite, settings), f"{turn}?{to_query(self.suite, settings, panel)}"
        except DitError:
            return gr.skip(), gr.skip()
        result = visit.result
        if result is None or result.state in (RUNNING, WAITING):
            return address, gr.skip()
        if query != to_query(self.suite, result.settings):
            return address, note_html(STALE)
        return address, note_html(STORED if result.stored else "")

    # ---------------------------------------------------------------- taking away

    def json(self, visit: Visit) -> tuple[str, str]:
        """Return file name and content as JSON: the answers, and the evidence that their cards show."""
        result = self.result(visit)
        shown = result.table.to_json() | {"confidence": [as_dict(evidence) for evidence in result.evidence]}
        return f"{result.settings.diff}.json", json.dumps(shown, ensure_ascii=False, indent=1)

    def csv(self, visit: Visit) -> tuple[str, str]:
        """Return file name and content of the answers as CSV."""
        result = self.result(visit)
        return f"{result.settings.diff}.csv", result.table.to_csv()

    def cell(self, visit: Visit) -> tuple[str, Any]:
        """Return the notebook cell for what is shown, to be copied, and to be seen."""
        result = self.result(visit)
        code = cell_code(self.suite, self.suite_ref, result.settings, result.columns)
        found = visit.job(PANEL).result
        if found and found.next_tokens:
            code += "\n" + read_code(self.suite, found)
        return code, gr.update(value=code, visible=True)


def pick(suite: Suite, task: str | None = None, but: str = "") -> str:
    """Return the id of a random diff held out of all DIT training, another than `but` where there is one."""
    held_out = [d.id for d in suite.diffs if d.split == "test" and (task is None or d.task == task)]
    if not held_out:
        raise DitError(f"The suite '{suite.name}' has no held-out diff for '{task}': pick one from the list.")
    return random.choice([d for d in held_out if d != but] or held_out)
