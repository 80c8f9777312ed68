"""What the tab Bring your own shows of a diff that arrived: a few lines of words, and the figure of what it touches."""

from __future__ import annotations

from functools import partial
from html import escape

from dit_core.hub import format_bytes
from dit_core.present import plots
from dit_core.records import ModuleChange, Table
from dit_core.suite.user_diffs import Arrival
from dit_core.ui.parts import figures

WAITING = "What your diff touches shows here once it is checked."


def empty(most_bytes: int) -> str:
    """What stands there before a diff has arrived; files of up to so many bytes are taken."""
    return (
        '<p class="dit-small">Nothing is kept: what you bring is checked here, asked in this visit only, and gone with '
        f"it; its files are deleted once they are read. {format_bytes(most_bytes)} at most. Pickles run no code, links "
        "and paths lead nowhere.</p>"
    )


def told(arrival: Arrival) -> str:
    """The facts of a diff as HTML."""
    changes, info = arrival.changes, arrival.info
    ranks = sorted({change.rank for change in changes if change.rank is not None})
    size = f"rank {', '.join(map(str, ranks))}" if info.rank else "whole weights"
    facts = [("layout", arrival.layout + (f", one of {arrival.count}" if arrival.count > 1 else "")), ("size", size)]
    facts += [("parameters", f"{sum(change.parameters for change in changes):,}")]
    facts += [("its files name the base", arrival.base)] if arrival.base else []
    facts += [("asked as", info.task)]
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts)
    return f'<dl class="dit-facts">{rows}</dl>'


def figure(changes: Table[ModuleChange] | None) -> str:
    """The figure of what a diff touches; a sentence before there is one."""
    return figures.shown(partial(plots.changed_modules, changes) if changes else partial(plots.sentence, WAITING))
