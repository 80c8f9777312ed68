"""The Explore tab: pick a diff, set a condition, ask, and read the standing comparison."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr
from gradio.events import Dependency

from dit_core.session.visit import Visit
from dit_core.suite import Suite
from dit_core.ui.parts.pieces import ADDRESS, COPY, LATEST, LINK, QUICK, RUN, SAVE, SEARCH, SLOW, TURN
from dit_core.ui.server.site import Site
from dit_core.ui.tabs.explore.controls import build_controls
from dit_core.ui.tabs.explore.events import Events
from dit_core.ui.tabs.explore.oracle_layout import build_panel
from dit_core.ui.tabs.explore.suite_choice import suite_picker

LEGEND = (
    '<p class="dit-legend"><span>Shaded</span> tokens are those the model was less sure of; hover for the number.</p>'
)


def explore_tab(
    demo: gr.Blocks, tab: gr.Tab, suite: Suite, suite_ref: str, visit: gr.State, site: Site | None = None
) -> None:
    """Draw the tab inside `demo` and connects it; `suite_ref` is how `load_suite` finds the suite."""
    events = Events(suite, suite_ref)
    link, turn = gr.Textbox(visible=False), gr.Textbox(visible=False)
    name, text = gr.Textbox(visible=False), gr.Textbox(visible=False)
    with gr.Row(elem_id="dit-explore"):
        with gr.Column(scale=0, min_width=300, elem_id="dit-left"):
            suite_picker(suite, site, visit)
            left = build_controls(suite)
        with gr.Column(scale=1, min_width=300, elem_id="dit-right"):
            start = events.blank()
            heading = gr.HTML(start[0], elem_id="dit-heading", apply_default_css=False)
            note = gr.HTML(start[2], elem_id="dit-note", apply_default_css=False)
            cards = gr.HTML(start[1], elem_id="dit-board", apply_default_css=False)
            gr.HTML(LEGEND, apply_default_css=False)
            with gr.Row(elem_id="dit-actions"):
                as_json = gr.Button("Save as JSON", size="sm", elem_id="dit-json")
                as_csv = gr.Button("Save as CSV", size="sm", elem_id="dit-csv")
                as_cell = gr.Button("Copy as notebook cell", size="sm", elem_id="dit-cell")
                as_link = gr.Button("Copy link", size="sm", elem_id="dit-link")
            code = gr.Code(language="python", visible=False, label="notebook cell (copied)", elem_id="dit-code")
            panel = build_panel(suite, visit)

    board = [heading, cards, note]
    answers = [*board, left.recent]
    # What sets controls or asks empties the panel in the same answer: one on its own could come after the next reading.
    shown = [*left.settings, left.presets, left.secret, left.reveal, *board, *panel.board.shown]

    def opened(visit: Visit, query: str, request: gr.Request) -> list:
        """A visitor has come: controls, cards, and the panel's controls."""
        return [*events.opened(visit, query, request), *panel.events.blank(), *panel.events.opened(query)]

    def emptying(sets: Callable[..., list]) -> Callable[..., list]:
        """What sets controls and cards, with an empty panel."""
        return lambda *values: [*sets(*values), *panel.events.blank()]

    def ask(visit: Visit, *values: Any) -> Iterator[tuple]:
        below = panel.events.blank()
        for frame in events.ask(visit, *values):
            yield *frame, *below
            below = (gr.skip(),) * len(below)

    def asks(event: Dependency) -> None:
        """After `event` has set the controls: ask them, unless it went wrong or the stored run is shown."""
        answered(event.then(events.answer_opening, [visit, *left.settings], answers, **RUN))

    def answered(event: Dependency) -> None:
        """After `event` has answered the cards: the evidence for them, and what the panel reads of them."""
        event.then(events.fetch_evidence, visit, cards, **RUN)
        panel.after(event, visit)

    def shows(event: Dependency) -> None:
        """After `event` has revealed or hidden the truth: so does the panel."""
        event.then(panel.events.show, [visit, *panel.inputs], panel.board.shown, **QUICK)

    asking = [left.ask.click, left.question.submit]
    answered(gr.on(asking, ask, [visit, *left.settings], [*answers, *panel.board.shown], **SLOW))
    left.stop.click(events.stop, visit, None, **QUICK)
    truth = [left.secret, left.reveal, cards]
    shows(left.reveal.click(events.reveal, [visit, left.diff], truth, **QUICK))
    shows(tab.select(events.truth, [visit, left.diff], truth, **QUICK))
    left.diff.input(emptying(events.choose), [visit, *left.settings], shown, **QUICK)
    left.presets.input(lambda question: question, left.presets, left.question, **QUICK)
    left.trigger.change(lambda trigger: gr.update(visible=trigger == "own"), left.trigger, left.own, **QUICK)
    asks(left.surprise.click(emptying(events.surprise), [visit, *left.settings], shown, **QUICK))
    asks(left.recent.input(emptying(events.restore), [visit, left.recent], shown, **QUICK))
    gr.on(
        [control.change for control in (*left.settings, *panel.controls.settings)],
        events.changed,
        [visit, *left.settings, *panel.controls.settings, turn],
        [link, note],
        js=TURN,
        **LATEST,
    ).then(None, link, None, js=ADDRESS, **QUICK)

    as_json.click(events.json, visit, [name, text], **QUICK).then(None, [name, text], None, js=SAVE, **QUICK)
    as_csv.click(events.csv, visit, [name, text], **QUICK).then(None, [name, text], None, js=SAVE, **QUICK)
    as_cell.click(events.cell, visit, [text, code], **QUICK).then(None, text, None, js=COPY, **QUICK)
    as_link.click(None, None, None, js=LINK, **QUICK)
    asks(demo.load(opened, [visit, link], [*shown, *panel.controls.settings], js=SEARCH, **QUICK))
    demo.unload(events.left)
