"""Pieces of the page that tabs share: how events run, figures that follow the theme, buttons that save a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypedDict

import gradio as gr
import plotly
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from dit_core.present import plots
from dit_core.present.cards import note_html
from dit_core.present.html import render
from dit_core.present.plots import as_json

TURN = "(...values) => [...values.slice(0, -1), window.dit.turn()]"
ADDRESS = "(query) => window.dit.address(query)"
SAVE = "(name, text) => window.dit.save(name, text)"
COPY = "(text) => window.dit.copy(text)"
SEARCH = "() => [null, window.location.search]"
GO = "(path) => window.dit.go(path)"
LINK = "() => window.dit.copy(window.location.href)"

Control = gr.Checkbox | gr.CheckboxGroup | gr.Dropdown | gr.File | gr.Number | gr.Radio | gr.Slider | gr.Textbox
"""What a visitor sets a value with."""


class EventOptions(TypedDict, total=False):
    """The keyword arguments of Gradio's event listeners that say how an event runs."""

    show_progress: Literal["full", "minimal", "hidden"]
    api_visibility: Literal["public", "private", "undocumented"]
    queue: bool
    trigger_mode: Literal["once", "multiple", "always_last"] | None
    concurrency_limit: int | Literal["default"] | None


# How an event runs: one that answers at once (or, where a visitor is quicker than the answers, the last of them), one
# that streams what a model finds, and one that a visitor may start again while it runs.
_INNER: EventOptions = {"show_progress": "hidden", "api_visibility": "private"}
QUICK: EventOptions = {**_INNER, "queue": False}
LATEST: EventOptions = {**QUICK, "trigger_mode": "always_last"}
RUN: EventOptions = {**_INNER, "concurrency_limit": None}
SLOW: EventOptions = {**RUN, "trigger_mode": "multiple"}
EMPTY = 260  # pixels of a figure that has nothing to show yet


def sentence_figure(text: str) -> str:
    """Return the value of a figure that is only a sentence."""
    return figure_value(partial(plots.sentence, text, height=EMPTY))


def progress_html(text: str, kind: str, done: float | str, total: float, *, idle: bool = False, label: str = "") -> str:
    """Return a note with a bar under it: `done` of `total`; where it is `idle`, the bar only keeps its place."""
    note = note_html(text, kind)
    return render("ui/progress.html", note=note, done=done, total=total, idle=idle, label=label)


def saving(saved: Callable[..., tuple[str, str]], visit: gr.State, what: str, words: str, name: str = "") -> None:
    """Draw buttons that save a table; `saved(visit, what=, form=)` returns file name and content.

    `name` stands in their ids, in place of `what`.
    """
    filename, text = gr.Textbox(visible=False), gr.Textbox(visible=False)
    with gr.Row(elem_classes="dit-saving"):
        gr.HTML(f'<p class="dit-small">Save {words} as</p>', apply_default_css=False)
        for form in ("csv", "json"):
            button = gr.Button(form.upper(), size="sm", min_width=60, elem_id=f"dit-save-{name or what}-{form}")
            given = button.click(partial(saved, what=what, form=form), visit, [filename, text], **QUICK)
            given.then(None, [filename, text], None, js=SAVE, **QUICK)


def copying(cell: Callable[..., str], inputs: Sequence[gr.components.Component], elem_id: str) -> None:
    """Draw a button that copies the Python that gives the same; `cell` makes it of `inputs`."""
    code = gr.Textbox(visible=False)
    button = gr.Button("Copy as notebook cell", size="sm", elem_id=elem_id)
    button.click(cell, inputs, code, **QUICK).then(None, code, None, js=COPY, **QUICK)


PLACE = "plotly"  # below the page's address; page.js fetches `plotly/plotly.min.js`


def figure(value: str = "", height: int = 360, **options: Any) -> gr.HTML:
    """Draw a place of `height` pixels for what `figure_value` gives; `options` go to `gr.HTML`."""
    return gr.HTML(
        value,
        html_template=f'<div class="dit-figure" style="height:{height}px"></div>',
        js_on_load="window.dit.figure(element, props, watch, (point) => trigger('select', point))",
        apply_default_css=False,
        **options,
    )


def figure_value(draw: Callable[..., Any]) -> str:
    """Return `draw(dark=False)` and `draw(dark=True)` as the value of a `figure`, which shows the one that fits."""
    return f'{{"light": {as_json(draw(dark=False))}, "dark": {as_json(draw(dark=True))}}}'


def plotly_files() -> Mount:
    """Return the route that serves plotly's package file."""
    return Mount(f"/{PLACE}", StaticFiles(directory=Path(plotly.__file__).parent / "package_data"), name=PLACE)
