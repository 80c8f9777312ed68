"""The tab Bring your own: a visitor's diff is checked, reported, and joins the lists of diffs for their visit alone."""

from __future__ import annotations

import gradio as gr

from dit_core.suite import Suite
from dit_core.ui.parts import pieces
from dit_core.ui.parts.pieces import LATEST, QUICK, SLOW, saving
from dit_core.ui.tabs import Wiring
from dit_core.ui.tabs.bring.events import BringEvents

HINTS = {
    "dit-bring-files": "A PEFT LoRA (adapter_config.json and its weights), a .pt in the published layout, a finetuned "
    "checkpoint's .safetensors, or a zip of any of these.",
    "dit-bring-source": "A repository on the hub: owner/name, with @revision or /path behind it where needed.",
    "dit-bring-title": "What the lists call it. Only you see it.",
    "dit-bring-task": "Which questions it is asked, and by which DIT adapter.",
    "dit-bring-position": "Which diff, where the file holds several; the first is 0.",
    "dit-bring-check": "Checks it against the suite's base, tells what it changes, and adds it to your lists of diffs.",
    "dit-bring-own": "The diffs that you have brought on this visit.",
    "dit-bring-forget": "Takes it out of the lists and out of memory.",
}


def bring_tab(suite: Suite, visit: gr.State, pickers: list[gr.Dropdown]) -> None:
    """Draw the tab and connects it; `pickers` are the other tabs' lists of diffs, which get the new one too."""
    lists = {f"list {at}": picker for at, picker in enumerate(pickers)}
    events = BringEvents(suite, list(lists))
    start = events.blank()
    with gr.Row(elem_classes="dit-page", elem_id="dit-bring"):
        with gr.Column(scale=0, min_width=300, elem_classes="dit-side"):
            files = gr.File(
                file_count="multiple", label="files, or a zip of them", height=150, elem_id="dit-bring-files"
            )
            source = gr.Textbox(label="or a hub id", max_lines=1, elem_id="dit-bring-source")
            title = gr.Textbox(label="name", max_lines=1, max_length=60, elem_id="dit-bring-title")
            tasks = list(suite.tasks)
            task = gr.Dropdown(tasks, value=tasks[0], label="ask it as", elem_id="dit-bring-task")
            with gr.Accordion("more", open=False):
                position = gr.Number(0, precision=0, label="number in the file", elem_id="dit-bring-position")
            check = gr.Button("Check and add", variant="primary", elem_id="dit-bring-check")
            own = gr.Dropdown([], label="yours", elem_id="dit-bring-own")
            forget = gr.Button("Forget it", size="sm", elem_id="dit-bring-forget")
        with gr.Column(scale=1, min_width=300, elem_classes="dit-main"):
            note = gr.HTML(start["note"], elem_id="dit-bring-note", apply_default_css=False)
            facts = gr.HTML(start["facts"], elem_id="dit-bring-told", apply_default_css=False)
            figure = pieces.figure(start["figure"], elem_id="dit-bring-figure")
            saving(events.saved, visit, "changes", "what it changes")
    parts = {
        "files": files, "source": source, "title": title, "task": task, "position": position, "own": own, "note": note,
        "facts": facts, "figure": figure,
    }  # fmt: skip
    wiring = Wiring(visit, parts, lists)
    gr.on([files.upload, files.delete, files.clear], events.uploaded, [visit, files], **QUICK)
    check.click(**wiring.event(events.bring), **SLOW)
    forget.click(**wiring.event(events.forget), **QUICK)
    own.input(**wiring.event(events.chosen), **LATEST)
