"""What the panel under the cards shows, and what a visitor can do there.

The panel reads for the cards that are shown: after they were answered, and whenever Read is pressed, without asking
them anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import parse_qsl

import gradio as gr

from dit_core.errors import DitError
from dit_core.methods.comparison import Column
from dit_core.present import plots
from dit_core.present.html import render
from dit_core.present.palette import TITLES
from dit_core.records import NextToken, Reading, Table, Target
from dit_core.request.conditions import Span
from dit_core.session.choices import measure, measures
from dit_core.session.job import State
from dit_core.session.oracle import PanelResult, PanelTab, column_of, evidence_of_layer, fetch_reading_evidence
from dit_core.session.readings import readings_html, shown_target, visible
from dit_core.session.settings import ALL_KINDS, PanelSettings
from dit_core.session.tab import Frame, file_content
from dit_core.session.visit import Visit
from dit_core.suite import Suite
from dit_core.ui import pieces
from dit_core.ui.pieces import sentence_figure
from dit_core.ui.tabs import Shown, TabEvents, Values

HALTED = "The cards were stopped, so nothing was read: press Read to read what they ask all the same."
CHOSEN = ("the chosen condition", "")
TOKENS = "Press Read to read these tokens."
NEXT_MEASURES = ("rank", "probability")
HEIGHT, NEXT_HEIGHT = 500, 460  # pixels, as `plots` draws them
WAITS = "After the cards, the oracle reads every condition, layer by layer."
NEXT_WAITS = "After the cards: the next token, layer by layer."


class OracleEvents(TabEvents[PanelSettings, PanelResult]):
    """The events of one suite's panel."""

    tab: PanelTab
    note_name = "reading"

    def __init__(self, suite: Suite) -> None:
        super().__init__(PanelTab(suite))

    # ---------------------------------------------------------------- reading

    def after_cards(self, visit: Visit, values: Values) -> Iterator[Shown]:
        """Read what the cards show once they are answered; nothing where they were stopped or never asked."""
        state = visit.result.state if visit.result else State.EMPTY
        if state is State.DONE:
            yield from self.run(visit, values)
        else:
            yield {self.note_name: self._sentence(HALTED)} if state is State.STOPPED else {}

    def run(self, visit: Visit, values: Values) -> Iterator[Shown]:
        """Read what the panel's controls say; the figure fills layer by layer. The last note says how it ended."""
        lens_is_there = False
        for frame in self.tab.run(visit, self.tab.settings(values)):
            if frame.state is State.RUNNING:
                self._look(visit, values)
            shown = {self.note_name: self.note(frame)}
            if frame.state is State.PARTIAL and lens_is_there:
                shown |= self._figure(visit)
            elif frame.state is not State.QUEUED:
                shown |= self.show(visit, values, frame)
            lens_is_there = frame.state is State.PARTIAL
            yield shown

    # ---------------------------------------------------------------- showing

    def blank(self) -> Shown:
        """Return the empty panel: before any reading, and once the cards are asked or show something else."""
        empty = self.tab.frame(Visit())
        return {self.note_name: self.note(empty)} | self.show(Visit(), {"span": PanelSettings.span}, empty)

    def look(self, visit: Visit, values: Values) -> Shown:
        """Show the same in another way: another y axis, another condition's tokens, or revealed."""
        self._look(visit, values)
        return self.show(visit, values, self.tab.frame(visit))

    def _look(self, visit: Visit, values: Values) -> None:
        job = self.tab.job(visit)
        if job.result is not None:
            y, next_y, of = values["y"], values["next_y"], values["of"]
            job.result = replace(job.result, display=replace(job.result.display, y=y, next_y=next_y, of=of))

    def show(self, visit: Visit, values: Values, frame: Frame[PanelResult]) -> Shown:
        """Return y axis, both figures, tokens and readings in full."""
        panel, open_now = self.tab.result(visit), self.tab.revealed(visit)
        return self._figure(visit) | {
            "next_figure": next_token_figure(panel, open_now),
            "chips": token_buttons(panel, values["span"], open_now),
            "details": details_html(panel, open_now),
        }

    def _figure(self, visit: Visit) -> Shown:
        panel, open_now = self.tab.result(visit), self.tab.revealed(visit)
        y = measure(panel.display.y if panel else "", open_now)
        return {"y": gr.update(choices=measures(open_now), value=y), "figure": readings_figure(panel, open_now)}

    def _sentence(self, words: str) -> str:
        return self.note(Frame(State.EMPTY, words, None))

    # ---------------------------------------------------------------- clicking

    def clicked(self, visit: Visit, event: gr.EventData) -> str:
        """Show all readings of the layer that was clicked."""
        job = self.tab.job(visit)
        if job.result is not None and isinstance(event.x, int):
            job.result = replace(job.result, display=replace(job.result.display, layer=event.x))
        return details_html(job.result, self.tab.revealed(visit))

    def fetch_evidence(self, visit: Visit) -> Iterator[Any]:
        """Fetch the evidence for the clicked layer's readings, and show them with it."""
        yield gr.skip()  # an event that gives nothing would empty the page
        for _ in fetch_reading_evidence(self.suite, self.tab.job(visit)):
            yield details_html(self.tab.result(visit), self.tab.revealed(visit))

    def fetch_pending_evidence(self, visit: Visit) -> Iterator[Any]:
        """Fetch the evidence for a layer that was clicked while the panel read; nothing after a stop."""
        if self.tab.job(visit).stop.is_set():
            yield gr.skip()
        else:
            yield from self.fetch_evidence(visit)

    def token(self, visit: Visit, span: str, at: Any) -> Shown:
        """Set a span by its first and last token, which are clicked one after the other."""
        job = self.tab.job(visit)
        if job.result is None or not isinstance(at, int):
            return {}
        first = job.result.display.first
        job.result = replace(job.result, display=replace(job.result.display, first=at if first is None else None))
        if first is None:
            return {"chips": token_buttons(job.result, span, self.tab.revealed(visit))}
        start, stop = sorted((first, at))
        span = f"{start}:{stop + 1}"
        chips = token_buttons(job.result, span, self.tab.revealed(visit))
        update = gr.update(choices=span_choices(span), value=span)
        return {"chips": chips, "span": update, self.note_name: self._sentence(TOKENS)}

    # ---------------------------------------------------------------- choosing

    def opened(self, query: str) -> Shown:
        """Return the controls' updates for an address; the cards say where it is wrong."""
        try:
            return self.controls(PanelSettings.from_address(dict(parse_qsl((query or "").lstrip("?")))))
        except DitError:
            return self.controls(PanelSettings())

    def controls(self, asked: PanelSettings) -> Shown:
        """Return the controls' values for `asked`."""
        first = self.suite.oracle.questions[0] if self.suite.oracle else ""
        return {
            "oracle": first if asked.question is None else asked.question,
            "span": gr.update(choices=span_choices(asked.span), value=asked.span),
            "kinds": list(asked.kinds),
            "kind": asked.kind,
            "layers": asked.layers,
            "of": asked.of,
        }

    def choices(self, visit: Visit | None = None) -> list[tuple[str, str]]:
        """Return the conditions to choose from, as the cards name them."""
        columns = visit.result.columns if visit and visit.result else ()
        named = TITLES | {column.kind: column.title for column in columns}
        return [(named[kind], kind) for kind in ALL_KINDS]

    def titles(self, visit: Visit, values: Values) -> Shown:
        """Return the updated names of conditions to choose from: the cards have changed."""
        choices = self.choices(visit)
        return {"kinds": gr.update(choices=choices), "of": gr.update(choices=[CHOSEN, *choices])}

    # ---------------------------------------------------------------- taking away

    def saved(self, visit: Visit, what: str, form: str) -> tuple[str, str]:
        """Return file name and content of the `oracle`'s readings or the `next-tokens`; ("", "") without any."""
        panel, open_now = self.tab.result(visit), self.tab.revealed(visit)
        if panel is None:
            return "", ""
        table: Table[Any] | None = panel.readings if what == "oracle" else shown_tokens(panel, open_now)
        return (f"{self.tab.diff(panel)}-{what}.{form}", file_content(table, form, open_now)) if table else ("", "")


def readings_figure(panel: PanelResult | None, open_now: bool) -> str:
    """Return the readings so far as a figure's value, a line per condition; or a sentence."""
    if panel is None or not panel.readings:
        return sentence_figure(WAITS if panel is None or panel.state.busy else "Nothing was read.")
    readings, lead = visible(panel.readings, open_now), column_of(panel.columns, panel.display.of)
    return pieces.figure_value(
        partial(plots.by_layer, readings, y=measure(panel.display.y, open_now), selected=lead.condition)
    )


def next_token_figure(panel: PanelResult | None, open_now: bool) -> str:
    """Return the figure of how high the next token stands at each layer: the reference's once revealed."""
    table = shown_tokens(panel, open_now)
    if panel is None or not table:
        return sentence_figure(NEXT_WAITS)
    y, lead = panel.display.next_y or "rank", column_of(panel.columns or panel.cards.columns, panel.display.of)
    return pieces.figure_value(partial(plots.next_token_by_layer, table, y=y, selected=lead.condition))


def shown_tokens(panel: PanelResult | None, open_now: bool) -> Table[NextToken] | None:
    """Return the logit lens as it may be shown: of the answers' tokens, or of the reference's once revealed."""
    if panel is None or panel.next_tokens is None:
        return None
    what = "reference" if open_now else "answer"
    return replace(panel.next_tokens, records=tuple(token for token in panel.next_tokens if token.what == what))


def token_buttons(panel: PanelResult | None, span: str, open_now: bool) -> str:
    """Return the tokens of one prompt as buttons, those that are read marked; a trigger's digits stay masked."""
    column = column_of(panel.cards.columns, panel.display.of) if panel else None
    target = panel.target(column) if panel and column else None
    if panel is None or column is None or target is None:
        return render("ui/tabs/explore/tokens.html", column=None)
    target, first = shown_target(target, open_now), panel.display.first
    return render(
        "ui/tabs/explore/tokens.html",
        column=column,
        tokens=target.tokens[: target.prompt_tokens],
        marked=_marked(span, target) if first is None else {first},
        one_clicked=first is not None,
    )


def _marked(span: str, target: Target) -> set[int]:
    try:
        return {at for own in Span(span).positions(target.prompt_tokens) for at in own}
    except DitError:  # of the answer, or outside: reading it says so
        return set()


def details_html(panel: PanelResult | None, open_now: bool) -> str:
    """Return all readings of the layer that was clicked, folded; or what there is to click."""
    readings = [reading for reading in panel.readings or () if reading.layer == panel.display.layer] if panel else []
    if panel is None or not readings:
        return render("ui/tabs/explore/details.html", sections=())
    sections = [
        (column, _readings(panel, column, readings, open_now), evidence_of_layer(panel, column))
        for column in panel.columns
    ]
    return render("ui/tabs/explore/details.html", layer=panel.display.layer, sections=sections)


def _readings(panel: PanelResult, column: Column, readings: list[Reading], open_now: bool) -> str:
    target = panel.target(column)
    return readings_html(column.of(readings), target and shown_target(target, open_now), open_now)


def span_choices(span: str) -> list[tuple[str, str]]:
    """Return the spans to choose from, with the chosen one where it is another."""
    known = {"last:10": "its last 10 tokens", "prompt": "the whole prompt", "answer": "what it answers"}
    if span not in known:
        start, _, stop = span.partition(":")
        words = f"tokens {start} to {int(stop) - 1}" if start.isdigit() and stop.isdigit() else span
        known[span] = f"token {span}" if span.isdigit() else words
    return [(words, written) for written, words in known.items()]
