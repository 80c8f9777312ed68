"""Heat maps, layers up: what the oracle reads and where a condition acts, by token; what a diff touches, by module."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from dit_core.errors import DitError, did_you_mean
from dit_core.present.html import percent
from dit_core.present.plots.charts import Axis, Cell, ConditionLine, cells, chosen, label_of, lines, n_layers, untrained
from dit_core.present.plots.layers import (
    APART,
    NOT_YET,
    UNKNOWN,
    PooledReadings,
    confidence,
    grade,
    pool_readings,
    so_far,
)
from dit_core.present.plots.style import hover, named, percent_axis, sentence, share, token_label
from dit_core.records import ModuleChange, Norm, Reading, Table, words

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

GRADE_AXIS = {"tickmode": "array", "tickvals": [1, 2, 3, 4, 5]}
# Of each colour: its value in words, and the colour bar with its ends.
COLOURS: dict[str, tuple[Callable[[float], str], dict[str, Any], tuple[float, float]]] = {
    "confidence": (confidence, {"title": "confidence (mean per token)", **percent_axis()}, (0.0, 1.0)),
    "grade": (grade, {"title": "grade (1 wrong to 5 right)", **GRADE_AXIS}, (1.0, 5.0)),
    "agreement": (
        lambda value: f"{percent(value)} of its words stand in what the model said",
        {"title": "share of its words that the model said too", **percent_axis()},
        (0.0, 1.0),
    ),
}


def heat_map(
    readings: Table[Reading],
    labels: Sequence[str],
    colour: str = "confidence",
    model_said: str = "",
    condition: str | None = None,
    dark: bool = False,
) -> Figure:
    """Draw what the oracle reads out of every layer (up) at every token or span (across), for one condition.

    Several readings of one place are their mean. A cell's customdata is its condition, layer and positions.

    Args:
        readings: what `oracle.read` gave, best with a span like `each:prompt`.
        labels: the target's tokens as they may be shown, secret digits already masked.
        colour: `confidence`; `grade`, once the reference may be shown; or `agreement`: the share of the words of the
            oracle's answer that are in `model_said` too.
        model_said: what the model itself said under this condition.
        condition: which of the table's (written); its first by default.
        dark: whether the page is dark.

    Raises:
        DitError: there is no such colour, or there are fewer labels than tokens read.
    """
    if colour not in COLOURS:
        raise DitError(f"There is no colour '{colour}': use {', '.join(COLOURS)}.{did_you_mean(colour, COLOURS)}")
    if colour == "agreement" and not words(model_said):
        return sentence("The model has said nothing that the oracle could agree with.", dark)
    found = lines(readings, *APART)
    line = chosen(found, condition) if condition else next(iter(found), None)
    if line is None:
        return sentence(NOT_YET, dark)
    spans = sorted({reading.positions for reading in line.records})
    names = ["".join(label_of(labels, position) for position in span) for span in spans]
    value = _agreement(model_said) if colour == "agreement" else attrgetter(colour)
    places: dict[tuple[int, int], list[Reading]] = {}
    for reading in line.records:
        places.setdefault((spans.index(reading.positions), reading.layer), []).append(reading)
    points = {place: point for place, own in places.items() if (point := pool_readings(own, value))}
    if not points:
        return sentence(UNKNOWN, dark)
    in_words, bar, limits = COLOURS[colour]
    count = n_layers(readings)
    beyond = untrained(readings, range(count))

    def cell(place: tuple[int, int], point: PooledReadings) -> Cell:
        where = f"layer {point.layer}, {named(names[place[0]])}"
        text = point.hover(line, where, in_words(point.value), point.layer in beyond)
        return Cell(point.value, text, [line.condition, point.layer, list(spans[place[0]])])

    return cells(
        {place: cell(place, point) for place, point in points.items()},
        Axis("token", [token_label(name) for name in names]),
        Axis("layer", [f"{layer}" if layer in beyond or not beyond else f"● {layer}" for layer in range(count)]),
        _title(line.name, names, points, colour, so_far(readings)),
        "● layers that the oracle was trained on" if beyond else "",
        dark,
        bar=bar,
        limits=limits,
    )


def _agreement(model_said: str) -> Callable[[Reading], float]:
    """The share of the words of an answer that the model said too; 0 for an answer without words."""
    spoken = set(words(model_said))

    def share(reading: Reading) -> float:
        own = words(reading.text)
        return sum(word in spoken for word in own) / len(own) if own else 0.0

    return share


def _title(
    name: str, names: Sequence[str], points: Mapping[tuple[int, int], PooledReadings], colour: str, when: str
) -> str:
    (column, layer), best = max(points.items(), key=lambda item: item[1].value)
    where = f"at layer {layer}, {named(names[column], 14)}{when}"
    if colour == "confidence":
        return f"{name}: the oracle is surest {where} ({percent(best.value)}): {best.first}"
    if colour == "grade":
        if best.value == 1:
            return f"{name}: the oracle is wrong everywhere{when} (grade 1 of 5)"
        return f"{name}: the oracle is nearest {where} ({grade(best.value)}): {best.first}"
    if best.value == 0:
        return f"{name}: the oracle uses no word of what the model said{when}"
    return f"{name}: the oracle agrees most with the model {where}: {best.first}"


def difference_norms(
    norms: Table[Norm], labels: Sequence[str] | None = None, condition: str | None = None, dark: bool = False
) -> Figure:
    """Draw the size of (condition - base) over that of the base, per layer (up) and token (across), for one condition.

    Arguments as of `heat_map`, the tokens' numbers being their labels where none are given; a cell's customdata is its
    condition, layer and positions.

    Raises:
        DitError: there are fewer labels than tokens measured.
    """
    found = lines(norms, "diff", "asked")
    line = chosen(found, condition) if condition else next(iter(found), None)
    known = [record for record in line.records if isfinite(record.ratio)] if line else []
    if line is None or not known:
        return sentence("No activations have been compared yet.", dark)
    positions = sorted({record.position for record in known})
    names = {position: label_of(labels, position) if labels else f"token {position}" for position in positions}

    def cell(line: ConditionLine[Norm], record: Norm) -> Cell:
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
        {(positions.index(record.position), record.layer): cell(line, record) for record in known},
        Axis("token", [token_label(name) for name in names.values()]),
        Axis("layer", [str(layer) for layer in range(n_layers(norms))]),
        title if best.ratio else f"{line.name} changes nothing here",
        "",
        dark,
        bar={"title": "norm of (condition − base) over that of the base", **percent_axis(best.ratio or 1.0)},
        limits=(0.0, best.ratio or 1.0),
    )


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
