"""The Explore tab: pick a diff, set a condition, ask, and read the standing comparison."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr
from gradio.blocks import Block
from gradio.events import Dependency

from dit_core.present.cards import note_html
from dit_core.session.settings import Settings
from dit_core.session.visit import Visit
from dit_core.suite import Suite
from dit_core.ui.pieces import ADDRESS, COPY, LATEST, LINK, QUICK, RUN, SAVE, SEARCH, SLOW, TURN
from dit_core.ui.server.site import Site
from dit_core.ui.tabs import Shown, Values, Wiring
from dit_core.ui.tabs.explore.controls import build_controls
from dit_core.ui.tabs.explore.events import Events
from dit_core.ui.tabs.explore.oracle_layout import PANEL_CONTROLS, build_panel
from dit_core.ui.tabs.explore.suite_choice import suite_picker

LEGEND = (
    '<p class="dit-legend"><span>Shaded</span> tokens are those the model was less sure of; hover for the number.</p>'
)


def explore_tab(
    demo: gr.Blocks, tab: gr.Tab, suite: Suite, suite_ref: str, visit: gr.State, site: Site | None = None
) -> None:
    """Draw the tab inside `demo` and connect it; `suite_ref` is how `load_suite` finds the suite."""
    events = Events(suite, suite_ref)
    link, turn = gr.Textbox(visible=False), gr.Textbox(visible=False)
    name, text = gr.Textbox(visible=False), gr.Textbox(visible=False)
    with gr.Row(elem_id="dit-explore"):
        with gr.Column(scale=0, min_width=300, elem_id="dit-left"):
            suite_picker(suite, site, visit)
            left, buttons = build_controls(suite)
        with gr.Column(scale=1, min_width=300, elem_id="dit-right"):
            start = events.board(Visit())  # before the page has said which address it has
            heading = gr.HTML(start["heading"], elem_id="dit-heading", apply_default_css=False)
            note = gr.HTML(note_html(""), elem_id="dit-note", apply_default_css=False)
            cards = gr.HTML(start["cards"], elem_id="dit-board", apply_default_css=False)
            gr.HTML(LEGEND, apply_default_css=False)
            with gr.Row(elem_id="dit-actions"):
                as_json = gr.Button("Save as JSON", size="sm", elem_id="dit-json")
                as_csv = gr.Button("Save as CSV", size="sm", elem_id="dit-csv")
                as_cell = gr.Button("Copy as notebook cell", size="sm", elem_id="dit-cell")
                as_link = gr.Button("Copy link", size="sm", elem_id="dit-link")
            code = gr.Code(language="python", visible=False, label="notebook cell (copied)", elem_id="dit-code")
            panel = build_panel(suite, visit)
    board = {"heading": heading, "cards": cards, "note": note}
    # `turn` is the last of the controls: the page's script sets it.
    wiring = Wiring(visit, left | panel.parts | board | {"turn": turn}, {"link": link})
    panel.connect(wiring)

    # What sets controls or asks empties the panel in the same answer: one on its own could come after the next reading.
    def opened(visit: Visit, query: str, request: gr.Request) -> dict[Block, Any]:
        """A visitor has come: controls, cards, and the panel's controls."""
        left_side = events.opened(visit, query, request)
        return wiring.components(left_side | panel.events.blank() | panel.events.opened(query))

    def emptying(sets: Callable[[Visit, Values], Shown]) -> dict[str, Any]:
        """What sets controls and cards, with an empty panel."""
        return wiring.event(lambda visit, values: sets(visit, values) | panel.events.blank())

    def ask(visit: Visit, values: Values) -> Iterator[Shown]:
        below = panel.events.blank()
        for shown in events.ask(visit, values):
            yield shown | below
            below = {}

    def restore(visit: Visit, values: Values) -> Shown:
        return events.restore(visit, values["recent"])

    def asks(event: Dependency) -> None:
        """After `event` has set the controls: ask them, unless it went wrong or the stored run is shown."""
        answered(event.then(**wiring.event(events.answer_opening), **RUN))

    def answered(event: Dependency) -> None:
        """After `event` has answered the cards: the evidence for them, and what the panel reads of them."""
        event.then(**wiring.event(events.fetch_evidence), **RUN)
        panel.after(event, wiring)

    def shows(event: Dependency) -> None:
        """After `event` has revealed or hidden the truth: so does the panel."""
        event.then(**wiring.event(panel.events.look), **QUICK)

    answered(gr.on([buttons.ask.click, left["question"].submit], **wiring.event(ask), **SLOW))
    buttons.stop.click(events.stop, visit, None, **QUICK)
    shows(left["reveal"].click(**wiring.event(events.reveal), **QUICK))
    shows(tab.select(**wiring.event(events.truth), **QUICK))
    left["diff"].input(**emptying(events.choose), **QUICK)
    left["presets"].input(lambda question: question, left["presets"], left["question"], **QUICK)
    left["trigger"].change(lambda trigger: gr.update(visible=trigger == "own"), left["trigger"], left["own"], **QUICK)
    asks(buttons.surprise.click(**emptying(events.surprise), **QUICK))
    asks(left["recent"].input(**emptying(restore), **QUICK))
    settings = wiring.named(*Settings.__dataclass_fields__, *PANEL_CONTROLS)
    changed = gr.on([control.change for control in settings], **wiring.event(events.changed), js=TURN, **LATEST)
    changed.then(None, link, None, js=ADDRESS, **QUICK)

    as_json.click(events.json, visit, [name, text], **QUICK).then(None, [name, text], None, js=SAVE, **QUICK)
    as_csv.click(events.csv, visit, [name, text], **QUICK).then(None, [name, text], None, js=SAVE, **QUICK)
    as_cell.click(events.cell, visit, [text, code], **QUICK).then(None, text, None, js=COPY, **QUICK)
    as_link.click(None, None, None, js=LINK, **QUICK)
    asks(demo.load(opened, [visit, link], list(wiring.shown.values()), js=SEARCH, **QUICK))
    demo.unload(events.left)
