"""The Scoreboard tab's audit report: all that every method says of one diff, as a file to take away."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from dit_core.auditing import Audit, audit_progress, audit_steps, report_html
from dit_core.methods.comparison import first_info
from dit_core.session.choices import PICKER, diff_choices
from dit_core.session.job import Result, State, TimeLeft
from dit_core.session.tab import Frame, Tab
from dit_core.session.visit import Visit
from dit_core.suite import Suite
from dit_core.suite.snippets import diff_expression, opening_lines
from dit_core.ui.pieces import QUICK, SLOW, copying
from dit_core.ui.tabs import Shown, TabEvents, Values, Wiring

KEEP = "(name, text) => name && window.dit.save(name, text)"
ABOUT = (
    '<p class="dit-small">One file that needs nothing beside it. It tells what the diff was trained on only where you '
    "have revealed that.</p>"
)


def audit_section(suite: Suite, suite_ref: str, visit: gr.State) -> None:
    """Draw the choice of a diff and the buttons; `suite_ref` is how `load_suite` finds the suite."""
    events = AuditEvents(suite, suite_ref)
    with gr.Accordion("Audit report of one diff", open=False, elem_id="dit-audit"):
        gr.HTML(ABOUT, apply_default_css=False)
        first = first_info(suite).id
        diff = gr.Dropdown(diff_choices(suite), value=first, label=PICKER, elem_id="dit-audit-diff")
        with gr.Row(elem_classes="dit-tight"):
            make = gr.Button("Make", variant="primary", min_width=80, elem_id="dit-audit-make")
            stop = gr.Button("Stop", variant="stop", min_width=80, elem_id="dit-audit-stop")
        copying(events.tab.cell, [visit, diff], "dit-audit-cell")
        note = gr.HTML(events.blank_note(), elem_id="dit-audit-note", apply_default_css=False)
        name, text = gr.Textbox(visible=False), gr.Textbox(visible=False)
    wiring = Wiring(visit, {"diff": diff, "note": note}, {"name": name, "text": text})
    made = make.click(**wiring.event(events.run), **SLOW)
    made.then(None, [name, text], None, js=KEEP, **QUICK)
    stop.click(events.stop, visit, None, **QUICK)


@dataclass(frozen=True)
class AuditSettings:
    """Which diff is audited."""

    diff: str


@dataclass(frozen=True)
class AuditResult(Result[AuditSettings]):
    """The audit as far as it is."""

    audit: Audit | None = None


class AuditTab(Tab[AuditSettings, AuditResult]):
    """Asks every method about one diff."""

    name, button, settings_type, result_type = "audit", "Make", AuditSettings, AuditResult

    def start(self, first: AuditResult) -> Generator[Any, None, None]:
        """Return the audit part by part."""
        return audit_steps(self.suite, first.settings.diff)

    def add(self, result: AuditResult, found: Any) -> AuditResult:
        """Return the result with the audit as far as it is now."""
        return replace(result, audit=found)

    def progress(self, result: AuditResult) -> tuple[float, float]:
        """Return how much of the time is over, of how much."""
        return audit_progress(result.audit)[:2] if result.audit else (0, 0)

    def words(self, result: AuditResult, clock: TimeLeft) -> str:
        """Return what is going on, and how long it may still take."""
        if result.audit is None or not result.audit.left:
            return self.working
        done, total, part = audit_progress(result.audit)
        return f"Now {part}{clock.words(done, total) or '…'}"

    def ending(self, result: AuditResult) -> str:
        """Return where the report is, if there is one."""
        if result.audit is None or result.audit.changes is None:
            return "Stopped: no report was made."
        if result.audit.left:
            return "Stopped: the report among your downloads has what was found so far."
        return "Done: the report is among your downloads."

    def cell(self, visit: Visit, diff: str) -> str:
        """Return the lines that write the same report from a notebook."""
        imports = "from dit_core import load_suite", "from dit_core.auditing import audit_diff, report_html"
        name = diff_expression(self.suite, diff)
        lines = [
            *opening_lines(self.suite, self.suite_ref, diff, "from pathlib import Path", "", *imports),
            f"report = report_html(audit_diff(suite, {name}), reveal={visit.revealed == diff})",
            f'Path({diff + "-audit.html"!r}).write_text(report, encoding="utf-8")\n',
        ]
        return "\n".join(lines)


class AuditEvents(TabEvents[AuditSettings, AuditResult]):
    """The events of one suite's audit reports; `suite_ref` is how `load_suite` finds the suite."""

    tab: AuditTab

    def __init__(self, suite: Suite, suite_ref: str) -> None:
        super().__init__(AuditTab(suite, suite_ref))

    def show(self, visit: Visit, values: Values, frame: Frame[AuditResult]) -> Shown:
        """Return the report's file name and content once it is there, "" before."""
        audit = frame.result.audit if frame.result and frame.state in (State.DONE, State.STOPPED) else None
        if audit is None or audit.changes is None:
            return {"name": "", "text": ""}
        report = report_html(audit, reveal=visit.revealed == audit.info.id)
        return {"name": f"{audit.info.id}-audit.html", "text": report}
