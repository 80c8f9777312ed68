"""What happens on the Explore tab when a visitor does something. Every method is one event.

Nothing about a visitor is kept here: that is in their `Session`, which each event gets and changes.
"""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from weakref import WeakValueDictionary

import gradio as gr

from dit_core.errors import DitError
from dit_core.methods.comparison import columns, compare, first_info, read_first_run
from dit_core.present.cards import DONE, RUNNING, STOPPED, WAITING, note_html
from dit_core.records import Table, as_dict
from dit_core.records.condition import checked_text
from dit_core.session import answer_evidence as card_trust
from dit_core.session import explore_view as view
from dit_core.session.notebook_cells import cell_code, read_code
from dit_core.session.oracle import Asked
from dit_core.session.settings import Settings, from_query, spoken, to_query
from dit_core.session.visit import EVIDENCE, PANEL, Clock, Place, Result, Session, follow
from dit_core.session.words import STALE, STORED, sentence
from dit_core.suite import Suite
from dit_core.ui.tabs.explore.controls import show


class Events:
    """The events of one suite's Explore tab; `word` is how `load_suite` finds the suite."""

    def __init__(self, suite: Suite, word: str):
        self.suite, self.word = suite, word
        self._open: WeakValueDictionary[str, Session] = WeakValueDictionary()  # by Gradio's session hash, to be left

    def first(self) -> Settings:
        """The settings that a first visitor meets."""
        return Settings.for_diff(self.suite, first_info(self.suite).id)

    def unasked(self, settings: Settings) -> Result:
        """A result without answers: its cards keep their places."""
        info = self.suite.diff(settings.diff)
        try:
            chosen = settings.condition
        except DitError:
            chosen = None
        wanted = columns(self.suite.task_of(info), settings.question, chosen)
        return Result(settings, wanted, Table(self.suite.name, "verbalizations", ()), WAITING)

    def board(self, session: Session, note: str = "", kind: str = "note") -> tuple[str, str, str]:
        """Heading, cards and note for what the session shows."""
        result = session.result or self.unasked(self.first())
        return view.heading(result), view.board(self.suite, result, session.revealed), note_html(note, kind)

    def blank(self) -> tuple[str, str, str]:
        """The right side before the page has said which address it has."""
        return self.board(Session())

    def controls(self, session: Session, settings: Settings) -> list[Any]:
        """What the left side must become: controls, presets, secret, reveal button."""
        return [*show(self.suite, settings), *self.hidden(session, settings.diff)]

    def hidden(self, session: Session, diff: str) -> tuple[str, Any]:
        """The line about a diff's topic, and the reveal button."""
        word = "Hide" if session.revealed == diff else "Reveal"
        return view.secret(self.suite, diff, session.revealed), gr.update(value=word)

    # ---------------------------------------------------------------- asking

    def ask(self, session: Session, *values: Any) -> Iterator[tuple]:
        """Asks what the left side says; the cards fill as tokens arrive. Ends with a word on what happened."""
        stop, before = session.begin(), session.result
        try:
            yield from self._answers(session, Settings(*values), stop)
        except Exception as error:
            if session.stop is stop:
                session.result = before
                yield *self.board(session, sentence(error), "error"), gr.skip()

    def _answers(self, session: Session, settings: Settings, stop: threading.Event) -> Iterator[tuple]:
        info, condition = self.suite.diff(settings.diff), settings.condition
        settings = replace(settings, question=checked_text(settings.question, "The question"))
        wanted = columns(self.suite.task_of(info), settings.question, condition)
        result = replace(self.unasked(settings), columns=wanted, state=RUNNING)
        clock, length = Clock(settings.sampling["max_new_tokens"]), 0
        session.result = result
        yield *self.board(session, f"Asking {len(wanted)} conditions as one batch…", "busy"), gr.skip()
        for table in follow(compare(self.suite, info, wanted, **settings.sampling), stop, line=self.suite.worker):
            if isinstance(table, Place):
                yield *self.board(session, str(table), "busy"), gr.skip()
                continue
            length = max((len(v.tokens) for v in table), default=0)
            session.result = result = replace(result, table=table)
            yield *self.board(session, clock.words(length), "busy"), gr.skip()
        if session.stop is not stop:
            return  # the same visitor's next question has taken the page over
        session.result = replace(result, state=STOPPED if stop.is_set() else DONE)
        session.remember(view.label(settings), to_query(self.suite, settings))
        note = f"Stopped after {length} tokens. What was said stays." if stop.is_set() else ""
        yield *self.board(session, note), gr.update(choices=session.recent, value=None)

    def stop(self, session: Session) -> None:
        """Ends the running question, or the reading that follows it, at once."""
        session.stop.set()
        session.work(PANEL).stop.set()
        session.work(EVIDENCE).stop.set()

    def weigh(self, session: Session) -> Iterator[str]:
        """Once the cards are there: fetches the evidence for their answers, and shows them with it."""
        result = session.result
        if not (result and result.state == DONE and card_trust.lacking(self.suite, result)):
            yield gr.skip()
            return
        stop, note = session.work(EVIDENCE).begin(), card_trust.UNWEIGHED
        session.result = result = replace(result, weighing=card_trust.WEIGHING)
        yield view.board(self.suite, result, session.revealed)
        try:
            for found in follow(card_trust.weigh(self.suite, result), stop, line=self.suite.worker):
                if session.result is not result:
                    return  # the same visitor's next question has taken the cards over
                if not isinstance(found, Place) and len(found) > len(result.evidence):
                    session.result = result = replace(result, evidence=found)
                    yield view.board(self.suite, result, session.revealed)
        except Exception as error:
            note = sentence(error)
        if session.result is result and card_trust.lacking(self.suite, result):
            session.result = replace(result, weighing=note)
            yield view.board(self.suite, session.result, session.revealed)

    # ---------------------------------------------------------------- choosing

    def opened(self, session: Session, query: str, request: gr.Request) -> list[Any]:
        """A visitor has come with an address."""
        self._open[request.session_hash] = session
        return self.restore(session, query)

    def left(self, request: gr.Request) -> None:
        """A visitor has gone: nothing goes on for them."""
        if session := self._open.get(request.session_hash):
            session.leave()

    def restore(self, session: Session, query: str) -> list[Any]:
        """Sets everything to what an address (or an entry of the recent list) says."""
        session.begin()
        try:
            settings, note = (from_query(self.suite, query), "") if spoken(query) else (self.first(), "")
            session.opening = "ask" if spoken(query) else "stored"
        except DitError as error:
            settings, note, session.opening = self.first(), str(error), ""
        session.result = self.unasked(settings)
        return [*self.controls(session, settings), *self.board(session, note, "error" if note else "note")]

    def answer_opening(self, session: Session, *values: Any) -> Iterator[tuple]:
        """What follows `restore` and `surprise`: the stored run where it is still true, else asking."""
        opening, session.opening = session.opening, ""
        if opening == "stored" and (table := read_first_run(self.suite)) is not None:
            session.result = replace(self.unasked(self.first()), table=table, state=DONE, stored=True)
            yield *self.board(session, STORED), gr.skip()
        elif opening:
            yield from self.ask(session, *values)
        else:
            yield (gr.skip(),) * 4  # an event that gives nothing would empty the page

    def choose(self, session: Session, *values: Any) -> list[Any]:
        """Another diff was picked: its cards are empty until asked; a question of the user's own stays."""
        session.begin()
        settings = Settings(*values).with_diff(self.suite, values[0])
        session.result = self.unasked(settings)
        return [*self.controls(session, settings), *self.board(session, "Press Ask.")]

    def surprise(self, session: Session, *values: Any) -> list[Any]:
        """Picks a held-out diff of the same task and asks it."""
        session.begin()
        diff = pick(self.suite, self.suite.diff(values[0]).task if values[0] else None, but=values[0])
        settings = Settings(*values).with_diff(self.suite, diff)
        session.result, session.opening = self.unasked(settings), "ask"
        return [*self.controls(session, settings), *self.board(session)]

    def reveal(self, session: Session, diff: str) -> tuple:
        """Shows or hides what the diff was trained on, its trigger and the grades."""
        session.revealed = "" if session.revealed == diff else diff
        return self.truth(session, diff)

    def truth(self, session: Session, diff: str) -> tuple:
        """What may be shown of a diff now: it may have been revealed in another tab."""
        if not diff:
            return (gr.skip(),) * 3  # the page is still being set up
        return *self.hidden(session, diff), self.board(session)[1]

    def changed(self, session: Session, *values: Any) -> tuple:
        """The address for what left side and panel say now, and whether the cards still answer the left side.

        The last of `values` is the number that the browser gave this change; it stands before the address.
        """
        *values, turn = values
        count = len(Settings.__dataclass_fields__)
        settings, panel = Settings(*values[:count]), Asked.from_controls(self.suite, *values[count:])
        try:
            query, address = to_query(self.suite, settings), f"{turn}?{to_query(self.suite, settings, panel)}"
        except DitError:
            return gr.skip(), gr.skip()
        result = session.result
        if result is None or result.state in (RUNNING, WAITING):
            return address, gr.skip()
        if query != to_query(self.suite, result.settings):
            return address, note_html(STALE)
        return address, note_html(STORED if result.stored else "")

    # ---------------------------------------------------------------- taking away

    def json(self, session: Session) -> tuple[str, str]:
        """File name and content as JSON: the answers, and beside them the evidence that their cards show."""
        result = session.result
        shown = result.table.to_json() | {"confidence": [as_dict(one) for one in result.evidence]}
        return f"{result.settings.diff}.json", json.dumps(shown, ensure_ascii=False, indent=1)

    def csv(self, session: Session) -> tuple[str, str]:
        """File name and content of the answers as CSV."""
        return f"{session.result.settings.diff}.csv", session.result.table.to_csv()

    def cell(self, session: Session) -> tuple[str, Any]:
        """The notebook cell for what is shown, to be copied, and to be seen."""
        code = cell_code(self.suite, self.word, session.result.settings, session.result.columns)
        found = session.work(PANEL).found
        if found and found.next_tokens:
            code += "\n" + read_code(self.suite, found)
        return code, gr.update(value=code, visible=True)


def pick(suite: Suite, task: str | None = None, but: str = "") -> str:
    """The id of a random diff held out of all DIT training, another than `but` where there is one."""
    held_out = [d.id for d in suite.diffs if d.split == "test" and (task is None or d.task == task)]
    if not held_out:
        raise DitError(f"The suite '{suite.name}' has no held-out diff for '{task}': pick one from the list.")
    return random.choice([d for d in held_out if d != but] or held_out)
