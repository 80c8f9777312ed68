"""The tab Bring your own: a visitor's diff is checked, reported, and joins the lists of diffs for their visit alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import gradio as gr

from dit_core.errors import DitError
from dit_core.hub import format_bytes
from dit_core.present import plots
from dit_core.present.cards import note_html
from dit_core.present.html import render
from dit_core.records import ModuleChange, Table
from dit_core.session.choices import diff_choices
from dit_core.session.tab import error_sentence, file_content, integer
from dit_core.session.visit import Visit
from dit_core.suite import Suite
from dit_core.suite.limits import current_limits
from dit_core.suite.user_diffs import AddedDiff, bring_files, bring_source
from dit_core.ui import pieces
from dit_core.ui.pieces import LATEST, QUICK, SLOW, saving
from dit_core.ui.server.public import Uploads
from dit_core.ui.tabs import Shown, Values, Wiring

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
NAME, UPLOADS = "bring", "uploads"
MOST = 8  # diffs of one visitor: each stays in memory
IDLE = "Bring a finetune of this suite's base: choose its files or give a hub id, then press Check and add."
WAITING = "What your diff touches shows here once it is checked."


def bring_tab(suite: Suite, visit: gr.State, pickers: list[gr.Dropdown]) -> None:
    """Draw the tab and connect it; `pickers` are the other tabs' lists of diffs, which get the new one too."""
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


def empty(most_bytes: int) -> str:
    """Return what the tab shows before there is a diff; files of up to `most_bytes` are taken."""
    return (
        '<p class="dit-small">Nothing is kept: what you bring is checked here, asked in this visit only, and gone with '
        f"it; its files are deleted once they are read. {format_bytes(most_bytes)} at most. Pickles run no code, links "
        "and paths lead nowhere.</p>"
    )


def facts_html(arrival: AddedDiff) -> str:
    """Return the facts of a diff as HTML."""
    changes, info = arrival.changes, arrival.info
    ranks = sorted({change.rank for change in changes if change.rank is not None})
    size = f"rank {', '.join(map(str, ranks))}" if info.rank else "whole weights"
    facts = [("layout", arrival.layout + (f", one of {arrival.count}" if arrival.count > 1 else "")), ("size", size)]
    facts += [("parameters", f"{sum(change.parameters for change in changes):,}")]
    facts += [("its files name the base", arrival.base)] if arrival.base else []
    facts += [("asked as", info.task)]
    return render("ui/facts.html", facts=facts)


def change_figure(changes: Table[ModuleChange] | None) -> str:
    """Return the figure of what a diff touches; a sentence before there is one."""
    return pieces.figure_value(partial(plots.changed_modules, changes) if changes else partial(plots.sentence, WAITING))


class BringEvents:
    """The events of one suite's tab; `lists` are the names of the other tabs' lists of diffs."""

    def __init__(self, suite: Suite, lists: Sequence[str]) -> None:
        self.suite, self.lists = suite, lists

    def blank(self) -> Shown:
        """Return what a first visitor sees."""
        return {"note": note_html(IDLE)} | self._empty()

    def bring(self, visit: Visit, values: Values) -> Shown:
        """Check the visitor's files or hub id and add the diff; on an error, say it and leave everything else."""
        files, source = values["files"], values["source"]
        token, uploads = visit.token, self._kept(visit, files)
        try:
            arrivals = self._arrivals(visit)
            if len(arrivals) >= MOST:
                raise DitError(f"You have brought {MOST} diffs already: forget one first.")
            if files and source.strip():
                raise DitError("There are files and a hub id: take one of them away.")
            described = values["title"].strip(), values["task"], integer(values["position"])
            if files:
                arrival = bring_files(self.suite, files, *described)
            else:
                arrival = bring_source(self.suite, source, *described)
        except Exception as error:
            return {"note": note_html(error_sentence(error), "error")}  # the files stay: press again
        uploads.clear()
        if not visit.at_leaving(partial(self.suite.forget, arrival.info.id), token):
            return {}  # they have left while it was checked: nobody is told
        arrivals[arrival.info.id] = arrival
        note = f"It fits. “{arrival.title}” now stands at the top of the lists of diffs in all tabs, for this visit."
        note = " ".join([note, *arrival.changes.extra.get("notes", ())])
        return self._of(arrival, note) | {"files": None} | self._lists(visit, arrival.info.id)

    def uploaded(self, visit: Visit, files: list[str] | None) -> None:
        """Keep the files that the field shows now, and delete all others that it showed."""
        self._kept(visit, files)

    def forget(self, visit: Visit, values: Values) -> Shown:
        """Take a diff out of the lists and out of memory."""
        arrival = self._arrivals(visit).pop(values["own"] or "", None)
        if arrival is None:
            return {"note": note_html("There is nothing to forget: bring a diff first.", "error")}
        self.suite.forget(arrival.info.id)
        note = note_html(f"“{arrival.title}” is forgotten.")
        return {"note": note} | self._empty() | self._lists(visit, None)

    def chosen(self, visit: Visit, values: Values) -> Shown:
        """Show another of the visitor's diffs."""
        arrival = self._arrivals(visit).get(values["own"] or "")
        return {} if arrival is None else self._of(arrival)

    def saved(self, visit: Visit, what: str, form: str) -> tuple[str, str]:
        """Return file name and content of what the newest diff changes; ("", "") where there is none."""
        arrivals = list(self._arrivals(visit).values())
        return (f"{what}.{form}", file_content(arrivals[-1].changes, form)) if arrivals else ("", "")

    def _kept(self, visit: Visit, files: list[str] | None) -> Uploads:
        """The visitor's uploads, now these; they go with them at the latest."""
        job, token = visit.job(UPLOADS), visit.token
        job.result = job.result or Uploads()
        job.result.keep(files or ())
        visit.at_leaving(job.result.clear, token)
        return job.result

    def _arrivals(self, visit: Visit) -> dict[str, AddedDiff]:
        job = visit.job(NAME)
        job.result = job.result if job.result is not None else {}
        return job.result

    def _of(self, arrival: AddedDiff, note: str = "") -> Shown:
        return {"note": note_html(note), "facts": facts_html(arrival), "figure": change_figure(arrival.changes)}

    def _empty(self) -> Shown:
        return {"facts": empty(current_limits().upload_bytes), "figure": change_figure(None)}

    def _lists(self, visit: Visit, shown: str | None) -> Shown:
        """The tab's own list, and those of the other tabs."""
        own = [(arrival.title, id) for id, arrival in self._arrivals(visit).items()]
        listed = gr.update(choices=diff_choices(self.suite, own))
        return {"own": gr.update(choices=own, value=shown)} | dict.fromkeys(self.lists, listed)
