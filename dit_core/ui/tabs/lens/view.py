"""The Lens tab: its results as figures, cards and choices."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import gradio as gr

from dit_core.methods.lens.steering import STRENGTHS
from dit_core.present import plots
from dit_core.present.cards import WAITING, steered_html
from dit_core.session.lens import MIDDLE, LensResult, SteerResult
from dit_core.ui.parts import pieces
from dit_core.ui.parts.pieces import sentence_figure

PRESS = "Press Look: the words that stand out in what the diff changes, layer by layer."
PRESS_COSINE = "Press Look: how alike the changes of two layers and tokens are."
IN_THE_MIDDLE = ("in the middle", MIDDLE)
MOST_PLACES = 80  # of one cosine figure: beyond, only the chosen token is compared


def words(result: LensResult | None, method: str, position: int) -> str:
    """Return the likeliest words per layer, by one method at one position; or a sentence."""
    if result is None or result.tokens is None:
        return sentence_figure("Looking…" if result and result.state.busy else PRESS)
    return pieces.figure_value(partial(plots.lens_tokens, result.tokens, method=method, position=position))


def cosine(result: LensResult | None, position: int) -> str:
    """Return the figure of how alike the changes at two layers and positions are; or a sentence."""
    if result is None or result.similarities is None:
        return sentence_figure("Looking…" if result and result.state.busy else PRESS_COSINE)
    table = result.similarities
    if len(table) > MOST_PLACES**2:
        table = replace(table, records=tuple(s for s in table if {s.position, s.other_position} == {position}))
    return pieces.figure_value(partial(plots.cosine, table))


def texts(result: SteerResult | None) -> str:
    """Return a card per strength."""
    if result is None:
        return steered_html((), STRENGTHS, WAITING)
    strengths = [strength for strength in result.settings.strengths if strength is not None]  # emptied fields
    return steered_html(result.steered or (), strengths, result.state)


def positions(result: LensResult | None, position: int) -> Any:
    """Return the tokens to choose from, as an update of their radio; the chosen one stays where it can."""
    found = sorted({token.position for token in result.tokens or ()}) if result else []
    return gr.update(choices=found, value=position if position in found else found[0]) if found else gr.skip()


def layers(result: LensResult | None) -> Any:
    """Return the layers to steer at, as an update of their list: those where the diff acts, once they are known."""
    found = {token.layer: token.depth_percent for token in result.tokens or ()} if result else {}
    choices = [(f"{layer} · {depth:g} % deep", layer) for layer, depth in sorted(found.items())]
    return gr.update(choices=[IN_THE_MIDDLE, *choices]) if choices else gr.skip()
