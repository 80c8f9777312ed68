"""The Scoreboard tab's audit report: all that every method says of one diff, as a file to take away."""

from __future__ import annotations

from collections.abc import Iterator

import gradio as gr

from dit_core.audit import Audit, audit_steps, report_html
from dit_core.methods.comparison import first_info
from dit_core.present.cards import note_html
from dit_core.session.choices import PICKER, diff_choices
from dit_core.session.job import QueuePosition, follow
from dit_core.session.messages import error_sentence
from dit_core.session.notebook_cells import diff_expression, opening_lines
from dit_core.session.visit import Visit
from dit_core.suite import Suite
from dit_core.ui.parts.pieces import QUICK, SLOW, copying

NAME = "audit"
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
        copying(events.cell, [visit, diff], "dit-audit-cell")
        note = gr.HTML(note_html(""), elem_id="dit-audit-note", apply_default_css=False)
        name, text = gr.Textbox(visible=False), gr.Textbox(visible=False)
    made = make.click(events.make, [visit, diff], [note, name, text], **SLOW)
    made.then(None, [name, text], None, js=KEEP, **QUICK)
    stop.click(events.stop, visit, None, **QUICK)


class AuditEvents:
    """The events of one suite's audit reports; `suite_ref` is how `load_suite` finds the suite."""

    def __init__(self, suite: Suite, suite_ref: str):
        self.suite, self.suite_ref = suite, suite_ref

    def make(self, visit: Visit, diff: str) -> Iterator[tuple[str, str, str]]:
        """Ask every method; yield the note, and at the end the report's file name and content, "" before."""
        job = visit.job(NAME)
        stop = job.begin()
        try:
            for step in follow(audit_steps(self.suite, diff), stop, worker=self.suite.worker):
                if isinstance(step, Audit):
                    report = report_html(step, reveal=visit.revealed == step.info.id)
                    yield note_html("Done: the report is among your downloads."), f"{step.info.id}-audit.html", report
                elif isinstance(step, QueuePosition):
                    yield note_html(str(step), "busy"), "", ""
                else:
                    done, total, what = step
                    yield note_html(f"Part {done + 1} of {total}: {what}…", "busy"), "", ""
            if job.stop is stop and stop.is_set():
                yield note_html("Stopped: no report was made."), "", ""
        except Exception as error:
            if job.stop is stop:
                yield note_html(error_sentence(error), "error"), "", ""

    def stop(self, visit: Visit) -> None:
        """End the asking at once."""
        visit.job(NAME).stop.set()

    def cell(self, visit: Visit, diff: str) -> str:
        """Return the lines that write the same report from a notebook."""
        imports = "from dit_core import load_suite", "from dit_core.audit import audit_diff, report_html"
        name = diff_expression(self.suite, diff)
        lines = [
            *opening_lines(self.suite, self.suite_ref, diff, "from pathlib import Path", "", *imports),
            f"report = report_html(audit_diff(suite, {name}), reveal={visit.revealed == diff})",
            f'Path({diff + "-audit.html"!r}).write_text(report, encoding="utf-8")\n',
        ]
        return "\n".join(lines)
