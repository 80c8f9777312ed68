"""The tab Sweep: a figure of its table, and a card per setting with what most samples say."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from dit_core.present import plots
from dit_core.present.html import render
from dit_core.present.plots.sweep import MEASURES, settings, written
from dit_core.records import SweepPoint, Table
from dit_core.session.time_left import TimeLeft
from dit_core.ui.parts import figures
from dit_core.ui.parts.pieces import progress_html, sentence_figure

NEEDS_REFERENCE = "log_prob_reference"
WAITING = "Press Sweep: what is said at each setting shows here."
EMPTY = '<div class="dit-sweep-grid"></div>'
MOST = 3  # different answers on a card


def measures(open_now: bool) -> list[tuple[str, str]]:
    """Return what the figure may show; what needs the reference only where that is revealed."""
    return [(words, name) for name, words in MEASURES.items() if open_now or name != NEEDS_REFERENCE]


def figure(table: Table[SweepPoint] | None, measure: str = "modal_share") -> str:
    """Return the figure's value; a sentence while there is nothing."""
    return figures.shown(partial(plots.sweep_figure, table, measure)) if table else sentence_figure(WAITING)


class Progress:
    """How far a sweep is, and how long it may still take, measured from its first tokens on."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._left = TimeLeft(clock=clock)

    def note(self, extra: Mapping[str, Any]) -> str:
        """Return '120 of 400 answers, token 7 of at most 16 of this batch, about 3 s left' over a bar."""
        done, total, share = extra["n_finished"], extra["n_answers"], extra["progress"]
        words = [f"{done} of {total} answers"]
        if done < total and extra["n_tokens"]:
            words.append(f"token {extra['n_tokens']} of at most {extra['sampling']['max_new_tokens']} of this batch")
        left = self._left.words(share, 1.0) if share < 1 else ""
        text = ", ".join(words) + left
        return progress_html(text, "busy", f"{share * total:.1f}", total, label="answers said")


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
