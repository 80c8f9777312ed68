"""Lenses: next tokens by layer, the words in mean activation differences, and how alike such differences are."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, log10
from statistics import fmean
from typing import TYPE_CHECKING, Any

from dit_core.errors import DitError, did_you_mean
from dit_core.present.html import percent
from dit_core.present.palette import COLOURS
from dit_core.present.plots.charts import Axis, Cell, ConditionLine, cells, chosen, layer_axis, lines, n_layers, trace
from dit_core.present.plots.style import canvas, hover, named, percent_axis, plain, quoted, sentence, theme, token_label
from dit_core.records import AdlFinding, LensToken, NextToken, Similarity, Table

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

TOKEN_LENGTH = 10  # of five columns on 400 pixels


def lens_tokens(
    lens: Table[LensToken], method: str | None = None, position: int | None = None, dark: bool = False
) -> Figure:
    """Draw a table of the tokens that stand out, layers up and places across; the shade is the token's probability.

    One method and one position of one diff: by default the table's first. A cell's customdata is its layer.
    """
    rows = [token for token in lens if method in (None, token.method) and position in (None, token.position)]
    if not rows:
        return sentence("The diff changes nothing there, so the lens has no words for it.", dark)
    first = rows[0]
    rows = [
        token
        for token in rows
        if (token.diff, token.method, token.position) == (first.diff, first.method, first.position)
    ]
    best = max(rows, key=lambda token: token.weight)

    def cell(token: LensToken) -> Cell:
        text = hover(
            f"layer {token.layer}, place {token.place + 1}",
            named(token.token, 60),
            f"probability {percent(token.weight)}",
            f"at {token.depth_percent:g} % of the depth",
        )
        return Cell(token.weight, text, [token.layer], token_label(token.token, TOKEN_LENGTH))

    return cells(
        {(token.place, token.layer): cell(token) for token in rows},
        Axis("place, the likeliest first", [str(place + 1) for place in range(max(token.place for token in rows) + 1)]),
        Axis("layer", [str(layer) for layer in range(n_layers(lens))]),
        f"{first.method.capitalize()}: surest at layer {best.layer} ({percent(best.weight)}): {quoted(best.token)}",
        f"Mean difference at token {first.position} of unrelated texts",
        dark,
        bar={"title": "probability", **percent_axis(best.weight or 1.0)},
        limits=(0.0, best.weight or 1.0),
        scale=[[0, theme(dark).low], [1, theme(dark).high]],
        row=20,
    )


def adl_tokens(
    adl: Table[AdlFinding],
    lens: str | None = None,
    vector: str = "difference",
    layer: int | None = None,
    dark: bool = False,
) -> Figure:
    """Draw a table of the tokens that the activation difference lens as published shows: texts' tokens across.

    The likeliest on top; the shade is the token's probability. One lens, vector and layer of one diff: by default the
    table's first lens and layer, and the difference.
    """
    shown = [one for one in adl if one.weight is not None and one.vector == vector]
    rows = [one for one in shown if lens in (None, one.lens) and layer in (None, one.layer)]
    if not rows:
        return sentence("The lens as published has shown no tokens of this yet.", dark)
    first = rows[0]
    rows = [one for one in rows if (one.diff, one.lens, one.layer) == (first.diff, first.lens, first.layer)]
    best = max(rows, key=_weight)
    deepest = max(one.place for one in rows)

    def cell(one: AdlFinding) -> Cell:
        text = hover(
            f"token {one.position}, place {one.place + 1}",
            named(one.text, 60),
            f"probability {percent(_weight(one))}",
            "" if one.scale is None else f"at {one.scale:g} times the size of an activation",
        )
        return Cell(one.weight, text, [one.position], token_label(one.text, TOKEN_LENGTH))

    return cells(
        {(one.position, deepest - one.place): cell(one) for one in rows},
        Axis("token of the texts", [str(at) for at in range(max(one.position for one in rows) + 1)]),
        Axis("place, the likeliest on top", [str(deepest - at + 1) for at in range(deepest + 1)]),
        f"{first.lens.capitalize()} as published: surest at token {best.position} ({percent(_weight(best))}): "
        f"{quoted(best.text)}",
        f"Mean {vector} over {adl.extra.get('settings', {}).get('texts', 'many')} texts at layer {first.layer}",
        dark,
        bar={"title": "probability", **percent_axis(_weight(best) or 1.0)},
        limits=(0.0, _weight(best) or 1.0),
        scale=[[0, theme(dark).low], [1, theme(dark).high]],
        row=20,
    )


def _weight(one: AdlFinding) -> float:
    return one.weight or 0.0


def cosine(similarities: Table[Similarity], dark: bool = False) -> Figure:
    """Draw how alike the mean differences of two layers and positions are: from -1, opposite, to 1, the same direction.

    Of one diff, the table's first. Both axes run over layers and, within a layer, over positions.
    """
    if not len(similarities):
        return sentence("The diff changes nothing there, so there is nothing to compare.", dark)
    rows = [pair for pair in similarities if pair.diff == similarities[0].diff]
    places = sorted({(pair.layer, pair.position) for pair in rows})
    at = {place: number for number, place in enumerate(places)}
    labels = [f"{layer} · {position}" for layer, position in places]

    def cell(pair: Similarity) -> Cell:
        text = hover(
            f"layer {pair.layer}, token {pair.position}",
            f"and layer {pair.other_layer}, token {pair.other_position}",
            f"cosine {pair.cosine:.2f}".replace("-", "−"),
        )
        return Cell(pair.cosine, text)

    return cells(
        {(at[pair.layer, pair.position], at[pair.other_layer, pair.other_position]): cell(pair) for pair in rows},
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
    layers = sorted({pair.layer for pair in rows})
    following = set(zip(layers, layers[1:], strict=False))
    means = {
        "neighbouring layers": [
            pair.cosine
            for pair in rows
            if pair.position == pair.other_position and (pair.layer, pair.other_layer) in following
        ],
        "tokens of one layer": [
            pair.cosine for pair in rows if pair.layer == pair.other_layer and pair.position < pair.other_position
        ],
    }
    parts = [f"{fmean(found):.2f} between {what}" for what, found in means.items() if found]
    return f"Mean cosine {', '.join(parts)}".replace("-", "−") if parts else "One place: nothing to compare it with"


MEASURES = ("rank", "probability")
_LINES = ("diff", "asked", "what")


def next_token_by_layer(
    next_tokens: Table[NextToken], y: str = "rank", selected: str | None = None, dark: bool = False
) -> Figure:
    """Draw how high one token stands among all next tokens, layer by layer: one line per condition.

    Ranks are drawn on a log axis with 0, the likeliest, on top (at 1: a logarithm has no 0). A point's customdata is
    its condition and layer.

    Args:
        next_tokens: what `lens.next_tokens` gave.
        y: `rank` or `probability`.
        selected: the condition (written) that the title is about; by default the one that climbs most.
        dark: whether the page is dark.

    Raises:
        DitError: there is no such measure.
    """
    if y not in MEASURES:
        raise DitError(f"There is no '{y}' to draw: use {' or '.join(MEASURES)}.{did_you_mean(y, MEASURES)}")
    if not len(next_tokens):
        return sentence("No next token has been looked up yet.", dark)
    found = lines(next_tokens, *_LINES)
    lead = chosen(found, selected) or max(found, key=_climb)
    ranks, count = y == "rank", n_layers(next_tokens)
    axis = _rank_axis(next_tokens) if ranks else {"range": [-0.03, 1.05], **percent_axis()}
    title = "rank (log; 0 = likeliest)" if ranks else "probability of the token"
    return canvas(
        [_trace(line, y, count, line is lead) for line in found],
        _rank_title(lead, y),
        "Logit lens: what each layer alone would say next.",
        dark,
        height=460 + 20 * max(0, len(found) - 5),
        xaxis=layer_axis(count),
        yaxis={**axis, "title": {"text": title}},
    )


def _trace(line: ConditionLine[NextToken], measure: str, count: int, lead: bool) -> dict[str, Any]:
    records = sorted(line.records, key=lambda record: record.layer)
    values = [record.rank + 1 if measure == "rank" else record.probability for record in records]
    hovers = [
        hover(
            f"{line.name}, layer {record.layer}",
            f"{named(record.token)}, first of the {record.what}",
            f"rank {record.rank:,}, probability {percent(record.probability)}",
            f"at {record.depth_percent:g} % of the depth",
        )
        for record in records
    ]
    drawn = trace(line, [record.layer for record in records], values, hovers, count, lead)
    return {**drawn, "name": plain(f"{line.name}: {quoted(records[-1].token, 18)}")}


def _rank_axis(next_tokens: Table[NextToken]) -> dict[str, Any]:
    """A log axis upside down, whose labels are the ranks themselves."""
    top = max(ceil(log10(max(record.rank for record in next_tokens) + 1)), 1)
    ranks = [0, *(10**power for power in range(top + 1))]
    return {
        "type": "log",
        "range": [top + 0.12, -0.12],
        "tickmode": "array",
        "tickvals": [rank + 1 for rank in ranks],
        "ticktext": [f"{rank:,}" for rank in ranks],
        "minor": {"ticks": ""},
    }


def _climb(line: ConditionLine[NextToken]) -> float:
    ends = _ends(line.records)
    return log10((ends[0].rank + 1) / (ends[1].rank + 1))


def _ends(records: Sequence[NextToken]) -> tuple[NextToken, NextToken]:
    in_order = sorted(records, key=lambda record: record.layer)
    return in_order[0], in_order[-1]


def _rank_title(line: ConditionLine[NextToken], measure: str) -> str:
    low, high = _ends(line.records)
    token = f"{line.name}: {quoted(high.token, 24)}"
    if measure == "probability":
        best = max(line.records, key=lambda record: record.probability)
        return f"{token} is likeliest at layer {best.layer} ({percent(best.probability)})"
    if low.rank == high.rank:
        return f"{token} has rank {high.rank:,} at layer {low.layer} and at layer {high.layer}"
    verb = "climbs" if high.rank < low.rank else "falls"
    return f"{token} {verb} from rank {low.rank:,} (layer {low.layer}) to {high.rank:,} (layer {high.layer})"
