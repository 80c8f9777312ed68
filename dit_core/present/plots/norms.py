"""Where the diff acts: how large a condition's change of the residual stream is, per layer and token."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import TYPE_CHECKING

from dit_core.present.plots.cells import Axis, Cell, cells, label_of
from dit_core.present.plots.lines import chosen, lines, n_layers
from dit_core.present.plots.style import hover, named, percent_axis, sentence, token_label
from dit_core.records import Norm, Table

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def difference_norms(
    norms: Table[Norm], labels: Sequence[str], condition: str | None = None, dark: bool = False
) -> Figure:
    """The size of (condition - base) over that of the base, per layer (up) and token (across), for one condition.

    Arguments as of `heat_map`; a cell's customdata is its condition, layer and positions.

    Raises:
        DitError: there are fewer labels than tokens measured.
    """
    found = lines(norms, "diff", "asked")
    line = chosen(found, condition) if condition else next(iter(found), None)
    known = [record for record in line.records if isfinite(record.ratio)] if line else []
    if not known:
        return sentence("No activations have been compared yet.", dark)
    positions = sorted({record.position for record in known})
    names = {position: label_of(labels, position) for position in positions}

    def cell(record: Norm) -> Cell:
        text = hover(
            f"{line.name}, layer {record.layer}, {named(names[record.position])}",
            f"changed by {share(record.ratio)} of the base's norm ({record.norm:.3g} of {record.base_norm:.3g})",
            f"at {record.depth_percent:g} % of the depth",
        )
        return Cell(record.ratio, text, [line.condition, record.layer, [record.position]])

    best = max(known, key=lambda record: record.ratio)
    title = (
        f"{line.name}: the change is largest at layer {best.layer}, {named(names[best.position], 14)}: "
        f"{share(best.ratio)} of the base's norm"
    )
    return cells(
        {(positions.index(record.position), record.layer): cell(record) for record in known},
        Axis("token", [token_label(name) for name in names.values()]),
        Axis("layer", [str(layer) for layer in range(n_layers(norms))]),
        title if best.ratio else f"{line.name} changes nothing here",
        "",
        dark,
        bar={"title": "norm of (condition − base) over that of the base", **percent_axis(best.ratio or 1.0)},
        limits=(0.0, best.ratio or 1.0),
    )


def share(ratio: float) -> str:
    """A part of a whole that may be more than the whole, in percent."""
    return f"{100 * ratio:.3g} %" if ratio < 1 else f"{100 * ratio:,.0f} %"
