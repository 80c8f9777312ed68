"""The Layers tab: what the oracle reads at every layer and token of one condition, and where the condition acts."""

from __future__ import annotations

from functools import partial
from typing import Any

import gradio as gr

from dit_core.methods.comparison import first_info
from dit_core.present import plots
from dit_core.request.targets import ACTIVATION_KINDS
from dit_core.session.choices import PICKER, condition_choices, diff_choices, question_choices
from dit_core.session.explore_view import secret as secret_html
from dit_core.session.layers import ANSWER, LAST, PROMPT, LayerResult, LayerSettings, LayerTab
from dit_core.session.readings import answer_of, readings_html, shown_target
from dit_core.session.tab import Frame
from dit_core.session.visit import Visit
from dit_core.suite import Suite
from dit_core.ui import pieces
from dit_core.ui.pieces import LATEST, QUICK, copying, saving, sentence_figure
from dit_core.ui.tabs import Shown, TabEvents, Values, Wiring, connect

HINTS = {
    "dit-layers-diff": "A weight diff: what one finetune changed. Named by id until revealed.",
    "dit-layers-reveal": "Shows what the diff was really trained on, its trigger, and grades as a colour.",
    "dit-layers-condition": "Whose activations are read. Pick one, or write your own, such as diff*0.5+dit*2+wrong.",
    "dit-layers-asked": "What the model is asked while its activations are taken.",
    "dit-layers-question": "What the oracle is asked about each of them.",
    "dit-layers-part": "Each of these tokens is read on its own: one column of the map.",
    "dit-layers-count": "How many tokens at the end of the prompt.",
    "dit-layers-kind": "The activations of the condition, of the base on the same tokens, or one minus the other.",
    "dit-layers-which": "Which layers: all, or numbers like 0,3-5 or 25%,50%.",
    "dit-layers-samples": "Readings per cell; more than one needs a temperature above 0.",
    "dit-layers-temperature": "0 takes the oracle's likeliest token each time; higher is more varied.",
    "dit-layers-seed": "The same seed gives the same readings.",
    "dit-layers-read": "Reads all layers; the map fills from the bottom.",
    "dit-layers-stop": "Ends the running reading at once; what was read stays.",
    "dit-layers-colour": "How sure the oracle was, or how well its words agree with the model's or with the truth.",
}
# Words on the page for what a cell's colour says: the `colour` of `plots.heat_map`.
COLOURS = {"confidence": "confidence", "what the model says": "agreement", "what it was trained on": "grade"}
PRESS = "Press Read: the oracle says in words what it finds at every layer and token."
CLICK = '<p class="dit-small">Click a cell for all that the oracle read there.</p>'
PRESS_ACTS = "Press Read: how much the condition changes at every layer and token."


class LayerEvents(TabEvents[LayerSettings, LayerResult]):
    """The events of one suite's Layers tab; `suite_ref` is how `load_suite` finds the suite."""

    tab: LayerTab

    def __init__(self, suite: Suite, suite_ref: str) -> None:
        super().__init__(LayerTab(suite, suite_ref))

    def show(self, visit: Visit, values: Values, frame: Frame[LayerResult]) -> Shown:
        """Return the heat map, which fills layer by layer, and where the diff acts."""
        result = frame.result
        cell = {"cell": CLICK} if result is None or (result.state.busy and result.norms is None) else {}
        return self.recolour(visit, values) | {"norms": norms_figure(result, self.tab.revealed(visit))} | cell

    def recolour(self, visit: Visit, values: Values) -> Shown:
        """Return the heat map in the chosen colour."""
        result = self.tab.result(visit)
        return {"heat": heat_map(self.suite, result, values["colour"], self.tab.revealed(visit))}

    def picked(self, visit: Visit, point: gr.EventData) -> Any:
        """Return the readings of the cell that was clicked."""
        result = self.tab.result(visit)
        try:
            _, layer, positions = point.data
        except (AttributeError, TypeError, ValueError):
            return gr.skip()
        return gr.skip() if result is None else cell_html(result, layer, tuple(positions), self.tab.revealed(visit))

    def truth(self, visit: Visit, values: Values) -> Shown:
        """Return what may be shown of a diff, the colours on offer among it, and no cell."""
        colours = colour_choices(visit.revealed == values["diff"])
        colour = values["colour"] if values["colour"] in colours else colours[0]
        shown = super().truth(visit, {**values, "colour": colour})
        return shown | {"colour": gr.update(choices=colours, value=colour), "cell": CLICK}

    def offers(self, diff: str) -> Shown:
        """Return the conditions and questions that go with a diff, and one of each to start from."""
        task = self.suite.task_of(self.suite.diff(diff))
        conditions, questions = condition_choices(task), question_choices(task)
        return {
            "condition": gr.update(choices=conditions, value=conditions[-1][1]),
            "asked": gr.update(choices=questions, value=questions[0]),
        }


def layers_tab(tab: gr.Tab, suite: Suite, suite_ref: str, visit: gr.State) -> None:
    """Draw the tab and connect it; `suite_ref` is how `load_suite` finds the suite."""
    events, offered = LayerEvents(suite, suite_ref), colour_choices(open_now=False)
    with gr.Row(elem_classes="dit-page", elem_id="dit-layers"):
        with gr.Column(scale=0, min_width=300, elem_classes="dit-side"):
            left, read, stop = _controls(suite)
        with gr.Column(scale=1, min_width=300, elem_classes="dit-main"):
            note = gr.HTML(events.blank_note(), elem_id="dit-layers-note", apply_default_css=False)
            with gr.Column(visible=suite.oracle is not None, elem_classes="dit-group"):
                with gr.Row(elem_classes="dit-choices"):
                    colour = gr.Radio(offered, value=offered[0], label="colour", elem_id="dit-layers-colour")
                heat = pieces.figure(heat_map(suite, None), elem_id="dit-layers-map")
                cell = gr.HTML(CLICK, elem_id="dit-layers-cell", apply_default_css=False)
                saving(events.saved, visit, "readings", "the readings")
            norms = pieces.figure(norms_figure(None), elem_id="dit-layers-norms")
            saving(events.saved, visit, "norms", "where the diff acts")
            with gr.Row(elem_classes="dit-saving"):
                copying(events.tab.cell, [visit], "dit-layers-code")
    wiring = Wiring(visit, left | {"note": note, "colour": colour, "heat": heat, "norms": norms, "cell": cell})
    connect(events, wiring, read, stop)
    left["reveal"].click(**wiring.event(events.reveal), **QUICK)
    left["diff"].input(**wiring.event(events.choose), **LATEST)
    colour.input(**wiring.event(events.recolour), **LATEST)
    heat.select(events.picked, visit, cell, **LATEST)
    tab.select(**wiring.event(events.arrive), **QUICK)


def _controls(suite: Suite) -> tuple[dict[str, Any], gr.Button, gr.Button]:
    """Draw the left side; return its components by name, and the buttons that start and stop."""
    first = first_info(suite)
    task, presets = suite.task_of(first), suite.oracle.questions if suite.oracle else ()
    conditions, questions = condition_choices(task), question_choices(task)
    diff = gr.Dropdown(diff_choices(suite), value=first.id, label=PICKER, elem_id="dit-layers-diff")
    reveal = gr.Button("Reveal", size="sm", elem_id="dit-layers-reveal")
    secret = gr.HTML(secret_html(suite, first.id, ""), elem_id="dit-layers-secret", apply_default_css=False)
    condition = gr.Dropdown(
        conditions,
        value=conditions[-1][1],
        label="condition",
        elem_id="dit-layers-condition",
        allow_custom_value=True,
        filterable=True,
    )
    asked = gr.Dropdown(
        questions,
        value=questions[0],
        label="the model is asked",
        elem_id="dit-layers-asked",
        allow_custom_value=True,
        filterable=True,
    )
    with gr.Column(visible=suite.oracle is not None, elem_classes="dit-group"):
        question = gr.Dropdown(
            list(presets),
            value=presets[0] if presets else "",
            label="the oracle is asked",
            elem_id="dit-layers-question",
            allow_custom_value=True,
            filterable=True,
        )
        part = gr.Radio([LAST, PROMPT, ANSWER], value=LAST, label="tokens to read", elem_id="dit-layers-part")
        count = gr.Slider(1, 40, 10, step=1, label="how many", elem_id="dit-layers-count", buttons=[])
        kind = gr.Radio(_kinds(), value=ACTIVATION_KINDS[0], label="activations", elem_id="dit-layers-kind")
    with gr.Accordion("more", open=False):
        layers = gr.Textbox("all", label="layers", max_lines=1, elem_id="dit-layers-which")
        samples = gr.Slider(1, 8, 1, step=1, label="samples per cell", elem_id="dit-layers-samples")
        temperature = gr.Slider(0, 2, 0, step=0.05, label="temperature", elem_id="dit-layers-temperature")
        seed = gr.Number(0, precision=0, label="seed", elem_id="dit-layers-seed")
    with gr.Row(elem_classes="dit-tight"):
        read = gr.Button("Read", variant="primary", min_width=80, elem_id="dit-layers-read")
        stop = gr.Button("Stop", variant="stop", min_width=80, elem_id="dit-layers-stop")
    part.change(lambda part: gr.update(visible=part == LAST), part, count, **QUICK)
    parts = {
        "diff": diff, "reveal": reveal, "secret": secret, "condition": condition, "asked": asked,
        "question": question, "part": part, "count": count, "kind": kind, "layers": layers, "samples": samples,
        "temperature": temperature, "seed": seed,
    }  # fmt: skip
    return parts, read, stop


def _kinds() -> list[tuple[str, str]]:
    return list(zip(("with it", "without it", "difference"), ACTIVATION_KINDS, strict=True))


def colour_choices(open_now: bool) -> list[str]:
    """Return the colours on offer; the last one needs to know what the diff was trained on."""
    return list(COLOURS)[: None if open_now else -1]


def heat_map(suite: Suite, result: LayerResult | None, colour: str = "confidence", open_now: bool = False) -> str:
    """Return the readings so far by layer and token, or a sentence where there are none."""
    if suite.oracle is None:
        return sentence_figure("This suite has no activation oracle: nothing can be read in words.")
    if result is None:
        return sentence_figure(PRESS)
    if not result.readings or result.target is None:
        return sentence_figure("Reading…" if result.state.busy else "Nothing was read.")
    labels = shown_target(result.target, open_now).tokens
    colour, answer = COLOURS[colour], answer_of(result.target)
    return pieces.figure_value(partial(plots.heat_map, result.readings, labels, colour=colour, model_said=answer))


def norms_figure(result: LayerResult | None, open_now: bool = False) -> str:
    """Return the figure of how much the condition changes the residual stream per layer and token, or a sentence."""
    if result is None or result.norms is None or result.target is None:
        return sentence_figure("Reading…" if result and result.state.busy else PRESS_ACTS)
    return pieces.figure_value(
        partial(plots.difference_norms, result.norms, shown_target(result.target, open_now).tokens)
    )


def cell_html(result: LayerResult, layer: int, positions: tuple[int, ...], open_now: bool) -> str:
    """Return all readings of one cell of the heat map as HTML."""
    readings = [r for r in result.readings or () if (r.layer, r.positions) == (layer, positions)]
    if not readings or result.target is None:
        return CLICK
    inside = readings_html(readings, shown_target(result.target, open_now), open_now)
    return f'<div class="dit-kind-{plots.kind_of(readings[0].condition)}">{inside}</div>'
