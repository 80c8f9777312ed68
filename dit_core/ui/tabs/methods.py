"""The tab Methods: any method on any diff, with all of its options. Its declaration makes the controls."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import gradio as gr

from dit_core.methods import Method, Option, Targets, describe_options, get_method, list_methods, options_from, start
from dit_core.methods.comparison import first_info
from dit_core.present import plots
from dit_core.present.cards import rows_html
from dit_core.present.html import render
from dit_core.records import Condition, Table
from dit_core.session.choices import PICKER, condition_choices, diff_choices
from dit_core.session.job import Result
from dit_core.session.tab import Frame, Tab
from dit_core.session.visit import Visit
from dit_core.suite import Suite
from dit_core.suite.snippets import call, opening_lines
from dit_core.ui import pieces
from dit_core.ui.pieces import QUICK, Control, copying, saving, sentence_figure
from dit_core.ui.tabs import Shown, TabEvents, Values, Wiring, connect

HINTS = {
    "dit-methods-method": "What turns the diff into words about it.",
    "dit-methods-diff": "A weight diff: what one finetune changed. Named by id until revealed.",
    "dit-methods-conditions": "What is put on the base and how it is asked; none chosen: the method's own choice.",
    "dit-methods-asked": "What the model is asked under each condition; empty: the question of the diff's task.",
    "dit-methods-run": "Runs the method with the options that stand here.",
    "dit-methods-stop": "Ends the run at once; what was found stays.",
}
WAITING = "Press Run: what the method finds shows here."
NO_FIGURE = "This method has no figure: its table is below."


def hints() -> dict[str, str]:
    """Return the hints of the tab's controls, those of every method's options among them, by id."""
    methods = list_methods()
    return HINTS | {
        _id(method, option): option.help for method in methods for option in describe_options(method.options)
    }


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
    return render("ui/tabs/method_about.html", method=method, needs=sorted(method.needs), lacking=lacking)


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


@dataclass(frozen=True)
class MethodSettings:
    """What to run: a method by name, on what, and with which options."""

    method: str
    targets: Targets
    options: Any


@dataclass(frozen=True)
class MethodResult(Result[MethodSettings]):
    """What a method has found."""

    table: Table[Any] | None = None


class MethodsTab(Tab[MethodSettings, MethodResult]):
    """Any method on a suite."""

    name, settings_type, result_type = "methods", MethodSettings, MethodResult
    idle, pause = "Choose a method, then press Run.", 0.3

    def settings(self, values: Mapping[str, Any]) -> MethodSettings:
        """Return what the controls say, `options` by the method's name and theirs; DitError for a wrong one."""
        name, asked = values["method"], (values["asked"] or "").strip()  # Gradio has None for a field never shown
        method = get_method(name)
        shown = [option for option in describe_options(method.options) if not option.local]
        given = {option.name: lines(option, values[f"{name} {option.name}"]) for option in shown}
        options = options_from(method, {own.name: given[own.name] for own in shown if own.given(given[own.name])})
        written = [str(Condition.parse(text)) for text in values["conditions"] or ()] if method.asked else []
        if method.asked and asked and not written:
            written = ["diff" if values["diff"] else "base"]
        diffs = (values["diff"],) if values["diff"] else ()
        return MethodSettings(name, Targets(diffs, tuple((text, asked or None) for text in written)), options)

    def start(self, first: MethodResult) -> Generator[Table[Any], None, None]:
        """Return the method's tables."""
        settings = first.settings
        return start(get_method(settings.method), self.suite, settings.targets, settings.options)

    def progress(self, result: MethodResult) -> tuple[float, float]:
        """Return what the method says of its table."""
        return get_method(result.settings.method).progress(result.table) if result.table is not None else (0, 0)

    def diff(self, result: MethodResult) -> str:
        """Return the id of the diff; "" for none."""
        diff = next(iter(result.settings.targets.diffs), "")
        return diff if isinstance(diff, str) else diff.id

    def cell(self, visit: Visit) -> str:
        """Return the lines that run the same in a notebook; "" before anything ran."""
        result = self.result(visit)
        if result is None:
            return ""
        settings = result.settings
        method, options = get_method(settings.method), settings.options
        diff = next((own for own in settings.targets.diffs if isinstance(own, str)), None)
        given = {own.name: getattr(options, own.name) for own in fields(options)}
        changed = {name: value for name, value in given.items() if value != getattr(method.options(), name)}
        asked = {"condition": [text for text, _ in settings.targets.conditions]} if settings.targets.conditions else {}
        question = {"asked": settings.targets.conditions[0][1]} if asked and settings.targets.conditions[0][1] else {}
        arguments = ", ".join(f"{name}={value!r}" for name, value in changed.items())
        made = f"get_method({method.name!r}).options({arguments})"
        imports = ["from dit_core import load_suite, run_method", "from dit_core.methods import get_method"]
        imports += ["from dit_core.present import plots"] if method.figure else []
        lines = opening_lines(self.suite, self.suite_ref, diff, *imports)
        table = call("run_method", self.suite, diff, asked | question).removesuffix(")")
        table = table.replace("suite,\n", f"suite,\n    {method.name!r},\n", 1)
        lines += [f"table = {table}    options={made},\n)"]
        lines += [f"plots.{method.figure}(table).show()"] if method.figure else ["table.to_frame()"]
        return "\n".join([*lines, ""])


class MethodEvents(TabEvents[MethodSettings, MethodResult]):
    """The events of the tab; `suite_ref` is how `load_suite` finds the suite."""

    tab: MethodsTab

    def __init__(self, suite: Suite, suite_ref: str) -> None:
        super().__init__(MethodsTab(suite, suite_ref))

    def show(self, visit: Visit, values: Values, frame: Frame[MethodResult]) -> Shown:
        """Return the figure and the table of a frame."""
        if frame.result is None or frame.result.table is None:
            return {"figure": sentence_figure(WAITING), "rows": ""}
        method, table = get_method(frame.result.settings.method), frame.result.table
        text = method.text_rows(table, self.tab.revealed(visit))
        return {"figure": _figure(method, table), "rows": rows_html(text.title, text.columns, text.rows)}

    def arrive(self, visit: Visit, values: Values) -> Shown:
        """Show Explore's diff where nothing has run here yet; else what was found, as far as it is revealed."""
        if self.tab.result(visit) is None:
            return {"diff": visit.diff_for_tab(self.tab.name, values["diff"])}
        return self.shown(visit, values)


def lines(option: Option, value: Any) -> Any:
    """Return a control's value as a method takes it: several texts stand on lines of their own."""
    if option.several and option.type is str and isinstance(value, str):
        return [line.strip() for line in value.splitlines() if line.strip()]
    return value


def _figure(method: Method[Any, Any], table: Table[Any]) -> str:
    if not method.figure:
        return sentence_figure(NO_FIGURE)
    return pieces.figure_value(partial(getattr(plots, method.figure), table))
