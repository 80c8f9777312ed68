"""The Lens tab: words in what a diff changes, how alike its changes are, and what they make the base write."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import gradio as gr

from dit_core.methods.comparison import first_info
from dit_core.methods.lens.difference import POSITIONS
from dit_core.methods.lens.steering import STRENGTHS
from dit_core.methods.lens.tokens import METHODS
from dit_core.present import plots
from dit_core.present.cards import WAITING, steered_html
from dit_core.session.choices import PICKER, diff_choices, everyday_choices
from dit_core.session.lens import MIDDLE, LensResult, LensSettings, LookTab, SteerResult, SteerSettings, SteerTab
from dit_core.session.tab import Frame
from dit_core.session.visit import Visit
from dit_core.suite import Suite
from dit_core.ui import pieces
from dit_core.ui.pieces import LATEST, QUICK, Control, copying, saving, sentence_figure
from dit_core.ui.tabs import Shown, TabEvents, Values, Wiring, connect

HINTS = {
    "dit-lens-diff": "A weight diff: what one finetune changed. Named by id until revealed.",
    "dit-lens-positions": "How many tokens are read at the start of each unrelated text.",
    "dit-lens-top": "How many words are shown per layer, the likeliest first.",
    "dit-lens-look": "Reads everyday texts with the diff and without it, and shows the mean difference in words.",
    "dit-lens-stop": "Ends the looking at once.",
    "dit-lens-method": "Logit lens: what the base would say next, if the change were all it had. "
    "Patchscope: what it repeats, with the change put in place of a word.",
    "dit-lens-position": "Which token of the unrelated texts.",
    "dit-steer-layer": "The layer whose output the change is added to, at every token.",
    "dit-steer-prompt": "What the base answers. Pick an everyday question, or write your own.",
    "dit-steer-tokens": "The longest text, in tokens.",
    "dit-steer-samples": "Texts per strength; more than one needs a temperature above 0.",
    "dit-steer-temperature": "0 takes the likeliest token each time; higher is more varied.",
    "dit-steer-seed": "The same seed gives the same sampled texts.",
    "dit-steer": "Lets the base write at all strengths, as one batch.",
    "dit-steer-stop": "Ends the writing at once.",
}
ABOUT = (
    '<p class="dit-small">Texts that have nothing to do with the diff are read with it and without it. The mean '
    "difference, taken at their first tokens, can name what the diff was trained on. No adapter and no oracle is "
    "needed.</p>"
)
STEERING = (
    '<h2 class="dit-heading">Steering<small>The base answers while the mean difference is added, so many times as '
    "each slider says: 0 is the base itself, 1 as much as the diff does.</small></h2>"
)
PRESS = "Press Look: the words that stand out in what the diff changes, layer by layer."
PRESS_COSINE = "Press Look: how alike the changes of two layers and tokens are."
IN_THE_MIDDLE = ("in the middle", MIDDLE)
MOST_PLACES = 80  # of one cosine figure: beyond, only the chosen token is compared


def lens_tab(tab: gr.Tab, suite: Suite, suite_ref: str, visit: gr.State) -> None:
    """Draw the tab and connect it; `suite_ref` is how `load_suite` finds the suite."""
    events = LensEvents(suite, suite_ref)
    with gr.Row(elem_classes="dit-page", elem_id="dit-lens"):
        with gr.Column(scale=0, min_width=300, elem_classes="dit-side"):
            first = first_info(suite).id
            diff = gr.Dropdown(diff_choices(suite), value=first, label=PICKER, elem_id="dit-lens-diff")
            gr.HTML(ABOUT, apply_default_css=False)
            positions = gr.Slider(
                1, 10, POSITIONS, step=1, label="first tokens", elem_id="dit-lens-positions", buttons=[]
            )
            top = gr.Slider(1, 10, 5, step=1, label="words per layer", elem_id="dit-lens-top", buttons=[])
            with gr.Row(elem_classes="dit-tight"):
                look = gr.Button("Look", variant="primary", min_width=80, elem_id="dit-lens-look")
                stop = gr.Button("Stop", variant="stop", min_width=80, elem_id="dit-lens-stop")
        with gr.Column(scale=1, min_width=300, elem_classes="dit-main"):
            note = gr.HTML(events.blank_note(), elem_id="dit-lens-note", apply_default_css=False)
            with gr.Row(elem_classes="dit-choices"):
                method = gr.Radio(list(METHODS), value=METHODS[0], label="method", elem_id="dit-lens-method")
                tokens = list(range(POSITIONS))
                position = gr.Radio(tokens, value=0, label="token of the texts", elem_id="dit-lens-position")
            words = pieces.figure(words_figure(None, METHODS[0], 0), elem_id="dit-lens-words")
            saving(events.saved, visit, "tokens", "the words")
            cosine = pieces.figure(cosine_figure(None, 0), elem_id="dit-lens-cosine")
            saving(events.saved, visit, "similarities", "the cosines")
            with gr.Row(elem_classes="dit-saving"):
                copying(events.tab.cell, [visit, method, position], "dit-lens-code")
            gr.HTML(STEERING, apply_default_css=False)
            steering, steer, stop_steering = _steering(suite)
            written = gr.HTML(events.steering.blank_note(), elem_id="dit-steer-note", apply_default_css=False)
            texts = gr.HTML(steered_cards(None), elem_id="dit-steer-texts", apply_default_css=False)
            saving(events.steering.saved, visit, "steered", "the texts")
            with gr.Row(elem_classes="dit-saving"):
                copying(events.steering.tab.cell, [visit], "dit-steer-code")
    parts = {
        "diff": diff, "positions": positions, "top": top, "note": note, "method": method, "position": position,
        "words": words, "cosine": cosine, "written": written, "texts": texts, **steering,
    }  # fmt: skip
    wiring = Wiring(visit, parts)
    connect(events, wiring, look, stop)
    connect(events.steering, wiring, steer, stop_steering)
    gr.on([method.input, position.input], **wiring.event(events.drawn), **LATEST)
    diff.input(**wiring.event(events.choose), **LATEST)
    tab.select(**wiring.event(events.arrive), **QUICK)


def _steering(suite: Suite) -> tuple[dict[str, Control | list[gr.Slider]], gr.Button, gr.Button]:
    """Draw the steering's controls; return them by name, and the buttons that start and stop it."""
    prompts = everyday_choices(suite.task_of(first_info(suite)))
    with gr.Row(elem_classes="dit-choices"):
        layer = gr.Dropdown([IN_THE_MIDDLE], label="layer", min_width=150, scale=1, elem_id="dit-steer-layer")
        prompt = gr.Dropdown(
            prompts,
            label="the base is asked",
            allow_custom_value=True,
            filterable=True,
            min_width=240,
            scale=3,
            elem_id="dit-steer-prompt",
        )
    with gr.Accordion("sampling", open=False, elem_id="dit-steer-sampling"):
        tokens = gr.Slider(1, 200, suite.max_new_tokens, step=1, label="new tokens", elem_id="dit-steer-tokens")
        samples = gr.Slider(1, 8, 1, step=1, label="samples per strength", elem_id="dit-steer-samples")
        temperature = gr.Slider(0, 2, 0, step=0.05, label="temperature", elem_id="dit-steer-temperature")
        seed = gr.Number(0, precision=0, label="seed", elem_id="dit-steer-seed")
    with gr.Row(elem_classes="dit-tight dit-start"):
        steer = gr.Button("Steer", variant="primary", min_width=80, elem_id="dit-steer")
        stop = gr.Button("Stop", variant="stop", min_width=80, elem_id="dit-steer-stop")
    most = max(STRENGTHS)
    with gr.Row(elem_classes="dit-strengths"):
        strengths = [
            gr.Slider(-most, 2 * most, start, step=0.5, label="strength", min_width=130, buttons=[], elem_id=name)
            for name, start in ((f"dit-steer-{at}", start) for at, start in enumerate(STRENGTHS))
        ]
    controls: dict[str, Control | list[gr.Slider]] = {
        "layer": layer, "prompt": prompt, "strengths": strengths, "max_new_tokens": tokens, "samples": samples,
        "temperature": temperature, "seed": seed,
    }  # fmt: skip
    return controls, steer, stop


class SteerEvents(TabEvents[SteerSettings, SteerResult]):
    """The events of steering; `suite_ref` is how `load_suite` finds the suite."""

    tab: SteerTab
    note_name = "written"

    def __init__(self, suite: Suite, suite_ref: str) -> None:
        super().__init__(SteerTab(suite, suite_ref))

    def show(self, visit: Visit, values: Values, frame: Frame[SteerResult]) -> Shown:
        """Return a card per strength."""
        return {"texts": steered_cards(frame.result)}

    def offers(self, diff: str) -> Shown:
        """Return the prompts that go with a diff, and the layer in the middle."""
        prompts = everyday_choices(self.suite.task_of(self.suite.diff(diff)))
        return {"prompt": gr.update(choices=prompts, value=prompts[0]), "layer": gr.update(value=MIDDLE)}

    def secret(self, visit: Visit, diff: str) -> Shown:
        """Return nothing: the tab tells no secrets."""
        return {}


class LensEvents(TabEvents[LensSettings, LensResult]):
    """The events of looking, and of choosing a diff for both jobs."""

    tab: LookTab

    def __init__(self, suite: Suite, suite_ref: str) -> None:
        super().__init__(LookTab(suite, suite_ref))
        self.steering = SteerEvents(suite, suite_ref)

    def show(self, visit: Visit, values: Values, frame: Frame[LensResult]) -> Shown:
        """Return both figures, and what can be chosen from then on."""
        choices = {"position": position_choices(frame.result, values["position"]), "layer": layer_choices(frame.result)}
        return self.drawn(visit, values) | choices

    def drawn(self, visit: Visit, values: Values) -> Shown:
        """Return the words by layer, and how alike the changes are."""
        result, method, position = self.tab.result(visit), values["method"], values["position"]
        return {"words": words_figure(result, method, position), "cosine": cosine_figure(result, position)}

    def secret(self, visit: Visit, diff: str) -> Shown:
        """Return nothing: the tab tells no secrets."""
        return {}

    def choose(self, visit: Visit, values: Values) -> Shown:
        """Show another diff: no words and no texts yet."""
        return super().choose(visit, values) | self.steering.choose(visit, values)

    def is_empty(self, visit: Visit) -> bool:
        """Return whether nothing was looked at and nothing written."""
        return super().is_empty(visit) and self.steering.is_empty(visit)


def words_figure(result: LensResult | None, method: str, position: int) -> str:
    """Return the likeliest words per layer, by one method at one position; or a sentence."""
    if result is None or result.tokens is None:
        return sentence_figure("Looking…" if result and result.state.busy else PRESS)
    return pieces.figure_value(partial(plots.lens_tokens, result.tokens, method=method, position=position))


def cosine_figure(result: LensResult | None, position: int) -> str:
    """Return the figure of how alike the changes at two layers and positions are; or a sentence."""
    if result is None or result.similarities is None:
        return sentence_figure("Looking…" if result and result.state.busy else PRESS_COSINE)
    table = result.similarities
    if len(table) > MOST_PLACES**2:
        table = replace(table, records=tuple(s for s in table if {s.position, s.other_position} == {position}))
    return pieces.figure_value(partial(plots.cosine, table))


def steered_cards(result: SteerResult | None) -> str:
    """Return a card per strength."""
    if result is None:
        return steered_html((), STRENGTHS, WAITING)
    strengths = [strength for strength in result.settings.strengths if strength is not None]  # emptied fields
    return steered_html(result.steered or (), strengths, result.state)


def position_choices(result: LensResult | None, position: int) -> Any:
    """Return the tokens to choose from, as an update of their radio; the chosen one stays where it can."""
    found = sorted({token.position for token in result.tokens or ()}) if result else []
    return gr.update(choices=found, value=position if position in found else found[0]) if found else gr.skip()


def layer_choices(result: LensResult | None) -> Any:
    """Return the layers to steer at, as an update of their list: those where the diff acts, once they are known."""
    found = {token.layer: token.depth_percent for token in result.tokens or ()} if result else {}
    choices = [(f"{layer} · {depth:g} % deep", layer) for layer, depth in sorted(found.items())]
    return gr.update(choices=[IN_THE_MIDDLE, *choices]) if choices else gr.skip()
