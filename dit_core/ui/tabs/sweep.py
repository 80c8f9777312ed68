"""The tab Sweep: what is said while copies, strength or layers vary, as cards and as a figure."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

import gradio as gr

from dit_core.methods.comparison import first_info
from dit_core.present import plots
from dit_core.present.html import render
from dit_core.present.plots.sweep import MEASURES, settings, written
from dit_core.records import SweepPoint, Table
from dit_core.session.choices import PICKER, adapter_choices, diff_choices
from dit_core.session.explore_view import secret as secret_html
from dit_core.session.sweep import SweepResult, SweepSettings, SweepTab
from dit_core.session.tab import Frame
from dit_core.session.visit import Visit
from dit_core.suite import Suite
from dit_core.sweeps import PRESETS, STEP
from dit_core.ui import pieces
from dit_core.ui.pieces import LATEST, QUICK, copying, saving, sentence_figure
from dit_core.ui.tabs import Shown, TabEvents, Values, Wiring, connect

HINTS = {
    "dit-sweep-preset": "What varies. Everything else stays as it is.",
    "dit-sweep-step": "From one number of copies to the next, where these vary; larger: fewer settings.",
    "dit-sweep-layers": "In place of the preset's: ranges that the adapters act on, like 0-3, 50%, 25%-50% or all.",
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
NEEDS_REFERENCE = "log_prob_reference"
WAITING = "Press Sweep: what is said at each setting shows here."
EMPTY = '<div class="dit-sweep-grid"></div>'
MOST = 3  # different answers on a card


def sweep_tab(tab: gr.Tab, suite: Suite, suite_ref: str, visit: gr.State) -> None:
    """Draw the tab and connect it; `suite_ref` is how `load_suite` finds the suite."""
    events = SweepEvents(suite, suite_ref)
    first = first_info(suite)
    with gr.Row(elem_classes="dit-page", elem_id="dit-sweep"):
        with gr.Column(scale=0, min_width=300, elem_classes="dit-side"):
            preset = gr.Dropdown(list(PRESETS), label="vary", elem_id="dit-sweep-preset")
            step = gr.Number(STEP, step=0.25, label="step of copies", elem_id="dit-sweep-step")
            layers = gr.Textbox(label="layers", max_lines=1, placeholder="the preset's", elem_id="dit-sweep-layers")
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
            offered = measure_choices(open_now=False)
            with gr.Row(elem_classes="dit-choices"):
                measure = gr.Radio(offered, value=offered[0][1], label="figure", elem_id="dit-sweep-measure")
            figure = pieces.figure(sweep_figure(None), elem_id="dit-sweep-figure")
            cards = gr.HTML(EMPTY, elem_id="dit-sweep-cards", apply_default_css=False)
            with gr.Row(elem_classes="dit-saving"):
                copying(events.tab.cell, [visit], "dit-sweep-cell")
            saving(events.saved, visit, "table", "the answers", "sweep")
    parts = {
        "preset": preset, "step": step, "layers": layers, "diff": diff, "adapters": adapters, "question": question,
        "samples": samples, "temperature": temperature, "max_new_tokens": tokens, "seed": seed, "reveal": reveal,
        "secret": secret, "note": note, "measure": measure, "figure": figure, "cards": cards,
    }  # fmt: skip
    wiring = Wiring(visit, parts)
    connect(events, wiring, run, stop)
    measure.input(**wiring.event(events.drawn), **LATEST)
    reveal.click(**wiring.event(events.reveal), **QUICK)
    diff.input(**wiring.event(events.truth), **LATEST)
    tab.select(**wiring.event(events.arrive), **QUICK)


class SweepEvents(TabEvents[SweepSettings, SweepResult]):
    """The events of the tab; `suite_ref` is how `load_suite` finds the suite."""

    tab: SweepTab

    def __init__(self, suite: Suite, suite_ref: str) -> None:
        super().__init__(SweepTab(suite, suite_ref))

    def show(self, visit: Visit, values: Values, frame: Frame[SweepResult]) -> Shown:
        """Return the cards, which fill as tokens arrive, and at the end the measures on offer and the figure."""
        result = frame.result
        if frame.state.busy:
            return {"cards": cards_html(result.streamed)} if result and result.streamed else {}
        table = result.table if result else None
        return {"cards": cards_html(table) if table else EMPTY} | self.drawn(visit, values)

    def drawn(self, visit: Visit, values: Values) -> Shown:
        """Return the measures that the figure may show, and the figure of the chosen one."""
        result, offered = self.tab.result(visit), measure_choices(self.tab.revealed(visit))
        names = [name for _, name in offered]
        measure = values["measure"] if values["measure"] in names else names[0]
        figure = sweep_figure(result.table if result else None, measure)
        return {"measure": gr.update(choices=offered, value=measure), "figure": figure}


def measure_choices(open_now: bool) -> list[tuple[str, str]]:
    """Return what the figure may show; what needs the reference only where that is revealed."""
    return [(words, name) for name, words in MEASURES.items() if open_now or name != NEEDS_REFERENCE]


def sweep_figure(table: Table[SweepPoint] | None, measure: str = "modal_share") -> str:
    """Return the figure's value; a sentence while there is nothing."""
    return pieces.figure_value(partial(plots.sweep_figure, table, measure)) if table else sentence_figure(WAITING)


def cards_html(table: Table[SweepPoint]) -> str:
    """Return a card per setting as HTML, in the order of the sweep."""
    return render("ui/tabs/sweep_cards.html", cards=[_card(points) for points in settings(table).values()])


def _card(points: list[SweepPoint]) -> dict[str, Any]:
    first, counts = points[0], Counter(point.text for point in points)
    layers = "" if first.layers is None else f" · layers {written(first.layers)}"
    strength = f"diff × {first.strength:g} · " if first.strength else ""
    return {
        "title": f"{strength}{first.adapter} × {first.copies:g}{layers}",
        "answers": counts.most_common(MOST),
        "samples": len(points),
        "others": len(counts) - MOST,
    }
