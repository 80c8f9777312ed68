"""The Scoreboard tab's section on chances: how often what the page calls likely is right on test diffs."""

from __future__ import annotations

from functools import partial
from html import escape

import gradio as gr

from dit_core.errors import DitError
from dit_core.present import plots
from dit_core.records import Reliability, Table
from dit_core.session.messages import content
from dit_core.suite import Suite
from dit_core.trust import FILES, standing
from dit_core.ui.parts import figures
from dit_core.ui.parts.pieces import said, saving

TITLE = (
    '<h2 class="dit-heading">Can the chances be believed?<small>The chance beside an answer was fitted on calibration '
    "diffs. Here it meets test diffs, and as many controls to which no answer is right.</small></h2>"
)


def trust_section(suite: Suite, visit: gr.State) -> None:
    """Draws a figure for the answers of DIT adapters and one for the oracle's readings, with what they say in words."""
    gr.HTML(TITLE, apply_default_css=False)
    for of in FILES:
        if of == "readings" and suite.oracle is None:
            continue
        table = measured(suite, of)
        figures.figure(drawn(table), elem_id=f"dit-trust-{of}")
        gr.HTML(words(table), elem_id=f"dit-trust-{of}-words", apply_default_css=False)
        saving(partial(saved, suite, of), visit, f"trust-{of}", f"the figures of {plots.NAMES[of]}")


def measured(suite: Suite, of: str) -> Table[Reliability] | str:
    """What was measured of the suite's chances; a sentence where nothing was, or with other adapters than it has."""
    try:
        return standing(suite, of)
    except DitError as error:
        return str(error)


def drawn(table: Table[Reliability] | str) -> str:
    """The figure, or the sentence in its place."""
    return said(table) if isinstance(table, str) else figures.shown(partial(plots.reliability, table))


def words(table: Table[Reliability] | str) -> str:
    """The figures in sentences, and each bin of the plot in one under a fold."""
    if isinstance(table, str):
        return ""
    groups = "".join(f"<li>{escape(_group(one))}</li>" for one in table)
    bins = "".join(f"<li>{escape(one)}</li>" for one in plots.in_words(table))
    return (
        f'<ul class="dit-votes">{groups}</ul><details class="dit-details"><summary>the plot in words</summary>'
        f"<ul>{bins}</ul></details>"
    )


def saved(suite: Suite, of: str, visit: object, what: str, form: str) -> tuple[str, str]:
    """File name and content of what was measured; ("", "") where nothing was."""
    table = measured(suite, of)
    return ("", "") if isinstance(table, str) else (f"{suite.name}-{what}.{form}", content(table, form))


def _group(one: Reliability) -> str:
    told = [f"off by {_figure(one, 'ece', 100)} % on average"]
    if one.auroc is not None and one.auroc_interval is not None:
        told.append(f"right above wrong in {_figure(one, 'auroc', 100)} % of pairs (AUROC)")
    return f"{one.of}: {', '.join(told)}; {one.n} trials of {one.diffs} diffs, {one.right} right."


def _figure(one: Reliability, name: str, factor: float) -> str:
    low, high = (f"{factor * bound:.1f}" for bound in getattr(one, f"{name}_interval"))
    return f"{factor * getattr(one, name):.1f} ({low} to {high})"
