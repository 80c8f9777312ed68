"""The two charts that the figures over layers are made of: lines of conditions, and cells of a heat map."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from html import unescape
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from dit_core.errors import DitError
from dit_core.present.palette import COLOURS, TITLES
from dit_core.present.plots.style import canvas, plain, quoted, shortened, theme
from dit_core.records import Table
from dit_core.records.condition import OWN, Condition

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


class LayerRecord(Protocol):
    """A record about one layer under one condition."""

    @property
    def condition(self) -> str: ...

    @property
    def layer(self) -> int: ...


R = TypeVar("R", bound=LayerRecord)
MOST_LABELS = 12  # that stand side by side on 400 pixels
_COMPARISON = {"base": "base", "diff": "diff", "diff+right": "trigger", "dit": "dit", "diff+dit": "both"}
_LOOKS = {
    "base": ("diamond", "dot"),
    "diff": ("square", "dash"),
    "trigger": ("triangle-up", "dashdot"),
    "dit": ("triangle-down", "longdash"),
    "both": ("circle", "solid"),
    "other": ("star", "longdashdot"),
}
# For what the comparison has no look for: further conditions, and one condition asked twice. The numbers of
# symbols and dashes have no common divisor, so that pairs repeat late.
_MORE_COLOURS = ("#cc79a7", "#4aa3d8", "#a0522d", "#6b8e23")
_MORE_SYMBOLS = ("pentagon", "cross", "hexagram", "x", "hexagon")
_MORE_DASHES = ("6px,2px,2px,2px", "2px,6px", "10px,3px", "4px,4px", "12px,3px,2px,3px,2px,3px", "1px,3px")


@dataclass(frozen=True, eq=False)
class ConditionLine(Generic[R]):
    """Records of one condition in the order of the table, with a name (not escaped), colour, marker and dash."""

    condition: str
    name: str
    colour: str
    symbol: str
    dash: str
    records: tuple[R, ...]

    def by_layer(self) -> dict[int, list[R]]:
        """Return the records of each layer, from the lowest layer up."""
        layers: dict[int, list[R]] = {}
        for record in sorted(self.records, key=lambda record: record.layer):
            layers.setdefault(record.layer, []).append(record)
        return layers


def kind_of(condition: str) -> str:
    """Return the palette's key for a written condition; `other` where it is none of the comparison's own."""
    return _COMPARISON.get(str(Condition.parse(condition)), "other")


def name_of(condition: str) -> str:
    """Return a condition's title in the comparison, else its written form, with a trigger of one's own in quotes."""
    kind = kind_of(condition)
    if kind != "other":
        return TITLES[kind]
    parsed = Condition.parse(condition)
    if not parsed.trigger.startswith(OWN):
        return str(parsed)
    rest = str(replace(parsed, trigger="absent"))
    return f"{rest} + {quoted(parsed.trigger.removeprefix(OWN), 20)}"


def lines(records: Iterable[R], *apart: str) -> list[ConditionLine[R]]:
    """Return a line per condition and per value of the fields `apart`, in the order in which they first come up.

    A name holds of those fields what tells lines of one condition apart.
    """
    groups: dict[tuple[Any, ...], list[R]] = {}
    for record in records:
        key = (record.condition, *(getattr(record, field) for field in apart))
        groups.setdefault(key, []).append(record)
    found: list[ConditionLine[R]] = []
    used: set[str] = set()
    more = 0
    for key, own in groups.items():
        kind = kind_of(key[0])
        colour, (symbol, dash) = COLOURS[kind], _LOOKS[kind]
        if kind in used:
            symbol, dash = _MORE_SYMBOLS[more % len(_MORE_SYMBOLS)], _MORE_DASHES[more % len(_MORE_DASHES)]
            colour = _MORE_COLOURS[more % len(_MORE_COLOURS)] if kind == "other" else colour
            more += 1
        used.add(kind)
        found.append(ConditionLine(key[0], _name(key, list(groups)), colour, symbol, dash, tuple(own)))
    return found


def chosen(found: Sequence[ConditionLine[R]], condition: str | None) -> ConditionLine[R] | None:
    """Return the first line of a written condition; None where there is none, or `condition` is None."""
    wanted = None if condition is None else str(Condition.parse(condition))
    return next((line for line in found if line.condition == wanted), None)


def n_layers(table: Table) -> int:
    """Return how many layers to keep room for: all of the base's where the table knows them, else to the last read."""
    return max([table.extra.get("n_layers", 1), *(record.layer + 1 for record in table)])


def untrained(table: Table, layers: Iterable[int]) -> set[int]:
    """Return those of the layers that the oracle was not trained on; none where the table doesn't say."""
    trained = table.extra.get("trained_layers")
    return set(layers) - set(trained) if trained is not None else set()


def layer_step(count: int) -> int:
    """Return every how many layers there is room for a label."""
    return -(-count // MOST_LABELS)


def layer_axis(count: int, title: str = "layer", through: int = 0) -> dict[str, Any]:
    """Return the x axis from the first layer to the last; as many are labelled as fit, layer `through` among them."""
    ticks = {"tickmode": "linear", "tick0": through, "dtick": layer_step(count)}
    return {"title": {"text": title}, "range": [-0.5, count - 0.5], **ticks}


def trace(
    line: ConditionLine[R],
    layers: Sequence[int],
    values: Sequence[float],
    hovers: Sequence[str],
    count: int,
    lead: bool,
) -> dict[str, Any]:
    """Draw a line of values over some of `count` layers, with escaped hover texts; `lead` draws it stronger.

    A point's customdata is its condition and layer.
    """
    smaller = 3 if count > 2 * MOST_LABELS else 0
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": plain(line.name),
        "x": list(layers),
        "y": list(values),
        "line": {"color": line.colour, "dash": line.dash, "width": 3 if lead else 1.8},
        "marker": {"symbol": line.symbol, "color": line.colour, "size": (10 if lead else 8) - smaller},
        "hoverinfo": "text",
        "hovertext": list(hovers),
        "hoverlabel": {"bordercolor": line.colour},
        "customdata": [[line.condition, layer] for layer in layers],
    }


def _name(key: tuple[Any, ...], keys: Sequence[tuple[Any, ...]]) -> str:
    same = [other for other in keys if other[0] == key[0]]
    differing = [str(value) for at, value in enumerate(key) if at and len({other[at] for other in same}) > 1]
    return " · ".join((name_of(key[0]), *(shortened(value, 28) for value in differing)))


SEQUENTIAL = "Cividis"
BELOW, LETTER = 110, 8
"""Pixels under the cells: the axis title with the colour bar, and each letter of the longest upright label."""


@dataclass(frozen=True)
class Cell:
    """One cell: its value (None has no colour), an escaped hover text, customdata for clicks, escaped text on it."""

    value: float | None
    hover: str
    data: Any = None
    text: str = ""


@dataclass(frozen=True)
class Axis:
    """One side of the cells: its title, and the (already escaped) labels in order."""

    title: str
    labels: Sequence[str]


def cells(
    found: Mapping[tuple[int, int], Cell],
    x: Axis,
    y: Axis,
    title: str,
    note: str,
    dark: bool,
    *,
    bar: dict[str, Any],
    limits: tuple[float, float],
    scale: Any = SEQUENTIAL,
    row: int = 15,
) -> Figure:
    """Draw a heat map of cells by (column, row), rows upwards; what is not there stays empty.

    `bar` describes the colour bar below (title, ticks), `limits` are its ends; its title stands in the note. Rows have
    at least `row` pixels.
    """

    def table(of: str, nothing: Any = None) -> list[list[Any]]:
        """One attribute of all cells, row by row."""
        grid = [[found.get((column, line)) for column in range(len(x.labels))] for line in range(len(y.labels))]
        return [[getattr(cell, of) if cell else nothing for cell in line] for line in grid]

    written = any(cell.text for cell in found.values())
    trace = {
        "type": "heatmap",
        "name": bar["title"],
        "x": [str(at) for at in range(len(x.labels))],
        "y": [str(at) for at in range(len(y.labels))],
        "z": table("value"),
        "zmin": limits[0],
        "zmax": limits[1],
        "colorscale": scale,
        "hoverinfo": "text",
        "hovertext": table("hover"),
        "hoverongaps": False,
        "customdata": table("data"),
        "xgap": 1,
        "ygap": 1,
        "colorbar": _bar(bar, dark),
    }
    if written:
        trace |= {
            "text": table("text", ""),
            "texttemplate": "%{text}",
            "textfont": {"size": 10, "color": theme(dark).ink},
        }
    notes = ". ".join(filter(None, (note, f"Colour: {bar['title']}")))
    figure = canvas([trace], title, notes, dark, xaxis=_axis(x), yaxis=_axis(y))
    inside = len(y.labels) * max(row, min(26, 420 // len(y.labels)))
    below = BELOW + LETTER * max(len(unescape(label)) for label in x.labels)
    # Neither heading nor labels take their height from the cells: plotly fails where nothing is left between them.
    return figure.update_layout(height=figure.layout.margin.t + inside + below)


def label_of(labels: Sequence[str], position: int) -> str:
    """Return the label of the token at a position.

    Raises:
        DitError: the caller gave none for it.
    """
    if position >= len(labels):
        raise DitError(f"There are {len(labels)} token labels, and token {position} was read: give one for each.")
    return labels[position]


def _axis(axis: Axis) -> dict[str, Any]:
    """Plotly leaves out labels of categories that have no room, which it does not do for labels that are listed."""
    return {
        "type": "category",
        "title": {"text": plain(axis.title), "standoff": 8},
        "labelalias": {str(at): label for at, label in enumerate(axis.labels)},
        "range": [-0.5, len(axis.labels) - 0.5],
        "showgrid": False,
        "ticks": "",
        "autotickangles": [0, -90],
        "tickfont": {"size": 12 if len(axis.labels) <= 16 else 10},
    }


def _bar(bar: dict[str, Any], dark: bool) -> dict[str, Any]:
    """The colour bar without its title: plotly lays one out over the bar, or gives it more room than there is."""
    return {
        "orientation": "h",
        "thickness": 10,
        "len": 0.7,
        "x": 0.5,
        "xanchor": "center",
        "y": 0,
        "yref": "container",
        "yanchor": "bottom",
        "outlinewidth": 0,
        "ypad": 6,
        "tickfont": {"size": 11, "color": theme(dark).faint},
        **{key: value for key, value in bar.items() if key != "title"},
    }
