"""What a diff touches: the size of its change of every weight, per layer and type of module."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dit_core.present.plots.charts import Axis, Cell, cells
from dit_core.present.plots.style import hover, percent_axis, sentence, share, token_label
from dit_core.records import ModuleChange, Table

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

OUTSIDE = "outside"  # the row of what belongs to no layer: embeddings, the last norm
SHOWN = 4  # singular values in a hover text


def changed_modules(changes: Table[ModuleChange], dark: bool = False) -> Figure:
    """Draw the Frobenius norm of each module's change over that of the base's weight: layers up, module types across.

    Hover tells module, rank, parameters and, of low-rank changes, the largest singular values. What lies outside of
    the layers has a row of its own at the bottom. Without a base's norms to compare with, the figure is a sentence.
    """
    known = [(change, change.relative) for change in changes if change.relative is not None]
    if not known:
        return sentence("What this diff touches is not known without the base that it was made for.", dark)
    types = list(dict.fromkeys(change.type for change, _ in known))
    outside = [None] if any(change.layer is None for change, _ in known) else []
    layers = [*outside, *range(max((change.layer for change, _ in known if change.layer is not None), default=-1) + 1)]
    best, largest = max(known, key=lambda entry: entry[1])
    within = sorted({change.layer for change, _ in known if change.layer is not None})
    where = f"layer {best.layer}, {best.type}" if best.layer is not None else best.type
    return cells(
        {(types.index(change.type), layers.index(change.layer)): _cell(change, relative) for change, relative in known},
        Axis("module", [token_label(type, 20) for type in types]),
        Axis("layer", [OUTSIDE if layer is None else str(layer) for layer in layers]),
        f"It touches {_layers(within)}, most at {where}: {share(largest)} of the base's norm",
        f"{sum(change.parameters for change in changes):,} parameters in {len(changes)} modules",
        dark,
        bar={"title": "norm of the change over that of the base's weight", **percent_axis(largest or 1.0)},
        limits=(0.0, largest or 1.0),
    )


def _layers(within: list[int]) -> str:
    if not within:
        return "no layer"
    whole = within == list(range(within[0], within[-1] + 1))
    return f"layers {within[0]} to {within[-1]}" if whole and len(within) > 1 else f"layers {str(within)[1:-1]}"


def _cell(change: ModuleChange, relative: float) -> Cell:
    rank = f"rank {change.rank}" if change.rank is not None else "whole weights"
    values = ", ".join(f"{value:.3g}" for value in change.singular_values[:SHOWN])
    more = "…" if len(change.singular_values) > SHOWN else ""
    text = hover(
        change.module,
        f"changed by {share(relative)} of the base's norm ({change.norm:.3g})",
        f"{rank}, {change.parameters:,} parameters",
        f"singular values {values}{more}" if values else "",
    )
    return Cell(relative, text, [change.module])
