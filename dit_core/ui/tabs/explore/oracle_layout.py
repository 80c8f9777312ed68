"""The panel under the cards: what the oracle reads of every condition, layer by layer, beside the logit lens."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr
from gradio.events import Dependency

from dit_core.request.targets import ACTIVATION_KINDS
from dit_core.session.choices import measures
from dit_core.session.settings import PanelSettings
from dit_core.suite import Suite
from dit_core.ui.parts import figures
from dit_core.ui.parts.pieces import LATEST, QUICK, RUN, SLOW, Control, saving
from dit_core.ui.tabs.explore import oracle_view as view
from dit_core.ui.tabs.explore.oracle_events import CHOSEN, OracleEvents

HINTS = {
    "dit-oracle-question": "What the oracle is asked about each layer. Pick a question, or write your own.",
    "dit-oracle-span": "Which tokens of each condition are read. Click tokens below for others.",
    "dit-oracle-read": "Reads the conditions on the cards, layer by layer, without asking them anew.",
    "dit-oracle-stop": "Ends the running reading at once; what was read stays.",
    "dit-oracle-kinds": "Which of the cards are read.",
    "dit-oracle-kind": "What is read: the condition's activations, the base's on the same tokens, or the difference.",
    "dit-oracle-layers": "Which layers are read: all, or numbers like 0,3-5.",
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
class PanelControls:
    """The settings, the buttons, and the tokens to click."""

    question: gr.Dropdown
    span: gr.Dropdown
    kinds: gr.CheckboxGroup
    kind: gr.Radio
    layers: gr.Textbox
    of: gr.Dropdown
    read: gr.Button
    stop: gr.Button
    chips: gr.HTML

    @property
    def settings(self) -> list[Control]:
        """The controls of `PanelSettings`, in order."""
        return [self.question, self.span, self.kinds, self.kind, self.layers, self.of]


@dataclass(frozen=True)
class PanelBoard:
    """The components that events update."""

    note: gr.HTML
    y: gr.Radio
    figure: gr.HTML
    next_figure: gr.HTML
    chips: gr.HTML
    details: gr.HTML

    @property
    def shown(self) -> list[gr.components.Component]:
        """All of them, in the order of what `OracleEvents` returns."""
        return [self.note, self.y, self.figure, self.next_figure, self.chips, self.details]


@dataclass(frozen=True)
class Panel:
    """The panel's components."""

    events: OracleEvents
    controls: PanelControls
    board: PanelBoard
    next_y: gr.Radio

    @property
    def inputs(self) -> list[Control]:
        """The inputs, behind the visit, of every event that updates the board."""
        return [self.board.y, self.next_y, *self.controls.settings]

    def after(self, event: Dependency, visit: gr.State) -> None:
        """Read what the cards show once `event` has answered them."""
        then = event.then(self.events.titles, visit, [self.controls.kinds, self.controls.of], **QUICK)
        read = then.then(self.events.after_cards, [visit, *self.inputs], self.board.shown, **RUN)
        read.then(self.events.fetch_pending_evidence, visit, self.board.details, **SLOW)


def build_panel(suite: Suite, visit: gr.State) -> Panel:
    """Draw the panel and connect its events."""
    events = OracleEvents(suite)
    start, there = events.blank(), suite.oracle is not None
    with gr.Column(elem_id="dit-oracle"):
        gr.HTML(TITLE, apply_default_css=False)
        with gr.Column(visible=there, elem_classes="dit-plain"):
            controls = _controls(suite, events, start[4])
        note = gr.HTML(start[0], elem_id="dit-oracle-note", apply_default_css=False)
        with gr.Column(visible=there, elem_classes="dit-plain"):
            y = gr.Radio(measures(False), value=start[1]["value"], label="height shows", elem_id="dit-oracle-y")
            figure = figures.figure(start[2], view.HEIGHT, elem_id="dit-oracle-figure")
            details = gr.HTML(start[5], elem_id="dit-oracle-details", apply_default_css=False)
            saving(events.saved, visit, "oracle", "the readings")
        gr.HTML(NEXT_TITLE, apply_default_css=False)
        next_y = gr.Radio(
            list(view.NEXT_MEASURES), value=view.NEXT_MEASURES[0], label="height shows", elem_id="dit-next-y"
        )
        next_figure = figures.figure(start[3], view.NEXT_HEIGHT, elem_id="dit-next-figure")
        saving(events.saved, visit, "next-tokens", "the logit lens")
    panel = Panel(events, controls, PanelBoard(note, y, figure, next_figure, controls.chips, details), next_y)
    controls.stop.click(events.stop, visit, None, **QUICK)
    _connect(panel, visit)
    return panel


def _controls(suite: Suite, events: OracleEvents, tokens: str) -> PanelControls:
    """Draw the controls, with `tokens` to click."""
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
            view.span_choices(asked.span),
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
    return PanelControls(question, span, kinds, kind, layers, of, read, stop, chips)


def _connect(panel: Panel, visit: gr.State) -> None:
    events, controls, board = panel.events, panel.controls, panel.board
    reads = [controls.read.click, controls.question.input, controls.layers.submit]
    read = gr.on(reads, events.read, [visit, *panel.inputs], board.shown, **SLOW)
    read.then(events.fetch_pending_evidence, visit, board.details, **SLOW)
    looks = [board.y.input, panel.next_y.input, controls.of.input, controls.span.input]
    gr.on(looks, events.show, [visit, *panel.inputs], board.shown, **QUICK)
    clicked = board.figure.select(events.clicked, visit, board.details, **QUICK)
    clicked.then(events.fetch_evidence, visit, board.details, **SLOW)
    board.chips.select(events.token, [visit, controls.span], [board.chips, controls.span, board.note], **QUICK)
    changes = [control.change for control in controls.settings]
    gr.on(changes, events.changed, [visit, *controls.settings], board.note, **LATEST)
