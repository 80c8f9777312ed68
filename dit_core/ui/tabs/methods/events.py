"""What happens on the tab Methods. What was found is kept in the visitor's `Visit`, by the tab protocol."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

from dit_core.methods import Method, Option, Targets, describe_options, get_method, options_from, start
from dit_core.present import plots
from dit_core.present.cards import note_html, rows_html
from dit_core.records import Condition, Table
from dit_core.session.notebook_cells import call
from dit_core.session.tab import Frame, Tab
from dit_core.session.visit import Visit
from dit_core.suite import Suite
from dit_core.suite.snippets import opening_lines
from dit_core.ui.parts import figures
from dit_core.ui.parts.pieces import sentence_figure

IDLE = "Choose a method, then press Run."
WAITING = "Press Run: what the method finds shows here."
NO_FIGURE = "This method has no figure: its table is below."


@dataclass(frozen=True)
class MethodSettings:
    """What to run: a method by name, on what, and with which options."""

    method: str
    targets: Targets
    options: Any


class MethodEvents:
    """The events of one suite's tab; `suite_ref` is how `load_suite` finds the suite."""

    def __init__(self, suite: Suite, suite_ref: str) -> None:
        self.suite, self.suite_ref = suite, suite_ref
        self.tab: Tab[MethodSettings] = Tab("methods", suite, self._start, _progress, idle=IDLE)

    def _start(self, settings: MethodSettings) -> Any:
        return start(get_method(settings.method), self.suite, settings.targets, settings.options)

    def settings(self, name: str, diff: str, conditions: list[str], question: str, values: Mapping[str, Any]) -> Any:
        """Return what the controls say, `values` by the method's options; DitError for a wrong one."""
        method, asked = get_method(name), (question or "").strip()  # Gradio has None for a field never shown
        shown = [option for option in describe_options(method.options) if option.name in values]
        said = {option.name: lines(option, values[option.name]) for option in shown}
        options = options_from(method, {one.name: said[one.name] for one in shown if one.given(said[one.name])})
        written = [str(Condition.parse(text)) for text in conditions or ()] if method.asked else []
        if method.asked and asked and not written:
            written = ["diff" if diff else "base"]
        targets = Targets((diff,) if diff else (), tuple((text, asked or None) for text in written))
        return MethodSettings(name, targets, options)

    def run(self, visit: Visit, settings: MethodSettings) -> Iterator[tuple[str, str, str]]:
        """Run settings; give the note, the figure and the table of each frame."""
        for frame in self.tab.run(visit, settings, frame=0.3):
            yield self.shown(visit, frame)

    def shown(self, visit: Visit, frame: Frame[MethodSettings]) -> tuple[str, str, str]:
        """Return the note, the figure and the table of a frame."""
        note = note_html(frame.note, frame.kind)
        if frame.result is None or frame.result.table is None:
            return note, sentence_figure(WAITING), ""
        method, table = get_method(frame.result.settings.method), frame.result.table
        text = method.text_rows(table, self._revealed(visit, frame.result.settings))
        return note, _figure(method, table), rows_html(text.title, text.columns, text.rows)

    def _revealed(self, visit: Visit, settings: MethodSettings) -> bool:
        return bool(visit.revealed) and (visit.revealed,) == settings.targets.diffs

    def saved(self, visit: Visit, what: str, form: str) -> tuple[str, str]:
        """Return file name and content of the table; ("", "") where there is none."""
        settings = self.tab.settings(visit)
        return self.tab.file(visit, form, settings is not None and self._revealed(visit, settings))

    def cell(self, visit: Visit) -> str:
        """Return the lines that run the same in a notebook; "" before anything ran."""
        settings = self.tab.settings(visit)
        if settings is None:
            return ""
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


def lines(option: Option, value: Any) -> Any:
    """Return a control's value as a method takes it: several texts stand on lines of their own."""
    if option.several and option.type is str and isinstance(value, str):
        return [line.strip() for line in value.splitlines() if line.strip()]
    return value


def _figure(method: Method[Any, Any], table: Table[Any]) -> str:
    if not method.figure:
        return sentence_figure(NO_FIGURE)
    return figures.shown(partial(getattr(plots, method.figure), table))


def _progress(settings: MethodSettings, table: Table[Any]) -> tuple[float, float]:
    return get_method(settings.method).progress(table)
