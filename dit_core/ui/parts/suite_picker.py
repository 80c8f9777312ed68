"""The list of suites on Explore: another base model with its diffs and adapters is one choice and one button away."""

from __future__ import annotations

import gradio as gr

from dit_core.suite import Suite
from dit_core.ui.parts.pieces import QUICK, SLOW
from dit_core.ui.parts.suite_events import SuiteEvents
from dit_core.ui.server.browser import GO
from dit_core.ui.server.site import CLOSED, Site

HINTS = {
    "dit-suite": "A base model with its diffs and DIT adapters. Picking another one says what it takes.",
    "dit-suite-open": "Downloads what is not here yet, loads the base, and takes you to its page.",
    "dit-suite-cancel": "Stays with this suite. A download that is running ends; what came of it is kept.",
}


def suite_picker(suite: Suite, site: Site | None, visit: gr.State) -> None:
    """Draws the list and connects it; without a `site` it has the page's own suite alone."""
    offers = [(offer.label, offer.name) for offer in site.offers] if site else [(suite.title, suite.name)]
    chosen = gr.Dropdown(offers, value=suite.name, label="Base model / suite", elem_id="dit-suite", filterable=True)
    if site is None:
        return
    if not site.limits.suites:
        gr.HTML(f'<p class="dit-small">{CLOSED.format(name="NAME")}</p>', apply_default_css=False)
    told = gr.HTML("", elem_id="dit-suite-told", apply_default_css=False)
    go = gr.Textbox(visible=False)
    with gr.Row(visible=False, elem_classes="dit-tight", elem_id="dit-suite-row") as row:
        open = gr.Button("Open", variant="primary", size="sm", min_width=80, elem_id="dit-suite-open")
        cancel = gr.Button("Cancel", size="sm", min_width=80, elem_id="dit-suite-cancel")
    events = SuiteEvents(site, suite)
    shown = [told, row, open]
    chosen.input(events.pick, [visit, chosen], shown, **SLOW)
    open.click(events.open, [visit, chosen], [*shown, go], **SLOW).then(None, go, None, js=GO, **QUICK)
    cancel.click(events.cancel, visit, [*shown, chosen], **QUICK)
