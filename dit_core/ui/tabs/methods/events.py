"""What happens on the tab Methods. What was found is kept in the visitor's `Visit`, by the tab protocol."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

from dit_core.methods import Method, Option, Targets, describe_options, get_method, options_from, start
from dit_core.present import plots
from dit_core.present.cards import rows_html
from dit_core.records import Condition, Table
from dit_core.session.job import Result
from dit_core.session.notebook_cells import call
from dit_core.session.tab import Frame, Tab
from dit_core.session.visit import Visit
from dit_core.suite import Suite
from dit_core.suite.snippets import opening_lines
from dit_core.ui.parts import pieces
from dit_core.ui.parts.pieces import sentence_figure
from dit_core.ui.tabs import Shown, TabEvents, Values

WAITING = "Press Run: what the method finds shows here."
NO_FIGURE = "This method has no figure: its table is below."


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
