"""The Lens tab: words in what a diff changes, how alike its changes are, and what they make the base write."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from dit_core.methods.comparison import first_info
from dit_core.methods.lens.difference import POSITIONS
from dit_core.methods.lens.steering import STRENGTHS
from dit_core.methods.lens.tokens import METHODS
from dit_core.present.cards import note_html
from dit_core.session.choices import PICKER, diff_choices, everyday_choices
from dit_core.suite import Suite
from dit_core.ui.parts import figures
from dit_core.ui.parts.pieces import LATEST, QUICK, SLOW, Control, copying, saving
from dit_core.ui.tabs.lens import view as lens_view
from dit_core.ui.tabs.lens.events import LensEvents

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


@dataclass(frozen=True)
class LookControls:
    """The left side: what to look at, and the buttons."""

    diff: gr.Dropdown
    positions: gr.Slider
    top: gr.Slider
    look: gr.Button
    stop: gr.Button

    @property
    def settings(self) -> list[Control]:
        """The controls of `LensSettings`, in order."""
        return [self.diff, self.positions, self.top]


@dataclass(frozen=True)
class SteerControls:
    """The controls of the steering, and its buttons; `look` are those of the left side."""

    look: LookControls
    layer: gr.Dropdown
    prompt: gr.Dropdown
    strengths: list[gr.Slider]
    tokens: gr.Slider
    samples: gr.Slider
    temperature: gr.Slider
    seed: gr.Number
    steer: gr.Button
    stop: gr.Button

    @property
    def settings(self) -> list[Control]:
        """The controls of `SteerSettings`, in order."""
        sampling: list[Control] = [self.tokens, self.samples, self.temperature, self.seed]
        return [self.look.diff, self.look.positions, self.layer, self.prompt, *self.strengths, *sampling]


def lens_tab(tab: gr.Tab, suite: Suite, suite_ref: str, visit: gr.State) -> None:
    """Draw the tab and connects it; `suite_ref` is how `load_suite` finds the suite."""
    events = LensEvents(suite, suite_ref)
    with gr.Row(elem_classes="dit-page", elem_id="dit-lens"):
        with gr.Column(scale=0, min_width=300, elem_classes="dit-side"):
            looking = _controls(suite)
        with gr.Column(scale=1, min_width=300, elem_classes="dit-main"):
            note = gr.HTML(note_html(""), elem_id="dit-lens-note", apply_default_css=False)
            with gr.Row(elem_classes="dit-choices"):
                method = gr.Radio(list(METHODS), value=METHODS[0], label="method", elem_id="dit-lens-method")
                tokens = list(range(POSITIONS))
                position = gr.Radio(tokens, value=0, label="token of the texts", elem_id="dit-lens-position")
            words = figures.figure(lens_view.words(None, METHODS[0], 0), elem_id="dit-lens-words")
            saving(events.saved, visit, "tokens", "the words")
            cosine = figures.figure(lens_view.cosine(None, 0), elem_id="dit-lens-cosine")
            saving(events.saved, visit, "similarities", "the cosines")
            with gr.Row(elem_classes="dit-saving"):
                copying(events.cell, [visit, method, position], "dit-lens-code")
            gr.HTML(STEERING, apply_default_css=False)
            steering = _steering(suite, looking)
            written = gr.HTML(note_html(""), elem_id="dit-steer-note", apply_default_css=False)
            texts = gr.HTML(lens_view.texts(None), elem_id="dit-steer-texts", apply_default_css=False)
            saving(events.saved, visit, "steered", "the texts")
            with gr.Row(elem_classes="dit-saving"):
                copying(events.steered_cell, [visit], "dit-steer-code")
    shown = [note, words, cosine]
    fresh = [*shown, written, texts, steering.prompt, steering.layer]
    turn, diff = [visit, method, position], looking.diff
    looking.look.click(events.look, [*turn, *looking.settings], [*shown, position, steering.layer], **SLOW)
    looking.stop.click(events.stop_looking, visit, None, **QUICK)
    steering.steer.click(events.steer, [visit, *steering.settings], [written, texts], **SLOW)
    steering.stop.click(events.stop_steering, visit, None, **QUICK)
    gr.on([method.input, position.input], events.shown, turn, [words, cosine], **LATEST)
    diff.input(events.choose, [visit, diff, method, position], fresh, **LATEST)
    tab.select(events.arrive, [visit, diff, method, position], [diff, *fresh], **QUICK)
    changes = [control.change for control in looking.settings]
    gr.on(changes, events.changed, [visit, *looking.settings], note, **LATEST)
    changes = [control.change for control in steering.settings]
    gr.on(changes, events.steering_changed, [visit, *steering.settings], written, **LATEST)


def _controls(suite: Suite) -> LookControls:
    """Draw the left side."""
    diff = gr.Dropdown(diff_choices(suite), value=first_info(suite).id, label=PICKER, elem_id="dit-lens-diff")
    gr.HTML(ABOUT, apply_default_css=False)
    positions = gr.Slider(1, 10, POSITIONS, step=1, label="first tokens", elem_id="dit-lens-positions", buttons=[])
    top = gr.Slider(1, 10, 5, step=1, label="words per layer", elem_id="dit-lens-top", buttons=[])
    with gr.Row(elem_classes="dit-tight"):
        look = gr.Button("Look", variant="primary", min_width=80, elem_id="dit-lens-look")
        stop = gr.Button("Stop", variant="stop", min_width=80, elem_id="dit-lens-stop")
    return LookControls(diff, positions, top, look, stop)


def _steering(suite: Suite, looking: LookControls) -> SteerControls:
    """Draw the steering's controls."""
    prompts = everyday_choices(suite.task_of(first_info(suite)))
    with gr.Row(elem_classes="dit-choices"):
        layer = gr.Dropdown([lens_view.IN_THE_MIDDLE], label="layer", min_width=150, scale=1, elem_id="dit-steer-layer")
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
    return SteerControls(looking, layer, prompt, strengths, tokens, samples, temperature, seed, steer, stop)
