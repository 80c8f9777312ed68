"""Cells: one heat map with words on hover, of which all figures over layers and something else are made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import unescape
from typing import TYPE_CHECKING, Any

from dit_core.errors import DitError
from dit_core.present.plots.style import canvas, plain, theme

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

SEQUENTIAL = "Cividis"
BELOW, LETTER = 110, 8
"""Pixels under the cells: the axis title with the colour bar, and each letter of the longest upright label."""


@dataclass(frozen=True)
class Cell:
    """One cell: its value, an escaped hover text, customdata for clicks and, where it is written on, escaped text."""

    value: float
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
    """A heat map of cells by (column, row), rows upwards; what is not there stays empty.

    `bar` describes the colour bar below (title, ticks), `limits` are its ends; the title is told in the note. Rows have
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
    told = ". ".join(filter(None, (note, f"Colour: {bar['title']}")))
    figure = canvas([trace], title, told, dark, xaxis=_axis(x), yaxis=_axis(y))
    inside = len(y.labels) * max(row, min(26, 420 // len(y.labels)))
    below = BELOW + LETTER * max(len(unescape(label)) for label in x.labels)
    # Neither heading nor labels take their height from the cells: plotly fails where nothing is left between them.
    return figure.update_layout(height=figure.layout.margin.t + inside + below)


def label_of(labels: Sequence[str], position: int) -> str:
    """The label of the token at a position; DitError where the caller gave none."""
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
