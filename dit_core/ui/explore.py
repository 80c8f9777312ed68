"""The Explore tab: pick a diff, set a condition, ask, and read the standing comparison."""

from __future__ import annotations

import gradio as gr

from dit_core.suite import Suite
from dit_core.ui.answering import Session
from dit_core.ui.controls import build_controls
from dit_core.ui.events import Events

# What a browser does with what an event hands it; the functions are in page.js.
ADDRESS = "(query) => window.dit.address(query)"
SAVE = "(name, text) => window.dit.save(name, text)"
COPY = "(text) => window.dit.copy(text)"
SEARCH = "() => [null, window.location.search]"

LEGEND = (
    '<p class="dit-legend"><span>Shaded</span> tokens are those the model was less sure of; hover for the number.</p>'
)


def explore_tab(demo: gr.Blocks, suite: Suite, word: str) -> None:
    """Draws the tab inside `demo` and connects it; `word` is how `load_suite` finds the suite."""
    events = Events(suite, word)
    session = gr.State(Session())
    link = gr.Textbox(visible=False)
    name, text = gr.Textbox(visible=False), gr.Textbox(visible=False)
    with gr.Row(elem_id="dit-explore"):
        with gr.Column(scale=0, min_width=300, elem_id="dit-left"):
            settings, more = build_controls(suite)
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

    shown = [*settings, more["presets"], more["secret"], more["reveal"]]
    board = [heading, cards, note]
    answers = [*board, more["recent"]]
    inner = {"show_progress": "hidden", "api_visibility": "private"}
    quick = inner | {"queue": False}
    slow = inner | {"concurrency_limit": None, "trigger_mode": "multiple"}

    def asks(event) -> None:
        """After `event` has set the controls: ask them, unless it went wrong or the stored run is shown."""
        event.then(events.answer_opening, [session, *settings], answers, **inner, concurrency_limit=None)

    more["ask"].click(events.ask, [session, *settings], answers, **slow)
    settings[8].submit(events.ask, [session, *settings], answers, **slow)
    more["stop"].click(events.stop, session, None, **quick)
    more["reveal"].click(events.reveal, [session, settings[0]], [more["secret"], more["reveal"], cards], **quick)
    settings[0].input(events.choose, [session, *settings], [*shown, *board], **quick)
    more["presets"].input(lambda question: question, more["presets"], settings[8], **quick)
    settings[6].change(lambda trigger: gr.update(visible=trigger == "own"), settings[6], settings[7], **quick)
    asks(more["surprise"].click(events.surprise, [session, *settings], [*shown, *board], **quick))
    asks(more["recent"].input(events.restore, [session, more["recent"]], [*shown, *board], **quick))
    gr.on(
        [control.change for control in settings],
        events.changed,
        [session, *settings],
        [link, note],
        trigger_mode="always_last",
        **quick,
    ).then(None, link, None, js=ADDRESS, **quick)

    as_json.click(events.json, session, [name, text], **quick).then(None, [name, text], None, js=SAVE, **quick)
    as_csv.click(events.csv, session, [name, text], **quick).then(None, [name, text], None, js=SAVE, **quick)
    as_cell.click(events.cell, session, [text, code], **quick).then(None, text, None, js=COPY, **quick)
    as_link.click(None, None, None, js="() => window.dit.copy(window.location.href)", **quick)
    asks(demo.load(events.opened, [session, link], [*shown, *board], js=SEARCH, **quick))
    demo.unload(events.left)
