"""What the panel under the cards shows: what was read, turned into figures, tokens to click, and readings in full."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from html import escape
from typing import Protocol

from dit_core.errors import DitError
from dit_core.methods.comparison import Column
from dit_core.present import plots
from dit_core.present.cards import RUNNING, note_html
from dit_core.records import NextToken, Reading, Table, Target
from dit_core.request.prompts import Span
from dit_core.session import reading_evidence
from dit_core.session.choices import measure
from dit_core.session.oracle import PanelResult, column_of
from dit_core.session.readings import readings_html, shown_target, visible
from dit_core.ui.parts import figures
from dit_core.ui.parts.pieces import sentence_figure

NEXT_MEASURES = ("rank", "probability")
HEIGHT, NEXT_HEIGHT = 500, 460  # pixels, as `plots` draws them
WAITS = "After the cards, the oracle reads every condition, layer by layer."
NEXT_WAITS = "After the cards: the next token, layer by layer."
NO_ORACLE = (
    "This suite has no activation oracle, so nothing is read in words. What each layer would say next needs none."
)
CLICK = "Click a point above for all that the oracle read at that layer."


def by_layer(panel: PanelResult | None, open_now: bool) -> str:
    """The readings so far, a line per condition, as the value of a figure; or a sentence."""
    if panel is None or not panel.readings:
        return sentence_figure(WAITS if panel is None or panel.state == RUNNING else "Nothing was read.")
    readings, lead = visible(panel.readings, open_now), column_of(panel.columns, panel.display.of)
    return figures.shown(
        partial(plots.by_layer, readings, y=measure(panel.display.y, open_now), selected=lead.condition)
    )


def next_token(panel: PanelResult | None, open_now: bool) -> str:
    """How high the next token stands at each layer, a line per condition: the reference's once revealed."""
    table = shown_tokens(panel, open_now)
    if panel is None or not table:
        return sentence_figure(NEXT_WAITS)
    y, lead = panel.display.next_y or "rank", column_of(panel.columns or panel.cards.columns, panel.display.of)
    return figures.shown(partial(plots.next_token_by_layer, table, y=y, selected=lead.condition))


def shown_tokens(panel: PanelResult | None, open_now: bool) -> Table[NextToken] | None:
    """The logit lens as it may be shown: of the answers' tokens, and of the reference's once revealed."""
    if panel is None or panel.next_tokens is None:
        return None
    what = "reference" if open_now else "answer"
    return replace(panel.next_tokens, records=tuple(token for token in panel.next_tokens if token.what == what))


def chips(panel: PanelResult | None, span: str, open_now: bool) -> str:
    """The tokens of one prompt as buttons, those that are read marked; a trigger's digits are masked until revealed."""
    column = column_of(panel.cards.columns, panel.display.of) if panel else None
    target = panel.target(column) if panel and column else None
    if panel is None or column is None or target is None:
        return '<p class="dit-small">The prompt\'s tokens come with the cards.</p>'
    target, first = shown_target(target, open_now), panel.display.first
    marked = _marked(span, target) if first is None else {first}
    pieces = "".join(_chip(at, token, at in marked) for at, token in enumerate(target.tokens[: target.prompt_tokens]))
    hint = "Click the first and the last token to read." if first is None else "Now click the last one."
    return (
        f'<p class="dit-small">The prompt of <b>{escape(column.title)}</b>. {hint}</p>'
        f'<div class="dit-pieces dit-kind-{column.kind}" role="group" aria-label="tokens">{pieces}</div>'
    )


def _chip(at: int, token: str, marked: bool) -> str:
    text = escape(token.replace("\n", "↵")) or "∅"
    return (
        f'<button type="button" class="dit-piece" data-at="{at}" aria-pressed="{str(marked).lower()}" '
        f'title="token {at}">{text}</button>'
    )


def _marked(span: str, target: Target) -> set[int]:
    try:
        return {at for own in Span(span).positions(target.prompt_tokens) for at in own}
    except DitError:  # of the answer, or outside: reading it says so
        return set()


def details(panel: PanelResult | None, open_now: bool) -> str:
    """All readings of the layer that was clicked, folded; or what there is to click."""
    readings = [reading for reading in panel.readings or () if reading.layer == panel.display.layer] if panel else []
    if panel is None or not readings:
        return f'<p class="dit-small">{CLICK}</p>'
    inside = "".join(_column(panel, column, readings, open_now) for column in panel.columns)
    return (
        f'<details class="dit-fold" open><summary>layer {panel.display.layer}: all readings</summary>{inside}</details>'
    )


def _column(panel: PanelResult, column: Column, readings: list, open_now: bool) -> str:
    target = panel.target(column)
    inside = readings_html(column.of(readings), target and shown_target(target, open_now), open_now)
    trust = reading_evidence.evidence_of_layer(panel, column)
    return f'<section class="dit-kind-{column.kind}"><h4>{escape(column.title)}</h4>{inside}{trust}</section>'


class HasReadings(Protocol):
    """What a reading has found so far, on any tab."""

    @property
    def readings(self) -> Table[Reading] | None: ...


def note(words: str, kind: str = "note", panel: HasReadings | None = None) -> str:
    """A sentence, and a bar under it that shows how far the reading of `found` is; its place is always kept."""
    done, total = 0, 1
    if panel and panel.readings:
        done, total = len(panel.readings), panel.readings.extra["n_readings"]
    idle = "" if panel else " dit-idle"
    return f'{note_html(words, kind)}<progress class="dit-progress{idle}" max="{total}" value="{done}"></progress>'


def span_choices(span: str) -> list[tuple[str, str]]:
    """The spans to choose from, and the one that is chosen where it is another."""
    known = {"last:10": "its last 10 tokens", "prompt": "the whole prompt", "answer": "what it answers"}
    if span not in known:
        start, _, stop = span.partition(":")
        words = f"tokens {start} to {int(stop) - 1}" if start.isdigit() and stop.isdigit() else span
        known[span] = f"token {span}" if span.isdigit() else words
    return [(words, written) for written, words in known.items()]
