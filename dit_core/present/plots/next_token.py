"""Next token by layer: how high the logit lens ranks the answer's (or the reference's) first token on the way up."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, log10
from typing import TYPE_CHECKING, Any

from dit_core.errors import DitError, did_you_mean
from dit_core.present.html import percent
from dit_core.present.plots.lines import Line, chosen, layer_axis, lines, n_layers, trace
from dit_core.present.plots.style import canvas, hover, named, percent_axis, plain, quoted, sentence
from dit_core.records import NextToken, Table

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

MEASURES = ("rank", "probability")
APART = ("diff", "asked", "what")


def next_token_by_layer(
    next_tokens: Table[NextToken], y: str = "rank", selected: str | None = None, dark: bool = False
) -> Figure:
    """How high one token stands among all next tokens, layer by layer: one line per condition.

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
    found = lines(next_tokens, *APART)
    lead = chosen(found, selected) or max(found, key=_climb)
    ranks, count = y == "rank", n_layers(next_tokens)
    axis = _rank_axis(next_tokens) if ranks else {"range": [-0.03, 1.05], **percent_axis()}
    title = "rank (log; 0 = likeliest)" if ranks else "probability of the token"
    return canvas(
        [_trace(line, y, count, line is lead) for line in found],
        _title(lead, y),
        "Logit lens: what each layer alone would say next.",
        dark,
        height=460 + 20 * max(0, len(found) - 5),
        xaxis=layer_axis(count),
        yaxis={**axis, "title": {"text": title}},
    )


def _trace(line: Line[NextToken], measure: str, count: int, lead: bool) -> dict[str, Any]:
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


def _climb(line: Line[NextToken]) -> float:
    ends = _ends(line.records)
    return log10((ends[0].rank + 1) / (ends[1].rank + 1))


def _ends(records: Sequence[NextToken]) -> tuple[NextToken, NextToken]:
    in_order = sorted(records, key=lambda record: record.layer)
    return in_order[0], in_order[-1]


def _title(line: Line[NextToken], measure: str) -> str:
    low, high = _ends(line.records)
    token = f"{line.name}: {quoted(high.token, 24)}"
    if measure == "probability":
        best = max(line.records, key=lambda record: record.probability)
        return f"{token} is likeliest at layer {best.layer} ({percent(best.probability)})"
    if low.rank == high.rank:
        return f"{token} has rank {high.rank:,} at layer {low.layer} and at layer {high.layer}"
    verb = "climbs" if high.rank < low.rank else "falls"
    return f"{token} {verb} from rank {low.rank:,} (layer {low.layer}) to {high.rank:,} (layer {high.layer})"
