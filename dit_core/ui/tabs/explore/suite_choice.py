"""The list of suites on Explore: another base model with its diffs and adapters is one choice and one button away."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import gradio as gr

from dit_core.methods.comparison import first_info
from dit_core.present.cards import note_html
from dit_core.session.job import TimeLeft
from dit_core.session.tab import error_sentence
from dit_core.session.visit import Visit
from dit_core.suite import Suite
from dit_core.ui.pieces import GO, QUICK, SLOW
from dit_core.ui.server import suite_opener
from dit_core.ui.server.site import CLOSED, Site

NAME, OPENING = "suite", "opening a suite"
LOOKING = "Looking at what it takes…"
CANCELLED = "Cancelled. What was downloaded is kept, and is not downloaded again."
_HIDDEN, _WAIT, _READY = gr.update(visible=False), gr.update(interactive=False), gr.update(interactive=True)
EVERY = 0.2  # seconds between two looks at an opening


class SuiteEvents:
    """The events of the list of suites on the page of the suite `here`.

    Each returns a note, and then the updates of the buttons' row and of Open.
    """

    def __init__(self, site: Site, here: Suite):
        self.site, self.here = site, here

    def pick(self, visit: Visit, name: str) -> Iterator[tuple]:
        """Show what opening a suite takes; fetch nothing but its small files."""
        stop = self._end(visit)
        if name == self.here.name:
            yield "", _HIDDEN, _WAIT
            return
        yield note_html(LOOKING, "busy"), gr.update(visible=True), _WAIT
        summary = self._requirements(name)
        if not stop.is_set():
            yield summary

    def _requirements(self, name: str) -> tuple:
        """Return what opening a suite takes; a sentence after it, or instead of it, where it can't be opened."""
        summary = ""
        try:
            suite = self.site.suite(name)
            if self.site.is_open(name):
                return suite_opener.already_open_html(suite), gr.skip(), _READY
            found = suite.requirements_for(first_info(suite))
            summary = suite_opener.requirements_html(suite, found)
            found.check()
        except Exception as error:
            # What could not be looked at may be tried; what does not fit will not.
            return f"{summary}{note_html(error_sentence(error), 'error')}", gr.skip(), _WAIT if summary else _READY
        return summary, gr.skip(), _READY

    def open(self, visit: Visit, name: str) -> Iterator[tuple]:
        """Open the suite that was picked; yield its page's address at the end, or why it could not be opened."""
        job, picked = visit.job(OPENING), visit.job(NAME).stop
        stop = job.begin()
        if not self.site.is_open(name):
            with self.site.opening(name) as opening:
                job.result = stop
                opening.begin()
                clock = TimeLeft(patience=2.0)
                while True:
                    left = clock.words(opening.done, opening.total) if opening.total else ""  # what is no download
                    yield suite_opener.opening_html(opening, left), gr.skip(), _WAIT, ""
                    if opening.over.wait(EVERY) or stop.is_set():
                        break
            if stop.is_set():
                if visit.job(NAME).stop is picked:  # neither cancelled nor left for another choice, but cut off
                    yield note_html(CANCELLED), gr.skip(), _READY, ""
                return
            if opening.error:
                yield note_html(error_sentence(opening.error), "error"), gr.skip(), _READY, ""
                return
        yield note_html("Going there…", "busy"), gr.skip(), _WAIT, self.site.path(name, self.here.name)

    def cancel(self, visit: Visit) -> tuple:
        """Return to the page's own suite; an opening that nobody else waits for ends."""
        job = visit.job(OPENING)
        running = job.result is job.stop and not job.stop.is_set()
        self._end(visit)
        return note_html(CANCELLED) if running else "", _HIDDEN, _WAIT, self.here.name

    def _end(self, visit: Visit) -> threading.Event:
        """End what runs here for a visitor; gives the stop signal of what starts now."""
        visit.job(OPENING).stop.set()
        return visit.job(NAME).begin()


HINTS = {
    "dit-suite": "A base model with its diffs and DIT adapters. Picking another one says what it takes.",
    "dit-suite-open": "Downloads what is not here yet, loads the base, and takes you to its page.",
    "dit-suite-cancel": "Stays with this suite. A download that is running ends; what came of it is kept.",
}


def suite_picker(suite: Suite, site: Site | None, visit: gr.State) -> None:
    """Draw the list and connect it; without a `site` it has the page's own suite alone."""
    offers = [(offer.label, offer.name) for offer in site.offers] if site else [(suite.title, suite.name)]
    chosen = gr.Dropdown(offers, value=suite.name, label="Base model / suite", elem_id="dit-suite", filterable=True)
    if site is None:
        return
    if not site.limits.suites:
        gr.HTML(f'<p class="dit-small">{CLOSED.format(name="NAME")}</p>', apply_default_css=False)
    summary = gr.HTML("", elem_id="dit-suite-told", apply_default_css=False)
    go = gr.Textbox(visible=False)
    with gr.Row(visible=False, elem_classes="dit-tight", elem_id="dit-suite-row") as row:
        open = gr.Button("Open", variant="primary", size="sm", min_width=80, elem_id="dit-suite-open")
        cancel = gr.Button("Cancel", size="sm", min_width=80, elem_id="dit-suite-cancel")
    events = SuiteEvents(site, suite)
    shown = [summary, row, open]
    chosen.input(events.pick, [visit, chosen], shown, **SLOW)
    open.click(events.open, [visit, chosen], [*shown, go], **SLOW).then(None, go, None, js=GO, **QUICK)
    cancel.click(events.cancel, visit, [*shown, chosen], **QUICK)
