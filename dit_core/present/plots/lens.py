"""Lens: the words in a diff's mean activation difference, and how alike the differences of layers and tokens are."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from dit_core.present.html import percent
from dit_core.present.palette import COLOURS
from dit_core.present.plots.cells import Axis, Cell, cells
from dit_core.present.plots.lines import n_layers
from dit_core.present.plots.style import hover, named, percent_axis, quoted, sentence, theme, token_label
from dit_core.records import LensToken, Similarity, Table

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

TOKEN_LENGTH = 10  # of five columns on 400 pixels


def lens_tokens(
    lens: Table[LensToken], method: str | None = None, position: int | None = None, dark: bool = False
) -> Figure:
    """A table of the tokens that stand out, layers up and places across; the shade is the token's probability.

    One method and one position of one diff: by default the table's first. A cell's customdata is its layer.
    """
    rows = [one for one in lens if method in (None, one.method) and position in (None, one.position)]
    if not rows:
        return sentence("The diff changes nothing there, so the lens has no words for it.", dark)
    first = rows[0]
    rows = [one for one in rows if (one.diff, one.method, one.position) == (first.diff, first.method, first.position)]
    best = max(rows, key=lambda one: one.weight)

    def cell(one: LensToken) -> Cell:
        text = hover(
            f"layer {one.layer}, place {one.place + 1}",
            named(one.token, 60),
            f"probability {percent(one.weight)}",
            f"at {one.depth_percent:g} % of the depth",
        )
        return Cell(one.weight, text, [one.layer], token_label(one.token, TOKEN_LENGTH))

    return cells(
        {(one.place, one.layer): cell(one) for one in rows},
        Axis("place, the likeliest first", [str(place + 1) for place in range(max(one.place for one in rows) + 1)]),
        Axis("layer", [str(layer) for layer in range(n_layers(lens))]),
        f"{first.method.capitalize()}: surest at layer {best.layer} ({percent(best.weight)}): {quoted(best.token)}",
        f"Mean difference at token {first.position} of unrelated texts",
        dark,
        bar={"title": "probability", **percent_axis(best.weight or 1.0)},
        limits=(0.0, best.weight or 1.0),
        scale=[[0, theme(dark).low], [1, theme(dark).high]],
        row=20,
    )


def cosine(similarities: Table[Similarity], dark: bool = False) -> Figure:
    """How alike the mean differences of two layers and positions are: 1 the same direction, 0 unrelated, -1 opposite.

    Of one diff, the table's first. Both axes run over layers and, within a layer, over positions.
    """
    if not len(similarities):
        return sentence("The diff changes nothing there, so there is nothing to compare.", dark)
    rows = [one for one in similarities if one.diff == similarities[0].diff]
    places = sorted({(one.layer, one.position) for one in rows})
    at = {place: number for number, place in enumerate(places)}
    labels = [f"{layer} · {position}" for layer, position in places]

    def cell(one: Similarity) -> Cell:
        text = hover(
            f"layer {one.layer}, token {one.position}",
            f"and layer {one.other_layer}, token {one.other_position}",
            f"cosine {one.cosine:.2f}".replace("-", "−"),
        )
        return Cell(one.cosine, text)

    return cells(
        {(at[one.layer, one.position], at[one.other_layer, one.other_position]): cell(one) for one in rows},
        Axis("layer · token", labels),
        Axis("layer · token", labels),
        _title(rows),
        "Mean differences at first tokens of unrelated texts",
        dark,
        bar={"title": "cosine", "tickmode": "array", "tickvals": [-1, -0.5, 0, 0.5, 1]},
        limits=(-1.0, 1.0),
        scale=[[0, COLOURS["trigger"]], [0.5, theme(dark).low], [1, COLOURS["diff"]]],
        row=6,
    )


def _title(rows: Sequence[Similarity]) -> str:
    """The mean over neighbouring layers at one token and over tokens of one layer, where there are such pairs."""
    layers = sorted({one.layer for one in rows})
    following = set(zip(layers, layers[1:], strict=False))
    means = {
        "neighbouring layers": [
            one.cosine
            for one in rows
            if one.position == one.other_position and (one.layer, one.other_layer) in following
        ],
        "tokens of one layer": [
            one.cosine for one in rows if one.layer == one.other_layer and one.position < one.other_position
        ],
    }
    parts = [f"{fmean(found):.2f} between {what}" for what, found in means.items() if found]
    return f"Mean cosine {', '.join(parts)}".replace("-", "−") if parts else "One place: nothing to compare it with"
