"""The panel under the cards: its result as figures, tokens to click, and readings in full."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from dit_core.errors import DitError
from dit_core.methods.comparison import Column
from dit_core.present import plots
from dit_core.present.html import render
from dit_core.records import NextToken, Reading, Table, Target
from dit_core.request.conditions import Span
from dit_core.session.choices import measure
from dit_core.session.oracle import PanelResult, column_of, evidence_of_layer
from dit_core.session.readings import readings_html, shown_target, visible
from dit_core.ui import pieces
from dit_core.ui.pieces import sentence_figure

NEXT_MEASURES = ("rank", "probability")
HEIGHT, NEXT_HEIGHT = 500, 460  # pixels, as `plots` draws them
WAITS = "After the cards, the oracle reads every condition, layer by layer."
NEXT_WAITS = "After the cards: the next token, layer by layer."


def by_layer(panel: PanelResult | None, open_now: bool) -> str:
    """Return the readings so far as a figure's value, a line per condition; or a sentence."""
    if panel is None or not panel.readings:
        return sentence_figure(WAITS if panel is None or panel.state.busy else "Nothing was read.")
    readings, lead = visible(panel.readings, open_now), column_of(panel.columns, panel.display.of)
    return pieces.figure_value(
        partial(plots.by_layer, readings, y=measure(panel.display.y, open_now), selected=lead.condition)
    )


def next_token(panel: PanelResult | None, open_now: bool) -> str:
    """Return the figure of how high the next token stands at each layer: the reference's once revealed."""
    table = shown_tokens(panel, open_now)
    if panel is None or not table:
        return sentence_figure(NEXT_WAITS)
    y, lead = panel.display.next_y or "rank", column_of(panel.columns or panel.cards.columns, panel.display.of)
    return pieces.figure_value(partial(plots.next_token_by_layer, table, y=y, selected=lead.condition))


def shown_tokens(panel: PanelResult | None, open_now: bool) -> Table[NextToken] | None:
    """Return the logit lens as it may be shown: of the answers' tokens, or of the reference's once revealed."""
    if panel is None or panel.next_tokens is None:
        return None
    what = "reference" if open_now else "answer"
    return replace(panel.next_tokens, records=tuple(token for token in panel.next_tokens if token.what == what))


def token_buttons(panel: PanelResult | None, span: str, open_now: bool) -> str:
    """Return the tokens of one prompt as buttons, those that are read marked; a trigger's digits stay masked."""
    column = column_of(panel.cards.columns, panel.display.of) if panel else None
    target = panel.target(column) if panel and column else None
    if panel is None or column is None or target is None:
        return render("ui/tabs/explore/tokens.html", column=None)
    target, first = shown_target(target, open_now), panel.display.first
    return render(
        "ui/tabs/explore/tokens.html",
        column=column,
        tokens=target.tokens[: target.prompt_tokens],
        marked=_marked(span, target) if first is None else {first},
        one_clicked=first is not None,
    )


def _marked(span: str, target: Target) -> set[int]:
    try:
        return {at for own in Span(span).positions(target.prompt_tokens) for at in own}
    except DitError:  # of the answer, or outside: reading it says so
        return set()


def details(panel: PanelResult | None, open_now: bool) -> str:
    """Return all readings of the layer that was clicked, folded; or what there is to click."""
    readings = [reading for reading in panel.readings or () if reading.layer == panel.display.layer] if panel else []
    if panel is None or not readings:
        return render("ui/tabs/explore/details.html", sections=())
    sections = [
        (column, _readings(panel, column, readings, open_now), evidence_of_layer(panel, column))
        for column in panel.columns
    ]
    return render("ui/tabs/explore/details.html", layer=panel.display.layer, sections=sections)


def _readings(panel: PanelResult, column: Column, readings: list[Reading], open_now: bool) -> str:
    target = panel.target(column)
    return readings_html(column.of(readings), target and shown_target(target, open_now), open_now)


def span_choices(span: str) -> list[tuple[str, str]]:
    """Return the spans to choose from, with the chosen one where it is another."""
    known = {"last:10": "its last 10 tokens", "prompt": "the whole prompt", "answer": "what it answers"}
    if span not in known:
        start, _, stop = span.partition(":")
        words = f"tokens {start} to {int(stop) - 1}" if start.isdigit() and stop.isdigit() else span
        known[span] = f"token {span}" if span.isdigit() else words
    return [(words, written) for written, words in known.items()]
