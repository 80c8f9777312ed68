"""The tab Methods: any method on any diff, with all of its options. Its declaration makes the controls."""

from __future__ import annotations

from typing import Any

import gradio as gr

from dit_core.methods import Method, Option, describe_options, get_method, list_methods
from dit_core.methods.comparison import first_info
from dit_core.present.html import render
from dit_core.session.choices import PICKER, condition_choices, diff_choices
from dit_core.suite import Suite
from dit_core.ui.parts import pieces
from dit_core.ui.parts.pieces import QUICK, Control, copying, saving, sentence_figure
from dit_core.ui.tabs import Wiring, connect
from dit_core.ui.tabs.methods.events import WAITING, MethodEvents

HINTS = {
    "dit-methods-method": "What turns the diff into words about it.",
    "dit-methods-diff": "A weight diff: what one finetune changed. Named by id until revealed.",
    "dit-methods-conditions": "What is put on the base and how it is asked; none chosen: the method's own choice.",
    "dit-methods-asked": "What the model is asked under each condition; empty: the question of the diff's task.",
    "dit-methods-run": "Runs the method with the options that stand here.",
    "dit-methods-stop": "Ends the run at once; what was found stays.",
}


def hints() -> dict[str, str]:
    """Return the hints of the tab's controls, those of every method's options among them, by id."""
    own = {_id(method, one): one.help for method in list_methods() for one in describe_options(method.options)}
    return HINTS | own


def methods_tab(tab: gr.Tab, suite: Suite, suite_ref: str, visit: gr.State) -> None:
    """Draw the tab and connect it; `suite_ref` is how `load_suite` finds the suite."""
    events = MethodEvents(suite, suite_ref)
    methods = list_methods()
    with gr.Row(elem_classes="dit-page", elem_id="dit-methods"):
        with gr.Column(scale=0, min_width=300, elem_classes="dit-side"):
            names = [(method.title, method.name) for method in methods]
            name = gr.Dropdown(names, value=methods[0].name, label="method", elem_id="dit-methods-method")
            about = gr.HTML(_about(suite, methods[0]), elem_id="dit-methods-about", apply_default_css=False)
            first = first_info(suite)
            diff = gr.Dropdown(diff_choices(suite), value=first.id, label=PICKER, elem_id="dit-methods-diff")
            with gr.Column(visible=bool(methods[0].asked), min_width=0) as targets:
                conditions = gr.Dropdown(
                    condition_choices(suite.task_of(first)),
                    multiselect=True,
                    allow_custom_value=True,
                    label="conditions",
                    elem_id="dit-methods-conditions",
                )
                asked = gr.Textbox(label="the model is asked", max_lines=2, elem_id="dit-methods-asked")
            groups, controls = {}, {}
            for method in methods:
                with gr.Column(visible=method is methods[0], min_width=0) as groups[method.name]:
                    controls[method.name] = _controls(method)
            with gr.Row(elem_classes="dit-tight"):
                run = gr.Button("Run", variant="primary", min_width=80, elem_id="dit-methods-run")
                stop = gr.Button("Stop", variant="stop", min_width=80, elem_id="dit-methods-stop")
        with gr.Column(scale=1, min_width=300, elem_classes="dit-main"):
            note = gr.HTML(events.blank_note(), elem_id="dit-methods-note", apply_default_css=False)
            figure = pieces.figure(sentence_figure(WAITING), elem_id="dit-methods-figure")
            rows = gr.HTML("", elem_id="dit-methods-rows", apply_default_css=False)
            with gr.Row(elem_classes="dit-saving"):
                copying(events.tab.cell, [visit], "dit-methods-cell")
            saving(events.saved, visit, "table", "the table", "methods")
    options = {f"{name} {option}": own for name, by_name in controls.items() for option, own in by_name.items()}
    parts = {
        "note": note, "figure": figure, "rows": rows, "method": name, "diff": diff, "conditions": conditions,
        "asked": asked, **options,
    }  # fmt: skip
    wiring = Wiring(visit, parts)

    def choose(picked: str) -> dict[Any, Any]:
        method = get_method(picked)
        visible = {group: gr.update(visible=own == picked) for own, group in groups.items()}
        return {about: _about(suite, method), targets: gr.update(visible=bool(method.asked)), **visible}

    connect(events, wiring, run, stop, *wiring.controls)
    name.input(choose, name, [about, targets, *groups.values()], **QUICK)
    tab.select(**wiring.event(events.arrive), **QUICK)


def _about(suite: Suite, method: Method[Any, Any]) -> str:
    """Return what a method does, needs and costs, and what the suite lacks for it."""
    lacking = method.unmet(suite, method.options())
    return render("ui/tabs/methods/about.html", method=method, needs=sorted(method.needs), lacking=lacking)


def _id(method: Method[Any, Any], option: Option) -> str:
    return f"dit-methods-{method.name}-{option.name}".replace("_", "-")


def _controls(method: Method[Any, Any]) -> dict[str, Control]:
    """Draw a control for each option of a method that the page offers; return them by the option's name."""
    offered = [option for option in describe_options(method.options) if not option.local]
    return {option.name: _control(option, _id(method, option)) for option in offered}


def _control(option: Option, elem_id: str) -> Control:
    shown: dict[str, Any] = {"label": option.label, "elem_id": elem_id}
    if option.type is bool:
        return gr.Checkbox(option.default, **shown)
    if option.choices and option.several:
        return gr.CheckboxGroup(list(option.choices), value=list(option.default), **shown)
    if option.choices:
        return gr.Radio(list(option.choices), value=option.default, **shown)
    if option.several:
        value = ", ".join(f"{number:g}" for number in option.default) if option.type is float else ""
        return gr.Textbox(value, lines=1, max_lines=4, **shown)
    if option.type is str:
        return gr.Textbox(option.default or "", max_lines=2, **shown)
    # A number field has no limits of its own: it would complain of what is only half typed.
    return gr.Number(option.default, precision=0 if option.type is int else None, **shown)
