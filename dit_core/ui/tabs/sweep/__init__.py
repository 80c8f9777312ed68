"""The tab Sweep: what is said while copies, strength or layers vary, as cards and as a figure."""

from __future__ import annotations

import gradio as gr

from dit_core.methods.comparison import first_info
from dit_core.session.choices import PICKER, adapter_choices, diff_choices
from dit_core.session.explore_view import secret as secret_html
from dit_core.suite import Suite
from dit_core.sweeps.presets import PRESETS, STEP
from dit_core.ui.parts import pieces
from dit_core.ui.parts.pieces import LATEST, QUICK, copying, saving
from dit_core.ui.tabs import Wiring, connect
from dit_core.ui.tabs.sweep import view as sweep_view
from dit_core.ui.tabs.sweep.events import SweepEvents

HINTS = {
    "dit-sweep-preset": "What varies. Everything else stays as it is.",
    "dit-sweep-step": "From one number of copies to the next, where these vary; larger: fewer settings.",
    "dit-sweep-diff": "A weight diff: what one finetune changed. Named by id until revealed.",
    "dit-sweep-reveal": "Shows what the diff was really trained on, and how likely each setting finds it.",
    "dit-sweep-adapters": "DIT adapters side by side; none chosen: the diff's own, or without a diff one per task.",
    "dit-sweep-question": "What is asked at every setting; empty: what each adapter was trained to answer.",
    "dit-sweep-samples": "Answers per setting; more than one needs a temperature above 0.",
    "dit-sweep-temperature": "0 takes the likeliest token each time; higher is more varied.",
    "dit-sweep-tokens": "The longest answer.",
    "dit-sweep-seed": "The same seed gives the same answers.",
    "dit-sweep-run": "Asks all settings as rows of as few batches as memory allows.",
    "dit-sweep-stop": "Ends the sweep at once; answers that are finished stay.",
    "dit-sweep-measure": "What the figure shows.",
}


def sweep_tab(tab: gr.Tab, suite: Suite, suite_ref: str, visit: gr.State) -> None:
    """Draw the tab and connects it; `suite_ref` is how `load_suite` finds the suite."""
    events = SweepEvents(suite, suite_ref)
    first = first_info(suite)
    with gr.Row(elem_classes="dit-page", elem_id="dit-sweep"):
        with gr.Column(scale=0, min_width=300, elem_classes="dit-side"):
            preset = gr.Dropdown(list(PRESETS), label="vary", elem_id="dit-sweep-preset")
            step = gr.Number(STEP, step=0.25, label="step of copies", elem_id="dit-sweep-step")
            diff = gr.Dropdown(diff_choices(suite), value=first.id, label=PICKER, elem_id="dit-sweep-diff")
            reveal = gr.Button("Reveal", size="sm", elem_id="dit-sweep-reveal")
            secret = gr.HTML(secret_html(suite, first.id, ""), elem_id="dit-sweep-secret", apply_default_css=False)
            named = adapter_choices(suite)[1:]
            adapters = gr.Dropdown(
                named, value=[], multiselect=True, label="DIT adapters", elem_id="dit-sweep-adapters"
            )
            question = gr.Textbox(label="question", max_lines=2, elem_id="dit-sweep-question")
            with gr.Accordion("sampling", open=False):
                samples = gr.Slider(1, 16, 4, step=1, label="samples", elem_id="dit-sweep-samples")
                temperature = gr.Slider(0, 2, 1, step=0.05, label="temperature", elem_id="dit-sweep-temperature")
                tokens = gr.Slider(1, 100, 16, step=1, label="new tokens", elem_id="dit-sweep-tokens")
                seed = gr.Number(0, precision=0, label="seed", elem_id="dit-sweep-seed")
            with gr.Row(elem_classes="dit-tight"):
                run = gr.Button("Sweep", variant="primary", min_width=80, elem_id="dit-sweep-run")
                stop = gr.Button("Stop", variant="stop", min_width=80, elem_id="dit-sweep-stop")
        with gr.Column(scale=1, min_width=300, elem_classes="dit-main"):
            note = gr.HTML(events.blank_note(), elem_id="dit-sweep-note", apply_default_css=False)
            offered = sweep_view.measures(open_now=False)
            with gr.Row(elem_classes="dit-choices"):
                measure = gr.Radio(offered, value=offered[0][1], label="figure", elem_id="dit-sweep-measure")
            figure = pieces.figure(sweep_view.figure(None), elem_id="dit-sweep-figure")
            cards = gr.HTML(sweep_view.EMPTY, elem_id="dit-sweep-cards", apply_default_css=False)
            with gr.Row(elem_classes="dit-saving"):
                copying(events.tab.cell, [visit], "dit-sweep-cell")
            saving(events.saved, visit, "table", "the answers", "sweep")
    parts = {
        "preset": preset, "step": step, "diff": diff, "adapters": adapters, "question": question, "samples": samples,
        "temperature": temperature, "max_new_tokens": tokens, "seed": seed, "reveal": reveal, "secret": secret,
        "note": note, "measure": measure, "figure": figure, "cards": cards,
    }  # fmt: skip
    wiring = Wiring(visit, parts)
    connect(events, wiring, run, stop)
    measure.input(**wiring.event(events.drawn), **LATEST)
    reveal.click(**wiring.event(events.reveal), **QUICK)
    diff.input(**wiring.event(events.truth), **LATEST)
    tab.select(**wiring.event(events.arrive), **QUICK)
