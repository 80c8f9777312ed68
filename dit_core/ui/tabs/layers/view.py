"""The Layers tab: its result as figures and readings."""

from __future__ import annotations

from functools import partial

from dit_core.present import plots
from dit_core.session.layers import LayerResult
from dit_core.session.readings import answer_of, readings_html, shown_target
from dit_core.suite import Suite
from dit_core.ui.parts import pieces
from dit_core.ui.parts.pieces import sentence_figure

# Words on the page for what a cell's colour says: the `colour` of `plots.heat_map`.
COLOURS = {"confidence": "confidence", "what the model says": "agreement", "what it was trained on": "grade"}
PRESS = "Press Read: the oracle says in words what it finds at every layer and token."
CLICK = '<p class="dit-small">Click a cell for all that the oracle read there.</p>'
PRESS_ACTS = "Press Read: how much the condition changes at every layer and token."


def colours(open_now: bool) -> list[str]:
    """Return the colours on offer; the last one needs to know what the diff was trained on."""
    return list(COLOURS)[: None if open_now else -1]


def heat_map(suite: Suite, result: LayerResult | None, colour: str = "confidence", open_now: bool = False) -> str:
    """Return the readings so far by layer and token, or a sentence where there are none."""
    if suite.oracle is None:
        return sentence_figure("This suite has no activation oracle: nothing can be read in words.")
    if result is None:
        return sentence_figure(PRESS)
    if not result.readings or result.target is None:
        return sentence_figure("Reading…" if result.state.busy else "Nothing was read.")
    labels = shown_target(result.target, open_now).tokens
    colour, answer = COLOURS[colour], answer_of(result.target)
    return pieces.figure_value(partial(plots.heat_map, result.readings, labels, colour=colour, model_said=answer))


def acts(result: LayerResult | None, open_now: bool = False) -> str:
    """Return the figure of how much the condition changes the residual stream per layer and token, or a sentence."""
    if result is None or result.norms is None or result.target is None:
        return sentence_figure("Reading…" if result and result.state.busy else PRESS_ACTS)
    return pieces.figure_value(
        partial(plots.difference_norms, result.norms, shown_target(result.target, open_now).tokens)
    )


def cell(result: LayerResult, layer: int, positions: tuple[int, ...], open_now: bool) -> str:
    """Return all readings of one cell of the heat map as HTML."""
    readings = [r for r in result.readings or () if (r.layer, r.positions) == (layer, positions)]
    if not readings or result.target is None:
        return CLICK
    inside = readings_html(readings, shown_target(result.target, open_now), open_now)
    return f'<div class="dit-kind-{plots.kind_of(readings[0].condition)}">{inside}</div>'
