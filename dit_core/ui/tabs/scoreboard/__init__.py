"""The Scoreboard tab: how often each method is right, whether methods fail together, and one diff's audit report."""

from __future__ import annotations

from collections.abc import Iterator

import gradio as gr
from markupsafe import Markup

from dit_core.scoreboard import KINDS, measured_methods
from dit_core.session.scoreboard import ALL, CHAT_JUDGE, GRADERS, RULES, GradeTab, Run, RunSettings, ScoreboardTab
from dit_core.session.tab import Frame
from dit_core.session.visit import Visit
from dit_core.suite import Suite
from dit_core.suite.limits import current_limits
from dit_core.ui import pieces
from dit_core.ui.pieces import LATEST, QUICK, SLOW, Control, copying, saving
from dit_core.ui.tabs import Shown, TabEvents, Values, Wiring
from dit_core.ui.tabs.scoreboard import view
from dit_core.ui.tabs.scoreboard.audit import audit_section
from dit_core.ui.tabs.scoreboard.view import BY, trust_section

HINTS = {
    "dit-scoreboard-split": "Test diffs were seen by nothing. Adapters were trained on the train diffs, and layers are "
    "chosen on the calibration diffs.",
    "dit-scoreboard-limit": "How many diffs of each task are measured.",
    "dit-scoreboard-kinds": "What is measured: answers, an oracle's readings, or words in what a diff changes.",
    "dit-scoreboard-run": "Measures here and now; a run that was stopped goes on where it was.",
    "dit-scoreboard-stop": "Ends the run; what was measured stays.",
    "dit-scoreboard-grader": "Who grades the answers that were measured, from 1 to 5. Only the rules need nothing.",
    "dit-scoreboard-model": "The chat model's name at the endpoint; its key is read from OPENAI_API_KEY.",
    "dit-scoreboard-url": "An OpenAI-compatible endpoint; empty: OpenAI's own.",
    "dit-scoreboard-grade": "Grades the answers that Run has measured anew; nothing is asked again.",
    "dit-scoreboard-task": "Which kind of diff the figures are about.",
    "dit-scoreboard-by": "What grows along the axis.",
    "dit-audit-diff": "A weight diff: what one finetune changed. Named by id until revealed.",
    "dit-audit-make": "Asks every method about this diff, and writes what they say into one file.",
}
WORDS = {"verbal": "what diffs say", "oracle": "oracle", "lens": "activation difference lens"}
ABOUT = (
    '<p class="dit-small">Every method is asked about held-out diffs, and its answers are graded '
    "from 1 (unrelated) to 5 (the same thing). The figures beside are stored with the suite; Run measures them anew."
    "</p>"
)


class ScoreboardEvents(TabEvents[RunSettings, Run]):
    """The events of one suite's Scoreboard tab; `suite_ref` is how `load_suite` finds the suite."""

    tab: ScoreboardTab

    def __init__(self, suite: Suite, suite_ref: str) -> None:
        super().__init__(ScoreboardTab(suite, suite_ref))
        self.grading = GradeTab(suite, suite_ref)

    def show(self, visit: Visit, values: Values, frame: Frame[Run]) -> Shown:
        """Return the figures' origin, the table, the figures, and what a vote gains."""
        board, task = self.tab.board(visit), values["task"]
        return {
            "origin": Markup('<p class="dit-small">{}</p>').format(view.origin(board)),
            "table": view.table(self.suite, board),
            "grades": view.grades(board, task),
            "scaling": view.scaling(self.suite, board, values["axis"]),
            "votes": view.votes(board, task),
            "named": view.named(board, task, visit.revealed),
            "correlations": view.correlations(board, task),
        }

    def grade(self, visit: Visit, values: Values) -> Iterator[Shown]:
        """Grade the measured answers anew, by the grader of the left side, and show every frame."""
        yield from self.frames(self.grading, visit, values)


def scoreboard_tab(tab: gr.Tab, suite: Suite, suite_ref: str, visit: gr.State) -> None:
    """Draw the tab and connect it; `suite_ref` is how `load_suite` finds the suite."""
    events, tasks = ScoreboardEvents(suite, suite_ref), list(suite.tasks)
    start = events.show(Visit(), {"task": tasks[0], "axis": next(iter(BY))}, events.tab.frame(Visit()))
    with gr.Row(elem_classes="dit-page", elem_id="dit-scoreboard"):
        with gr.Column(scale=0, min_width=300, elem_classes="dit-side"):
            controls, run, stop = _controls(suite)
            grading, grade = _grading(suite)
            audit_section(suite, suite_ref, visit)
        with gr.Column(scale=1, min_width=300, elem_classes="dit-main"):
            note = gr.HTML(events.blank_note(), elem_id="dit-scoreboard-note", apply_default_css=False)
            origin = gr.HTML(start["origin"], elem_id="dit-scoreboard-origin", apply_default_css=False)
            table = gr.HTML(start["table"], elem_id="dit-scoreboard-table", apply_default_css=False)
            saving(events.saved, visit, "scores", "the scoreboard")
            with gr.Row(elem_classes="dit-choices"):
                task = gr.Radio(tasks, value=tasks[0], label="figures about", elem_id="dit-scoreboard-task")
                axis = gr.Radio(list(BY), value=next(iter(BY)), label="scaling by", elem_id="dit-scoreboard-by")
            grades = pieces.figure(start["grades"], elem_id="dit-scoreboard-grades")
            scaling = pieces.figure(start["scaling"], elem_id="dit-scoreboard-scaling")
            gr.HTML('<h2 class="dit-heading">Do the methods fail together?</h2>', apply_default_css=False)
            votes = gr.HTML(start["votes"], elem_id="dit-scoreboard-votes", apply_default_css=False)
            named = pieces.figure(start["named"], elem_id="dit-scoreboard-named")
            correlations = pieces.figure(start["correlations"], elem_id="dit-scoreboard-correlations")
            saving(events.saved, visit, "agreement", "the agreement")
            with gr.Row(elem_classes="dit-saving"):
                copying(events.tab.cell, [visit, task], "dit-scoreboard-cell")
            trust_section(suite, visit)
    parts = {
        "note": note, "origin": origin, "table": table, "grades": grades, "scaling": scaling, "votes": votes,
        "named": named, "correlations": correlations, "task": task, "axis": axis, **controls, **grading,
    }  # fmt: skip
    wiring = Wiring(visit, parts)
    run.click(**wiring.event(events.run), **SLOW)
    grade.click(**wiring.event(events.grade), **SLOW)
    stop.click(events.stop, visit, None, **QUICK)
    gr.on([task.input, axis.input], **wiring.event(events.shown), **LATEST)
    tab.select(**wiring.event(events.shown), **QUICK)


def _controls(suite: Suite) -> tuple[dict[str, Control], gr.Button, gr.Button]:
    """Draw the left side; return the controls of `RunSettings` by name, the Run and the Stop button."""
    titles = {method.name: method.title for method in measured_methods()}
    splits = sorted({info.split for info in suite.diffs}, key=lambda split: split != "test") or ["test"]
    kinds = [(title, kind) for kind, title in (WORDS | titles).items()]
    gr.HTML(ABOUT, apply_default_css=False)
    split = gr.Radio(splits, value=splits[0], label="diffs", elem_id="dit-scoreboard-split")
    limit = gr.Radio([8, 16, ALL], value=16, label="of each task", elem_id="dit-scoreboard-limit")
    chosen = gr.CheckboxGroup(kinds, value=list(KINDS[:1]), label="methods", elem_id="dit-scoreboard-kinds")
    with gr.Row(elem_classes="dit-tight"):
        run = gr.Button("Run", variant="primary", min_width=80, elem_id="dit-scoreboard-run")
        stop = gr.Button("Stop", variant="stop", min_width=80, elem_id="dit-scoreboard-stop")
    return {"split": split, "limit": limit, "kinds": chosen}, run, stop


def _grading(suite: Suite) -> tuple[dict[str, Control], gr.Button]:
    """Draw the choice of a grader; return the controls of `GraderSettings` by name, and the Grade button."""
    with gr.Accordion("graded by", open=False, elem_id="dit-scoreboard-grading", visible=current_limits().paths):
        by = gr.Radio(list(GRADERS), value=RULES, label="grader", elem_id="dit-scoreboard-grader")
        model = gr.Textbox(label="chat model", max_lines=1, visible=False, elem_id="dit-scoreboard-model")
        url = gr.Textbox(label="endpoint", max_lines=1, visible=False, elem_id="dit-scoreboard-url")
        grade = gr.Button("Grade", min_width=80, elem_id="dit-scoreboard-grade")
    by.change(lambda by: [gr.update(visible=by == CHAT_JUDGE)] * 2, by, [model, url], **QUICK)
    return {"by": by, "model": model, "url": url}, grade
