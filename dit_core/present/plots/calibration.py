"""How far a suite's probabilities can be believed: what was promised against what came true."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dit_core.present.palette import COLOURS
from dit_core.present.plots.style import canvas, hover, percent_axis, plain, sentence, theme
from dit_core.records import Reliability, Table
from dit_core.stats import wilson_interval

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

SHOWN = {"all": ("both", "circle"), "real diffs alone": ("diff", "diamond-open")}
"""The groups of trials that are drawn, with their colour's key and shape."""
NAMES = {"answers": "DIT answers", "readings": "oracle readings"}
NEAR = 0.1  # bins that are no further apart share the label that says how many answers they hold
NOTHING = "No calibration has been measured in this suite."


def reliability(table: Table[Reliability], dark: bool = False) -> Figure:
    """Draw the share of right answers over the probability given, in bins of equally many; on the line is perfect."""
    own = [record for record in table if record.of in SHOWN]
    if not own:
        return sentence(NOTHING, dark)
    colours = theme(dark)
    line = {"color": colours.faint, "dash": "dot", "width": 1.5}
    traces = [
        {"type": "scatter", "mode": "lines", "x": [0, 1], "y": [0, 1], "line": line, "hoverinfo": "skip",
         "name": "perfect"},
        *(_points(record) for record in own),
    ]  # fmt: skip
    return canvas(
        traces,
        finding(table),
        f"{own[0].n} {_name(table)} on {table.extra.get('split', 'test')} diffs and controls, in bins of equally many, "
        "n stands above, bars: 95 % interval of the share",
        dark,
        annotations=_counts(own[0], colours.faint),
        xaxis={**percent_axis(), "range": [-0.03, 1.03], "title": {"text": "probability given"}},
        yaxis={**percent_axis(), "range": [-0.03, 1.05], "title": {"text": "answers that are right"}},
        margin={"b": 100},
    )


def finding(table: Table[Reliability]) -> str:
    """Return what the figure shows, in a sentence without its full stop."""
    record = next(record for record in table if record.of in SHOWN)
    name = _name(table)
    return f"{name[0].upper()}{name[1:]}: chances off by {100 * record.ece:.1f} % on average"


def in_words(table: Table[Reliability]) -> list[str]:
    """Return the same for those do not see the figure: a sentence per bin of each group."""
    return [
        f"{record.of}: of {own['n']} {_name(table)} given {100 * own['probability']:.1f} %, {100 * own['right']:.1f} % "
        f"are right (95 % interval {100 * low:.0f} to {100 * high:.0f} %)."
        for record in table
        if record.of in SHOWN
        for own in record.bins
        for low, high in [wilson_interval(own["right"] * own["n"], int(own["n"]))]
    ]


def _name(table: Table[Reliability]) -> str:
    return NAMES.get(table.extra.get("of", ""), "answers")


def _points(record: Reliability) -> dict:
    colour, symbol = COLOURS[SHOWN[record.of][0]], SHOWN[record.of][1]
    shares = [own["right"] for own in record.bins]
    intervals = [wilson_interval(own["right"] * own["n"], int(own["n"])) for own in record.bins]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": plain(f"{record.of}: error {100 * record.ece:.1f} %"),
        "x": [own["probability"] for own in record.bins],
        "y": shares,
        "marker": {"color": colour, "symbol": symbol, "size": 10, "line": {"width": 2, "color": colour}},
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [high - share for (_, high), share in zip(intervals, shares, strict=True)],
            "arrayminus": [share - low for (low, _), share in zip(intervals, shares, strict=True)],
            "color": colour,
            "thickness": 1.2,
        },
        "hoverinfo": "text",
        "hovertext": [
            hover(record.of, f"{own['n']} answers", f"promised {100 * own['probability']:.1f} %",
                  f"right {100 * own['right']:.1f} %")
            for own in record.bins
        ],
    }  # fmt: skip


def _counts(record: Reliability, colour: str) -> list[dict]:
    """Labels above the points: how many answers the bins hold, those that lie together counted together."""
    groups: list[list[dict]] = []
    for own in record.bins:
        if groups and own["probability"] - groups[-1][0]["probability"] <= NEAR:
            groups[-1].append(own)
        else:
            groups.append([own])
    return [
        {
            "x": sum(own["probability"] for own in group) / len(group),
            "y": 1,
            "yref": "paper",
            "yanchor": "bottom",
            "text": f"{'' if at else 'n = '}{sum(own['n'] for own in group)}",
            "showarrow": False,
            "font": {"size": 11, "color": colour},
        }
        for at, group in enumerate(groups)
    ]
