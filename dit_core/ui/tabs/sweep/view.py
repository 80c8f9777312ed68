"""The tab Sweep: a figure of its table, and a card per setting with what most samples say."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

from dit_core.present import plots
from dit_core.present.html import render
from dit_core.present.plots.sweep import MEASURES, settings, written
from dit_core.records import SweepPoint, Table
from dit_core.ui.parts import pieces
from dit_core.ui.parts.pieces import sentence_figure

NEEDS_REFERENCE = "log_prob_reference"
WAITING = "Press Sweep: what is said at each setting shows here."
EMPTY = '<div class="dit-sweep-grid"></div>'
MOST = 3  # different answers on a card


def measures(open_now: bool) -> list[tuple[str, str]]:
    """Return what the figure may show; what needs the reference only where that is revealed."""
    return [(words, name) for name, words in MEASURES.items() if open_now or name != NEEDS_REFERENCE]


def figure(table: Table[SweepPoint] | None, measure: str = "modal_share") -> str:
    """Return the figure's value; a sentence while there is nothing."""
    return pieces.figure_value(partial(plots.sweep_figure, table, measure)) if table else sentence_figure(WAITING)


def cards(table: Table[SweepPoint]) -> str:
    """Return a card per setting as HTML, in the order of the sweep."""
    return render("ui/tabs/sweep/cards.html", cards=[_card(points) for points in settings(table).values()])


def _card(points: list[SweepPoint]) -> dict[str, Any]:
    first, counts = points[0], Counter(point.text for point in points)
    layers = "" if first.layers is None else f" · layers {written(first.layers)}"
    strength = f"diff × {first.strength:g} · " if first.strength else ""
    return {
        "title": f"{strength}{first.adapter} × {first.copies:g}{layers}",
        "answers": counts.most_common(MOST),
        "samples": len(points),
        "others": len(counts) - MOST,
    }
