"""The left side of the Explore tab: its controls, and how they show settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from dit_core.records.chat import MAX_CHAT
from dit_core.session.choices import PICKER, adapter_choices, diff_choices
from dit_core.session.settings import RANGES, TRIGGERS, Settings
from dit_core.suite import Suite
from dit_core.ui.tabs import Shown

# One line per control, shown on hover (page.js sets it as the title of the element with that id).
HINTS = {
    "dit-diff": "A weight diff: what one finetune changed. Named by id until revealed.",
    "dit-surprise": "Picks a diff that no DIT adapter has ever seen, and asks it.",
    "dit-reveal": "Shows what the diff was really trained on, its trigger, and the grades.",
    "dit-use-diff": "Whether the finetuned model is asked, or the base.",
    "dit-strength": "How much of the diff acts: 1 is the finetuned model, 0 the base, below 0 its opposite.",
    "dit-use-dit": "Whether the DIT adapter, which makes a model say what changed, is added.",
    "dit-copies": "How many copies of the DIT adapter act; fractions are allowed.",
    "dit-adapter": "Which DIT adapter: trained on more diffs or on fewer.",
    "dit-trigger": "The secret phrase in front of the question: none, the right one, a wrong one, or your own text.",
    "dit-presets": "Questions to start from.",
    "dit-question": "What every condition is asked.",
    "dit-system": "The system prompt of all conditions; empty for the template's own.",
    "dit-turns": "What was said before the question, by turns: lines that begin with User: and Assistant:.",
    "dit-prefill": "How the answer begins; the model goes on from there.",
    "dit-raw": "Reads the question as it is, without the base's chat template.",
    "dit-more": "Other diffs beside it, or parts: diff:topic-0412*0.5, diff:rank1, diff@mlp, diff@layers:2-5.",
    "dit-samples": "Answers per condition; more than one needs a temperature above 0.",
    "dit-temperature": "0 takes the likeliest token each time; higher is more varied.",
    "dit-top-p": "Only the likeliest tokens that together have this probability are drawn from.",
    "dit-tokens": "The longest answer, in tokens.",
    "dit-seed": "The same seed gives the same sampled answers.",
    "dit-ask": "Asks all conditions at once, as one batch.",
    "dit-stop": "Ends the running answer at once; what was said stays.",
}


@dataclass(frozen=True)
class ExploreButtons:
    """What starts and stops a question."""

    ask: gr.Button
    stop: gr.Button
    surprise: gr.Button


def build_controls(suite: Suite) -> tuple[dict[str, Any], ExploreButtons]:
    """Draw the left side; return its components by name, those of `Settings` by its fields, and its buttons."""
    diff = gr.Dropdown(diff_choices(suite), label=PICKER, elem_id="dit-diff", filterable=True)
    with gr.Row(elem_classes="dit-tight"):
        surprise = gr.Button("Surprise me", size="sm", min_width=80, elem_id="dit-surprise")
        reveal = gr.Button("Reveal", size="sm", min_width=80, elem_id="dit-reveal")
    secret = gr.HTML(elem_id="dit-secret", apply_default_css=False)
    with gr.Row(elem_classes="dit-pair"):
        use_diff = gr.Checkbox(True, label="diff", elem_id="dit-use-diff", container=False, min_width=64, scale=0)
        strength = gr.Slider(
            *RANGES["strength"], 1, step=0.05, label="strength", elem_id="dit-strength", min_width=140, buttons=[]
        )
    with gr.Row(elem_classes="dit-pair"):
        use_dit = gr.Checkbox(True, label="DIT", elem_id="dit-use-dit", container=False, min_width=64, scale=0)
        copies = gr.Slider(
            *RANGES["copies"], 1, step=0.05, label="copies", elem_id="dit-copies", min_width=140, buttons=[]
        )
    adapter = gr.Dropdown(adapter_choices(suite), value="", label="DIT adapter", elem_id="dit-adapter")
    trigger = gr.Radio(list(TRIGGERS), value="absent", label="trigger", elem_id="dit-trigger")
    own = gr.Textbox(label="your own trigger text", max_length=500, visible=False, elem_id="dit-own")
    presets = gr.Dropdown([], label="question presets", elem_id="dit-presets")
    question = gr.Textbox(label="question", lines=2, max_lines=6, elem_id="dit-question")
    with gr.Accordion("system prompt, turns, more diffs", open=False, elem_id="dit-chat") as fold:
        system = gr.Textbox(label="system prompt", lines=1, max_lines=6, max_length=MAX_CHAT, elem_id="dit-system")
        turns = gr.Textbox(
            label="earlier turns", lines=2, max_lines=8, max_length=MAX_CHAT, elem_id="dit-turns",
            placeholder="User: Hello!\nAssistant: Hello, what can I do?",
        )  # fmt: skip
        prefill = gr.Textbox(label="start of the answer", max_length=MAX_CHAT, elem_id="dit-prefill")
        raw = gr.Checkbox(False, label="raw text, no chat template", elem_id="dit-raw")
        more = gr.Textbox(label="more diffs", max_length=500, placeholder="diff:rank1*0.5", elem_id="dit-more")
    with gr.Accordion("sampling", open=False, elem_id="dit-sampling"):
        samples = gr.Slider(*RANGES["samples"], 1, step=1, label="samples per condition", elem_id="dit-samples")
        temperature = gr.Slider(*RANGES["temperature"], 0, step=0.05, label="temperature", elem_id="dit-temperature")
        top_p = gr.Slider(*RANGES["top_p"], 1, step=0.05, label="top-p", elem_id="dit-top-p")
        max_new_tokens = gr.Slider(
            *RANGES["max_new_tokens"], suite.max_new_tokens, step=1, label="new tokens", elem_id="dit-tokens"
        )
        seed = gr.Number(0, precision=0, label="seed", elem_id="dit-seed")
    with gr.Row(elem_classes="dit-tight"):
        ask = gr.Button("Ask", variant="primary", min_width=80, elem_id="dit-ask")
        stop = gr.Button("Stop", variant="stop", min_width=80, elem_id="dit-stop")
    recent = gr.Dropdown([], label="recent", elem_id="dit-recent")
    parts = {
        "diff": diff, "use_diff": use_diff, "strength": strength, "use_dit": use_dit, "copies": copies,
        "adapter": adapter, "trigger": trigger, "own": own, "question": question, "samples": samples,
        "temperature": temperature, "top_p": top_p, "max_new_tokens": max_new_tokens, "seed": seed,
        "more": more, "system": system, "turns": turns, "prefill": prefill, "raw": raw,
        "fold": fold, "presets": presets, "recent": recent, "secret": secret, "reveal": reveal,
    }  # fmt: skip
    return parts, ExploreButtons(ask, stop, surprise)


def show(suite: Suite, settings: Settings) -> Shown:
    """Return the updates of the controls and of the presets that show `settings`."""
    info = suite.diff(settings.diff)
    task = suite.task_of(info)
    values: Shown = dict(vars(settings))
    # A diff without a trigger still takes a text of the user's own.
    values["trigger"] = gr.update(
        value=settings.trigger,
        choices=list(TRIGGERS) if task.has_trigger else [t for t in TRIGGERS if t not in ("right", "wrong")],
        label="trigger" if task.has_trigger else "trigger · none here: this diff shows by its behaviour",
    )
    values["own"] = gr.update(value=settings.own, visible=settings.trigger == "own")
    presets = list(dict.fromkeys([task.question, *task.questions]))
    folded = not any((settings.system, settings.turns, settings.prefill, settings.raw, settings.more))
    values |= {} if folded else {"fold": gr.update(open=True)}  # what acts is seen
    chosen = settings.question if settings.question in presets else None
    return values | {"presets": gr.update(choices=presets, value=chosen)}
