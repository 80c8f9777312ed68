"""The panel under the cards: what the oracle reads of every condition, layer by layer, beside the logit lens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.blocks import Block
from gradio.events import Dependency

from dit_core.request.targets import ACTIVATION_KINDS
from dit_core.session.choices import measures
from dit_core.session.settings import PanelSettings
from dit_core.session.visit import Visit
from dit_core.suite import Suite
from dit_core.ui import pieces
from dit_core.ui.pieces import LATEST, QUICK, RUN, SLOW, saving
from dit_core.ui.tabs import Wiring
from dit_core.ui.tabs.explore.oracle_events import (
    CHOSEN,
    HEIGHT,
    NEXT_HEIGHT,
    NEXT_MEASURES,
    OracleEvents,
    span_choices,
)

HINTS = {
    "dit-oracle-question": "What the oracle is asked about each layer. Pick a question, or write your own.",
    "dit-oracle-span": "Which tokens of each condition are read. Click tokens below for others.",
    "dit-oracle-read": "Reads the conditions on the cards, layer by layer, without asking them anew.",
    "dit-oracle-stop": "Ends the running reading at once; what was read stays.",
    "dit-oracle-kinds": "Which of the cards are read.",
    "dit-oracle-kind": "What is read: the condition's activations, the base's on the same tokens, or the difference.",
    "dit-oracle-layers": "Which layers are read: all, or numbers like 0,3-5 or 25%,50%.",
    "dit-oracle-of": "Whose tokens are shown here, and whose words stand along the axis.",
    "dit-oracle-y": "What the height of a point says. What needs the truth is offered once it is revealed.",
    "dit-next-y": "Rank 0 is the likeliest of all tokens.",
}
TITLE = '<h2 class="dit-heading">What does the oracle read, layer by layer?</h2>'
NEXT_TITLE = (
    '<h2 class="dit-heading">And what would each layer say next?<small>The logit lens needs no oracle: how high the '
    "token with which each condition begins its answer stands at every layer.</small></h2>"
)
TELL_TOKEN = """element.addEventListener("click", (event) => {
  const token = event.target.closest("[data-at]");
  if (token) trigger("select", { at: Number(token.dataset.at) });
});"""


@dataclass(frozen=True)
class Panel:
    """The panel's components by name, its buttons, and its events."""

    events: OracleEvents
    parts: dict[str, Any]
    read: gr.Button
    stop: gr.Button

    def after(self, event: Dependency, wiring: Wiring) -> None:
        """Read what the cards show once `event` has answered them."""
        then = event.then(**wiring.event(self.events.titles), **QUICK)
        read = then.then(**wiring.event(self.events.after_cards), **RUN)
        read.then(self.events.fetch_pending_evidence, wiring.visit, self.parts["details"], **SLOW)

    def connect(self, wiring: Wiring) -> None:
        """Connect the panel's own events."""
        events, parts, visit = self.events, self.parts, wiring.visit

        def token(visit: Visit, span: str, event: gr.EventData) -> dict[Block, Any]:
            return wiring.components(events.token(visit, span, event.at))

        self.stop.click(events.stop, visit, None, **QUICK)
        reads = [self.read.click, parts["oracle"].input, parts["layers"].submit]
        read = gr.on(reads, **wiring.event(events.run), **SLOW)
        read.then(events.fetch_pending_evidence, visit, parts["details"], **SLOW)
        looks = [parts[name].input for name in ("y", "next_y", "of", "span")]
        gr.on(looks, **wiring.event(events.look), **QUICK)
        clicked = parts["figure"].select(events.clicked, visit, parts["details"], **QUICK)
        clicked.then(events.fetch_evidence, visit, parts["details"], **SLOW)
        parts["chips"].select(
            token, [visit, parts["span"]], [parts[name] for name in ("chips", "span", "reading")], **QUICK
        )
        changes = [parts[name].change for name in PANEL_CONTROLS]
        gr.on(changes, **wiring.event(events.changed), **LATEST)


PANEL_CONTROLS = ("oracle", "span", "kinds", "kind", "layers", "of")
"""The names of the controls of `PanelSettings`."""


def build_panel(suite: Suite, visit: gr.State) -> Panel:
    """Draw the panel."""
    events = OracleEvents(suite)
    start, there = events.blank(), suite.oracle is not None
    with gr.Column(elem_id="dit-oracle"):
        gr.HTML(TITLE, apply_default_css=False)
        with gr.Column(visible=there, elem_classes="dit-plain"):
            controls, read, stop = _controls(suite, events, start["chips"])
        note = gr.HTML(start["reading"], elem_id="dit-oracle-note", apply_default_css=False)
        with gr.Column(visible=there, elem_classes="dit-plain"):
            y = gr.Radio(measures(False), value=start["y"]["value"], label="height shows", elem_id="dit-oracle-y")
            figure = pieces.figure(start["figure"], HEIGHT, elem_id="dit-oracle-figure")
            details = gr.HTML(start["details"], elem_id="dit-oracle-details", apply_default_css=False)
            saving(events.saved, visit, "oracle", "the readings")
        gr.HTML(NEXT_TITLE, apply_default_css=False)
        next_y = gr.Radio(list(NEXT_MEASURES), value=NEXT_MEASURES[0], label="height shows", elem_id="dit-next-y")
        next_figure = pieces.figure(start["next_figure"], NEXT_HEIGHT, elem_id="dit-next-figure")
        saving(events.saved, visit, "next-tokens", "the logit lens")
    parts = {
        **controls, "reading": note, "y": y, "figure": figure, "details": details, "next_y": next_y,
        "next_figure": next_figure,
    }  # fmt: skip
    return Panel(events, parts, read, stop)


def _controls(suite: Suite, events: OracleEvents, tokens: str) -> tuple[dict[str, Any], gr.Button, gr.Button]:
    """Draw the controls, with `tokens` to click; return them by name, and the buttons that start and stop."""
    asked = PanelSettings()
    presets = list(suite.oracle.questions) if suite.oracle else []
    with gr.Row(elem_classes="dit-choices"):
        question = gr.Dropdown(
            presets,
            value=(presets[0] if presets else None) if asked.question is None else asked.question,
            label="the oracle is asked",
            allow_custom_value=True,
            min_width=220,
            scale=3,
            elem_id="dit-oracle-question",
        )
        span = gr.Dropdown(
            span_choices(asked.span),
            value=asked.span,
            label="about",
            min_width=170,
            scale=2,
            elem_id="dit-oracle-span",
        )
        read = gr.Button("Read", variant="primary", min_width=80, scale=0, elem_id="dit-oracle-read")
        stop = gr.Button("Stop", variant="stop", min_width=80, scale=0, elem_id="dit-oracle-stop")
    with gr.Accordion("conditions, layers, tokens", open=False, elem_id="dit-oracle-more"):
        kinds = gr.CheckboxGroup(
            events.choices(), value=list(asked.kinds), label="conditions", elem_id="dit-oracle-kinds"
        )
        with gr.Row(elem_classes="dit-choices"):
            named = list(zip(("with it", "without it", "the difference"), ACTIVATION_KINDS, strict=True))
            kind = gr.Radio(named, value=asked.kind, label="activations", elem_id="dit-oracle-kind")
            layers = gr.Textbox(asked.layers, label="layers", max_lines=1, min_width=120, elem_id="dit-oracle-layers")
            of = gr.Dropdown(
                [CHOSEN, *events.choices()],
                value=asked.of,
                label="tokens and words of",
                min_width=160,
                elem_id="dit-oracle-of",
            )
        chips = gr.HTML(tokens, js_on_load=TELL_TOKEN, elem_id="dit-oracle-tokens", apply_default_css=False)
    parts = {"oracle": question, "span": span, "kinds": kinds, "kind": kind, "layers": layers, "of": of, "chips": chips}
    return parts, read, stop
