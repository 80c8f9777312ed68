"""By layer: how sure the oracle is (or how right), one line per condition, its own words on hover and on the axis."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from statistics import fmean
from typing import TYPE_CHECKING, Any

from dit_core.errors import DitError, did_you_mean
from dit_core.present.html import percent
from dit_core.present.plots.charts import (
    ConditionLine,
    chosen,
    layer_axis,
    layer_step,
    lines,
    n_layers,
    trace,
    untrained,
)
from dit_core.present.plots.style import canvas, hover, percent_axis, plain, quoted, sentence, shortened, theme
from dit_core.records import Reading, Table

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

APART = ("diff", "asked", "question", "kind")  # what is read or asked otherwise is another line
MOST_ANSWERS = 4  # that a hover text lists
UNKNOWN = "Nothing to grade against: what was trained is not known, or not revealed."
NOT_YET = "The oracle has not read anything yet."
UNTRAINED = "The oracle was not trained on this layer."


@dataclass(frozen=True)
class PooledReadings:
    """The readings of one layer (and place): the mean of a value, and the answers, the most frequent first."""

    layer: int
    depth_percent: float
    value: float
    answers: tuple[tuple[str, int], ...]

    @property
    def total(self) -> int:
        return sum(count for _, count in self.answers)

    @property
    def first(self) -> str:
        """The most frequent answer; of several readings, in how many of them."""
        answer, count = self.answers[0]
        return quoted(answer) if self.total == 1 else f"{quoted(answer)} in {count} of {self.total} readings"

    def hover(self, line: ConditionLine[Reading], where: str, value: str, untrained: bool) -> str:
        """An escaped hover text: condition and place, the oracle's own words, the value as written."""
        if self.total == 1:
            answers = [quoted(self.answers[0][0], 120)]
        else:
            answers = [f"{count} × {quoted(answer, 80)}" for answer, count in self.answers[:MOST_ANSWERS]]
            rest = self.total - sum(count for _, count in self.answers[:MOST_ANSWERS])
            answers += [f"and {rest} more of {self.total}"] if rest else []
            value = f"mean {value}"
        depth = f"at {self.depth_percent:g} % of the depth"
        return hover(f"{line.name}, {where}", *answers, value, depth, UNTRAINED if untrained else "")


def pool_readings(readings: Sequence[Reading], value: Callable[[Reading], float | None]) -> PooledReadings | None:
    """Take readings of one layer (and place) together; return None where the value is known of none of them."""
    known = [number for number in map(value, readings) if number is not None]
    if not known:
        return None
    counts = Counter(reading.text.strip() for reading in readings)
    return PooledReadings(readings[0].layer, readings[0].depth_percent, fmean(known), tuple(counts.most_common()))


def so_far(readings: Table[Reading]) -> str:
    """Return what a title adds while a table is still filling: it has fewer records than its `n_readings`."""
    return " so far" if len(readings) < readings.extra.get("n_readings", 0) else ""


def confidence(value: float) -> str:
    """Return a confidence in words."""
    return f"confidence {percent(value)}"


def grade(value: float) -> str:
    """Return a grade, or a mean of grades, in words."""
    return f"grade {value:.2g} of 5"


def nats(value: float) -> str:
    """Return a log-probability in words."""
    return f"{value:.1f} nats".replace("-", "−")


def of_reference(value: float) -> str:
    """Return the log-probability of the reference in words."""
    return f"log-probability of the reference {nats(value)}"


WORD_LENGTH = 14
InWords = Callable[[float], str]
# Of each measure: its value in words, the axis title and how the axis is drawn.
MEASURES: dict[str, tuple[InWords, str, dict[str, Any]]] = {
    "confidence": (confidence, "confidence (mean per token)", {"range": [-0.03, 1.05], **percent_axis()}),
    "grade": (grade, "grade (1 wrong to 5 right)", {"range": [0.8, 5.2], "tick0": 1, "dtick": 1}),
    "log_prob_reference": (of_reference, "log-probability of the reference (nats)", {}),
}


def by_layer(
    readings: Table[Reading], y: str = "confidence", selected: str | None = None, dark: bool = False
) -> Figure:
    """Draw how an oracle's readings change over layers, one line per condition.

    With several readings per layer (samples, spans) the line is their mean. A table that is still filling (fewer
    records than its `n_readings`) keeps the whole range of layers. Hollow markers: layers outside the oracle's
    `trained_layers`. A point's customdata is its condition and layer.

    Args:
        readings: what `oracle.read` or `oracle.stream` gave.
        y: `confidence`; or, once the reference may be shown, `grade` or `log_prob_reference`.
        selected: the condition (written) whose answers stand along the axis and that the title is about; by default
            the one that reaches highest.
        dark: whether the page is dark.

    Raises:
        DitError: there is no such measure.
    """
    if y not in MEASURES:
        raise DitError(f"There is no '{y}' to draw: use {', '.join(MEASURES)}.{did_you_mean(y, MEASURES)}")
    if not len(readings):
        return sentence(NOT_YET, dark)
    points = {
        line: [pool_readings(own, attrgetter(y)) for own in line.by_layer().values()]
        for line in lines(readings, *APART)
    }
    found = {line: known for line, own in points.items() if (known := [point for point in own if point])}
    if not found:
        return sentence(UNKNOWN, dark)
    lead = chosen(list(found), selected) or max(found, key=lambda line: _best(found[line]).value)
    count = n_layers(readings)
    beyond = untrained(readings, range(count))
    in_words, title, axis = MEASURES[y]
    below = f"layer, and the oracle's words for {plain(lead.name)}"
    return canvas(
        [_trace(line, own, in_words, beyond, count, line is lead) for line, own in found.items()],
        _title(readings, lead, found[lead], y),
        _note(readings, beyond),
        dark,
        height=500 + 20 * max(0, len(found) - 5),
        xaxis={**layer_axis(count, below, through=_best(found[lead]).layer), "title_standoff": 70},
        yaxis={**axis, "title_text": title},
        annotations=[_word(point, theme(dark).ink) for point in _spread(found[lead], count)],
    )


def _trace(
    line: ConditionLine[Reading],
    points: Sequence[PooledReadings],
    in_words: InWords,
    beyond: set[int],
    count: int,
    lead: bool,
) -> dict[str, Any]:
    layers = [point.layer for point in points]
    hovers = [
        point.hover(line, f"layer {point.layer}", in_words(point.value), point.layer in beyond) for point in points
    ]
    drawn = trace(line, layers, [point.value for point in points], hovers, count, lead)
    drawn["marker"]["symbol"] = [line.symbol + ("-open" if layer in beyond else "") for layer in layers]
    return drawn


def _best(points: Sequence[PooledReadings]) -> PooledReadings:
    return max(points, key=lambda point: point.value)


def _title(
    readings: Table[Reading], line: ConditionLine[Reading], points: Sequence[PooledReadings], measure: str
) -> str:
    best, when = _best(points), so_far(readings)
    if measure == "confidence":
        return f"{line.name}: the oracle is surest at layer {best.layer}{when} ({percent(best.value)}): {best.first}"
    if measure == "log_prob_reference":
        return f"{line.name}: the reference is likeliest at layer {best.layer}{when} ({nats(best.value)})"
    if best.value == 1:
        return f"{line.name}: the oracle is wrong at every layer{when} (grade 1 of 5)"
    return f"{line.name}: the oracle is nearest at layer {best.layer}{when} ({grade(best.value)}): {best.first}"


def _note(readings: Table[Reading], beyond: set[int]) -> str:
    questions = {reading.question for reading in readings}
    asked = f"Asked of the oracle: {quoted(questions.pop(), 44)}." if len(questions) == 1 else ""
    return f"{asked}{' Hollow: layers it was not trained on.' if beyond else ''}".strip()


def _spread(points: Sequence[PooledReadings], count: int) -> list[PooledReadings]:
    """As many points as have room for a word: the highest among them, the others at even distances from it."""
    best = _best(points)
    return [point for point in points if (point.layer - best.layer) % layer_step(count) == 0]


def _word(point: PooledReadings, colour: str) -> dict[str, Any]:
    """An answer below the axis, slanted so that neighbours never meet."""
    return {
        "text": plain(shortened(point.answers[0][0], WORD_LENGTH)) or "–",
        "x": point.layer,
        "xref": "x",
        "xanchor": "right",
        "y": 0,
        "yref": "paper",
        "yanchor": "top",
        "yshift": -20,
        "xshift": 6,
        "textangle": -38,
        "showarrow": False,
        "font": {"size": 11, "color": colour},
    }
