"""What the Explore tab shows, and what a visitor can do there.

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
from dit_core.methods.comparison import first_info, read_first_run
from dit_core.present.cards import note_html
from dit_core.records import as_dict
from dit_core.session import explore_view as view
from dit_core.session.explore import ExploreTab, cell_code, read_code
from dit_core.session.job import State
from dit_core.session.settings import PanelSettings, Settings, from_query, query_settings, to_query
from dit_core.session.tab import Frame
from dit_core.session.visit import PANEL, Result, Visit, empty_result
from dit_core.suite import Suite
from dit_core.ui.tabs import Shown, TabEvents, Values
from dit_core.ui.tabs.explore.controls import show


class Events(TabEvents[Settings, Result]):
    """The events of one suite's Explore tab; `suite_ref` is how `load_suite` finds the suite."""

    tab: ExploreTab

    def __init__(self, suite: Suite, suite_ref: str) -> None:
        super().__init__(ExploreTab(suite, suite_ref))
        self._open: WeakValueDictionary[str, Visit] = WeakValueDictionary()  # by Gradio's visit hash, to be left

    def first(self) -> Settings:
        """Return the settings that a first visitor meets."""
        return Settings.for_diff(self.suite, first_info(self.suite).id)

    def result(self, visit: Visit) -> Result:
        """Return what the cards show; empty cards for a first visitor."""
        return visit.result or empty_result(self.suite, self.first())

    def show(self, visit: Visit, values: Values, frame: Frame[Result]) -> Shown:
        """Return the heading and the cards."""
        return self.board(visit)

    def note(self, frame: Frame[Result]) -> str:
        """Return the note, without a bar: the cards fill."""
        return note_html(frame.note, frame.kind)

    def board(self, visit: Visit) -> Shown:
        """Return the heading and the cards of what the visit shows."""
        result = self.result(visit)
        return {"heading": view.heading(result), "cards": view.board(self.suite, result, visit.revealed)}

    def controls(self, visit: Visit, settings: Settings, note: str = "", kind: str = "note") -> Shown:
        """Return the left side for settings, the board of the visit, and a note."""
        secret = self.secret(visit, settings.diff)
        return show(self.suite, settings) | secret | self.board(visit) | {"note": note_html(note, kind)}

    # ---------------------------------------------------------------- asking

    def ask(self, visit: Visit, values: Values) -> Iterator[Shown]:
        """Ask what the left side says; the cards fill as tokens arrive. The last note says how it ended."""
        for frame in self.tab.run(visit, self.tab.settings(values)):
            shown = self.board(visit) | {"note": self.note(frame)}
            if frame.result and frame.state in (State.DONE, State.STOPPED):
                settings = frame.result.settings
                visit.remember(view.label(settings), to_query(self.suite, settings))
                shown["recent"] = gr.update(choices=visit.recent, value=None)
            yield shown

    def fetch_evidence(self, visit: Visit, values: Values) -> Iterator[Shown]:
        """Fetch the evidence for the answers once they are there, and show the cards with it."""
        shown: Shown | None = None
        for result in self.tab.fetch_evidence(visit):
            shown = {"cards": view.board(self.suite, result, visit.revealed)}
            yield shown
        if shown is None:
            yield {}  # an event that gives nothing would empty the page

    # ---------------------------------------------------------------- choosing

    def opened(self, visit: Visit, query: str, request: gr.Request) -> Shown:
        """Show what the visitor's address says."""
        self._open[request.session_hash or ""] = visit
        return self.restore(visit, query)

    def left(self, request: gr.Request) -> None:
        """End everything that runs for a visitor who has gone."""
        if visit := self._open.get(request.session_hash or ""):
            visit.leave()

    def restore(self, visit: Visit, query: str) -> Shown:
        """Set everything to what an address, or an entry of the recent list, says."""
        visit.begin()
        try:
            settings, note = (from_query(self.suite, query), "") if query_settings(query) else (self.first(), "")
            visit.opening = "ask" if query_settings(query) else "stored"
        except DitError as error:
            settings, note, visit.opening = self.first(), str(error), ""
        visit.result = empty_result(self.suite, settings)
        return self.controls(visit, settings, note, "error" if note else "note")

    def answer_opening(self, visit: Visit, values: Values) -> Iterator[Shown]:
        """Show the stored run where it is still true, else ask: what follows `restore` and `surprise`."""
        opening, visit.opening = visit.opening, ""
        if opening == "stored" and (table := read_first_run(self.suite)) is not None:
            visit.result = replace(empty_result(self.suite, self.first()), table=table, state=State.DONE, stored=True)
            yield self.board(visit) | {"note": self.note(self.tab.frame(visit))}
        elif opening:
            yield from self.ask(visit, values)
        else:
            yield {}  # an event that gives nothing would empty the page

    def choose(self, visit: Visit, values: Values) -> Shown:
        """Show another diff: its cards are empty until asked; a question of the visitor's own stays."""
        visit.begin()
        settings = self.tab.settings(values).with_diff(self.suite, values["diff"])
        visit.result = empty_result(self.suite, settings)
        return self.controls(visit, settings, "Press Ask.")

    def surprise(self, visit: Visit, values: Values) -> Shown:
        """Pick a held-out diff of the same task and ask it."""
        visit.begin()
        now = values["diff"]
        diff = pick(self.suite, self.suite.diff(now).task if now else None, but=now)
        settings = self.tab.settings(values).with_diff(self.suite, diff)
        visit.result, visit.opening = empty_result(self.suite, settings), "ask"
        return self.controls(visit, settings)

    def truth(self, visit: Visit, values: Values) -> Shown:
        """Return what may be shown of a diff now: it may have been revealed on another tab."""
        if not values["diff"]:
            return {}  # the page is still being set up
        return self.secret(visit, values["diff"]) | {"cards": self.board(visit)["cards"]}

    def changed(self, visit: Visit, values: Values) -> Shown:
        """Return the address for left side and panel, and a note where the cards no longer answer the left side.

        `turn` is the number that the browser gave this change; it stands before the address.
        """
        settings, panel = self.tab.settings(values), PanelSettings.from_controls(self.suite, values)
        try:
            address = {"link": f"{values['turn']}?{to_query(self.suite, settings, panel)}"}
        except DitError:
            return {}
        frame = self.tab.frame(visit, settings)
        empty = frame.state is State.EMPTY or frame.state.busy
        return address if empty else address | {"note": self.note(frame)}

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
        code = cell_code(self.suite, self.tab.suite_ref, result.settings, result.columns)
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
