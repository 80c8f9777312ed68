"""The scoreboard as figures: grades by method, which diffs each method named, shared errors, and scaling curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dit_core.present.palette import COLOURS
from dit_core.present.plots.charts import Axis, Cell, cells
from dit_core.present.plots.style import canvas, hover, plain, sentence, shortened, theme
from dit_core.records import Agreement, NamedDiffs, ScalingPoint, Score, Table
from dit_core.records.scores import SHORT_NAMES

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

GRADES = ("1", "2", "3", "4", "5")
# From grey to deep blue, so that a darker bar is a better answer, and each has its number beside the colour.
SHADES = {
    False: ("#d5d9e0", "#b9cde0", "#8db8dc", "#4f97cc", "#0b62a4"),
    True: ("#47505f", "#4b6076", "#4d7ea8", "#4d9ad6", "#8cc8f7"),
}
ROW, BELOW = 24, 90  # pixels of a method's bar, and of what stands below them
LABEL = 28  # characters of a method's name beside its bar
NOTHING = "No grades yet: run the scoreboard."


def grade_bars(scores: Sequence[Score], task: str, dark: bool = False) -> Figure:
    """Draw how the answers to a task's diffs were graded, method by method; diamonds are published means."""
    own = [score for score in scores if score.task == task and score.grades]
    if not own:
        return sentence(NOTHING, dark)
    names = [plain(shortened(label(score), LABEL)) for score in own]
    traces = []
    for at, grade in enumerate(GRADES):
        shares = [(score.grades or {})[grade] / score.n for score in own]
        traces.append(
            {
                "type": "bar",
                "orientation": "h",
                "name": grade,
                "y": list(range(len(own))),
                "x": [100 * share for share in shares],
                "marker": {"color": SHADES[dark][at]},
                "hoverinfo": "text",
                "hovertext": [_bar_hover(score, grade) for score in own],
            }
        )
    traces.append(_diamonds(own, dark))
    best = max(own, key=lambda score: score.value)
    axis = {"tickmode": "array", "tickvals": list(range(len(own))), "ticktext": names}
    figure = canvas(
        traces,
        f"{title(best)} does best on {task}s: {_mean(best)}",
        "Diamonds: published means of larger models, on the same scale of 1 to 5",
        dark,
        barmode="stack",
        bargap=0.25,
        yaxis={**axis, "autorange": "reversed"},
        xaxis={"range": [0, 100], "ticksuffix": " %", "title": {"text": "share of answers"}},
        xaxis2={"range": [1, 5], "overlaying": "x", "side": "top", "showgrid": False, "visible": False},
        margin_l=16,
        margin_r=30,
        margin_b=BELOW,
        legend_title_text="grade ",
        legend_traceorder="normal",
        legend_entrywidth=34,
    )
    return figure.update_layout(height=figure.layout.margin.t + ROW * len(own) + BELOW)


def scaling(points: Sequence[ScalingPoint], by: str, dark: bool = False) -> Figure:
    """Draw the mean grade of DIT against how much there is of something (on a log axis), own suites first."""
    own = [point for point in points if point.by == by and point.amount > 0]
    if not own:
        return sentence(f"Nothing has been measured by {by} in this suite.", dark)
    traces, models = [], list(dict.fromkeys((point.model, point.task, point.interval is not None) for point in own))
    for model, task, measured in models:
        line = [point for point in own if (point.model, point.task) == (model, task)]
        line.sort(key=lambda point: point.amount)
        colour = COLOURS["both"] if measured else theme(dark).faint
        name = f"{model}, {task}s" + (" (measured)" if measured else " (published)")
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": plain(name),
                "x": [point.amount for point in line],
                "y": [point.value for point in line],
                "line": {"color": colour, "dash": "solid" if measured else "dot", "width": 3 if measured else 1.8},
                "marker": {"symbol": "circle" if measured else "diamond-open", "size": 9, "color": colour},
                "error_y": _bars(line, colour) if measured else {"visible": False},
                "hoverinfo": "text",
                "hovertext": [hover(name, f"{point.amount:,} {by}", _point(point)) for point in line],
            }
        )
    most = max(point.amount for point in own)
    ticks = [2**power for power in range(14) if 2**power <= 1.3 * most]
    shown = ticks if len(ticks) < 9 else ticks[::2]
    return canvas(
        traces,
        f"More {by}: {_growth(own)}",
        f"Mean grade of DIT on held-out diffs by {by}, log axis; bars: 95 % interval over diffs",
        dark,
        xaxis={"type": "log", "title": {"text": by}, "tickmode": "array", "tickvals": shown},
        yaxis={"range": [0.9, 5.2], "title": {"text": "mean grade"}, "tickvals": [1, 2, 3, 4, 5]},
        margin={"b": 100},
    )


def label(score: Score) -> str:
    """Return a row's method as short as it is called, with its adapter."""
    return f"{SHORT_NAMES.get(score.method, score.method)} {score.adapter if score.layer is None else ''}".strip()


def title(score: Score) -> str:
    """Return a row's method, with its adapter and layer where it has them."""
    if score.layer is not None:
        return f"{score.method}, layer {score.layer}"
    return f"{score.method} {score.adapter}".strip()


def _bar_hover(score: Score, grade: str) -> str:
    counted = f"{(score.grades or {})[grade]} of {score.n} answers have grade {grade}"
    return hover(title(score), counted, _mean(score), _published(score))


def _mean(score: Score) -> str:
    if score.interval is None:
        return f"mean {score.value:.2f}"
    low, high = score.interval
    return f"mean {score.value:.2f} ({low:.2f} to {high:.2f})"


def _published(score: Score) -> str:
    found = ", ".join(map(_entry, score.published))
    return f"published: {found}" if found else ""


def _entry(published: dict[str, Any]) -> str:
    return f"{published['model']} {published['value']:.2f}"


def _point(point: ScalingPoint) -> str:
    interval = f" ({point.interval[0]:.2f} to {point.interval[1]:.2f})" if point.interval else ""
    return f"mean grade {point.value:.2f}{interval} of {point.n} diffs"


def _diamonds(own: Sequence[Score], dark: bool) -> dict:
    """Published means, each at the height of its method, on an axis of grades."""
    found = [(at, score, entry) for at, score in enumerate(own) for entry in score.published]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "published",
        "xaxis": "x2",
        "x": [entry["value"] for _, _, entry in found],
        "y": [at for at, _, _ in found],
        "marker": {"symbol": "diamond-open", "size": 9, "color": COLOURS["trigger"], "line": {"width": 2}},
        "hoverinfo": "text",
        "hovertext": [hover(title(score), f"published: {_entry(entry)}") for _, score, entry in found],
    }


def _bars(line: Sequence[ScalingPoint], colour: str) -> dict:
    intervals = [point.interval or (point.value, point.value) for point in line]
    return {
        "type": "data",
        "symmetric": False,
        "array": [high - point.value for point, (_, high) in zip(line, intervals, strict=True)],
        "arrayminus": [point.value - low for point, (low, _) in zip(line, intervals, strict=True)],
        "color": colour,
    }


def _growth(points: Sequence[ScalingPoint]) -> str:
    """From where to where the first model's curve goes."""
    line = sorted((point for point in points if point.model == points[0].model), key=lambda point: point.amount)
    first, last = line[0], line[-1]
    return f"{first.model} goes from grade {first.value:.2f} at {first.amount:,} to {last.value:.2f} at {last.amount:,}"


METHOD_LABEL = 24  # characters of a method's name
ALONE = "Nothing to compare: fewer than two methods were graded."
MISSED_OR_NAMED = [[0, "#d5d9e0"], [0.5, "#d5d9e0"], [0.5, "#0b62a4"], [1, "#0b62a4"]]


def who_named(methods: Sequence[NamedDiffs], dark: bool = False, shown: str = "") -> Figure:
    """Draw which methods named which diffs, the diffs that most named first.

    Whether a diff was named is a grade, so no diff is called by its id but `shown`, the score that was revealed.
    """
    if len(methods) < 2:
        return sentence(ALONE, dark)
    diffs = list(dict.fromkeys(diff for method in methods for diff in method.by_diff))
    diffs.sort(key=lambda diff: -sum(method.by_diff.get(diff, False) for method in methods))
    ordered = sorted(methods, key=lambda method: method.share)
    found = {
        (x, y): Cell(float(method.by_diff[diff]), _cell(method, diff, x, shown))
        for y, method in enumerate(ordered)
        for x, diff in enumerate(diffs)
        if diff in method.by_diff
    }
    missed = sum(not any(method.by_diff.get(diff) for method in methods) for diff in diffs)
    labels = ["▲" if diff == shown else "" for diff in diffs]
    return cells(
        found,
        Axis(f"{len(diffs)} diffs, those that most methods named first", labels),
        Axis("", [plain(shortened(method.label, METHOD_LABEL)) for method in ordered]),
        f"{missed} of {len(diffs)} diffs were named by no method" if missed else "Some method named every diff",
        "Named: an answer of grade 4 or 5",
        dark,
        bar={"title": "", "tickmode": "array", "tickvals": [0.25, 0.75], "ticktext": ["missed", "named"]},
        limits=(0.0, 1.0),
        scale=MISSED_OR_NAMED,
    )


def _cell(method: NamedDiffs, diff: str, place: int, shown: str) -> str:
    name = diff if diff == shown else f"diff {place + 1} of this row"
    return hover(method.title, f"{'named' if method.by_diff[diff] else 'missed'} {name}")


def correlations(agreement: Table[Agreement], task: str, dark: bool = False) -> Figure:
    """Draw how the errors of each two methods of a task go together."""
    own = [pair for pair in agreement if pair.task == task]
    known = [(pair.correlation, pair) for pair in own if pair.correlation is not None]
    if not known:
        return sentence("Nothing to compare: no two methods are both right on some diffs and wrong on others.", dark)
    names = list(dict.fromkeys(name for pair in own for name in (pair.first, pair.second)))
    found: dict[tuple[int, int], Cell] = {}
    for pair in own:
        place = names.index(pair.second), names.index(pair.first)
        found[place] = found[place[::-1]] = Cell(pair.correlation, _pair(pair), [])
    highest, most = max(known, key=lambda entry: entry[0])
    labels = [plain(shortened(SHORT_NAMES.get(name, name), METHOD_LABEL)) for name in names]
    return cells(
        found,
        Axis("", labels),
        Axis("", labels),
        f"Errors go together most for {most.first} and {most.second}: {highest:.2f}",
        "1: they fail on the same diffs; 0: independently; below 0: one where the other does not",
        dark,
        bar={"title": "correlation of errors"},
        limits=(-1.0, 1.0),
        scale="RdBu_r",
    )


def _pair(pair: Agreement) -> str:
    correlation = "one of them never errs, or always does"
    if pair.correlation is not None:
        correlation = f"correlation of errors {pair.correlation:.2f}"
    both = f"both named {pair.both} of {pair.n} diffs, neither {pair.neither}"
    one_only = f"only the first {pair.only_first}, only the second {pair.only_second}"
    return hover(f"{pair.first} and {pair.second}", correlation, both, one_only)
