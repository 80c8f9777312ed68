"""What the tab Sweep shows: a figure of its table, and a card per setting with what most samples say."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from html import escape
from typing import Any

from dit_core.present import plots
from dit_core.present.cards import note_html
from dit_core.present.plots.sweep import MEASURES, settings, written
from dit_core.records import SweepPoint, Table
from dit_core.session.time_left import TimeLeft
from dit_core.ui.parts import figures
from dit_core.ui.parts.pieces import sentence_figure

NEEDS_REFERENCE = "log_prob_reference"
WAITING = "Press Sweep: what is said at each setting shows here."
EMPTY = '<div class="dit-sweep-grid"></div>'
MOST = 3  # different answers on a card


def measures(open_now: bool) -> list[tuple[str, str]]:
    """What the figure may show; what needs the reference only where that is revealed."""
    return [(words, name) for name, words in MEASURES.items() if open_now or name != NEEDS_REFERENCE]


def figure(table: Table[SweepPoint] | None, measure: str = "modal_share") -> str:
    """The figure's value; a sentence while there is nothing."""
    return figures.shown(partial(plots.sweep_figure, table, measure)) if table else sentence_figure(WAITING)


class Progress:
    """How far a sweep is, in words and as a bar, and how long it may still take, measured from its first tokens on."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._left = TimeLeft(clock=clock)

    def note(self, extra: Mapping[str, Any]) -> str:
        """'120 of 400 answers, token 7 of at most 16 of this batch, about 3 s left' over the bar."""
        done, total, share = extra["n_finished"], extra["n_answers"], extra["progress"]
        words = [f"{done} of {total} answers"]
        if done < total and extra["n_tokens"]:
            words.append(f"token {extra['n_tokens']} of at most {extra['sampling']['max_new_tokens']} of this batch")
        left = self._left.words(share, 1.0) if share < 1 else ""
        bar = f'<progress class="dit-progress" max="{total}" value="{share * total:.1f}" aria-label="answers said">'
        return f"{note_html(', '.join(words) + left, 'busy')}{bar}</progress>"


def cards(table: Table[SweepPoint]) -> str:
    """A card per setting, in the order of the sweep."""
    return f'<div class="dit-sweep-grid">{"".join(_card(own) for own in settings(table).values())}</div>'


def _card(own: list[SweepPoint]) -> str:
    one = own[0]
    counted = {text: sum(other.text == text for other in own) for text in dict.fromkeys(s.text for s in own)}
    most = sorted(counted.items(), key=lambda item: -item[1])
    lines = "".join(
        f'<p class="dit-text" dir="auto">{escape(text) or "…"}{_times(times, len(own))}</p>'
        for text, times in most[:MOST]
    )
    others = len(most) - MOST
    more = f'<p class="dit-small">and {others} other answer{"s" if others > 1 else ""}</p>' if others > 0 else ""
    layers = "" if one.layers is None else f" · layers {written(one.layers)}"
    strength = f"diff × {one.strength:g} · " if one.strength else ""
    title = f"{strength}{escape(one.adapter)} × {one.copies:g}{layers}"
    return f'<article class="dit-sweep-card" aria-label="{title}"><h4>{title}</h4>{lines}{more}</article>'


def _times(times: int, of: int) -> str:
    return f' <span class="dit-small">{times}/{of}</span>' if of > 1 else ""
