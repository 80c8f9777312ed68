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
from dit_core.request.targets import Span
from dit_core.session import reading_evidence
from dit_core.session.choices import measure
from dit_core.session.oracle import Found, column_of
from dit_core.session.readings import readings_html, shown_target, visible
from dit_core.ui.parts import figures
from dit_core.ui.parts.pieces import said

NEXT_MEASURES = ("rank", "probability")
HEIGHT, NEXT_HEIGHT = 500, 460  # pixels, as `plots` draws them
WAITS = "After the cards, the oracle reads every condition, layer by layer."
NEXT_WAITS = "After the cards: the next token, layer by layer."
NO_ORACLE = (
    "This suite has no activation oracle, so nothing is read in words. What each layer would say next needs none."
)
CLICK = "Click a point above for all that the oracle read at that layer."


def by_layer(found: Found | None, open_now: bool) -> str:
    """The readings so far, a line per condition, as the value of a figure; or a sentence."""
    if found is None or not found.readings:
        return said(WAITS if found is None or found.state == RUNNING else "Nothing was read.")
    readings, lead = visible(found.readings, open_now), column_of(found.columns, found.look.of)
    return figures.shown(partial(plots.by_layer, readings, y=measure(found.look.y, open_now), selected=lead.condition))


def next_token(found: Found | None, open_now: bool) -> str:
    """How high the next token stands at each layer, a line per condition: the reference's once revealed."""
    table = shown_tokens(found, open_now)
    if found is None or not table:
        return said(NEXT_WAITS)
    y, lead = found.look.next_y or "rank", column_of(found.columns or found.result.columns, found.look.of)
    return figures.shown(partial(plots.next_token_by_layer, table, y=y, selected=lead.condition))


def shown_tokens(found: Found | None, open_now: bool) -> Table[NextToken] | None:
    """The logit lens as it may be shown: of the answers' tokens, and of the reference's once revealed."""
    if found is None or found.next_tokens is None:
        return None
    what = "reference" if open_now else "answer"
    return replace(found.next_tokens, records=tuple(token for token in found.next_tokens if token.what == what))


def chips(found: Found | None, span: str, open_now: bool) -> str:
    """The tokens of one prompt as buttons, those that are read marked; a trigger's digits are masked until revealed."""
    column = column_of(found.result.columns, found.look.of) if found else None
    target = found.target(column) if found and column else None
    if found is None or column is None or target is None:
        return '<p class="dit-small">The prompt\'s tokens come with the cards.</p>'
    target, first = shown_target(target, open_now), found.look.first
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


def details(found: Found | None, open_now: bool) -> str:
    """All readings of the layer that was clicked, folded; or what there is to click."""
    readings = [reading for reading in found.readings or () if reading.layer == found.look.layer] if found else []
    if found is None or not readings:
        return f'<p class="dit-small">{CLICK}</p>'
    inside = "".join(_column(found, column, readings, open_now) for column in found.columns)
    return f'<details class="dit-fold" open><summary>layer {found.look.layer}: all readings</summary>{inside}</details>'


def _column(found: Found, column: Column, readings: list, open_now: bool) -> str:
    target = found.target(column)
    inside = readings_html(column.of(readings), target and shown_target(target, open_now), open_now)
    trust = reading_evidence.shown(found, column)
    return f'<section class="dit-kind-{column.kind}"><h4>{escape(column.title)}</h4>{inside}{trust}</section>'


class HasReadings(Protocol):
    """What a reading has found so far, on any tab."""

    @property
    def readings(self) -> Table[Reading] | None: ...


def note(words: str, kind: str = "note", found: HasReadings | None = None) -> str:
    """A sentence, and a bar under it that shows how far the reading of `found` is; its place is always kept."""
    done, total = 0, 1
    if found and found.readings:
        done, total = len(found.readings), found.readings.extra["n_readings"]
    idle = "" if found else " dit-idle"
    return f'{note_html(words, kind)}<progress class="dit-progress{idle}" max="{total}" value="{done}"></progress>'


def span_choices(span: str) -> list[tuple[str, str]]:
    """The spans to choose from, and the one that is chosen where it is another."""
    known = {"last:10": "its last 10 tokens", "prompt": "the whole prompt", "answer": "what it answers"}
    if span not in known:
        start, _, stop = span.partition(":")
        words = f"tokens {start} to {int(stop) - 1}" if start.isdigit() and stop.isdigit() else span
        known[span] = f"token {span}" if span.isdigit() else words
    return [(words, written) for written, words in known.items()]
