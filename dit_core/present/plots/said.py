"""What the oracle said at one place, all its samples taken together: a mean, and its answers with their counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from dit_core.present.html import percent
from dit_core.present.plots.lines import Line
from dit_core.present.plots.style import hover, quoted
from dit_core.records import Reading, Table

APART = ("diff", "asked", "question", "kind")  # what is read or asked otherwise is another line
MOST_ANSWERS = 4  # that a hover text lists
UNKNOWN = "Nothing to grade against: what was trained is not known, or not revealed."
NOT_YET = "The oracle has not read anything yet."
UNTRAINED = "The oracle was not trained on this layer."


@dataclass(frozen=True)
class Said:
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

    def hover(self, line: Line[Reading], where: str, value: str, untrained: bool) -> str:
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


def said(readings: Sequence[Reading], value: Callable[[Reading], float | None]) -> Said | None:
    """Readings of one layer taken together; None where the value is known of none of them."""
    known = [number for number in map(value, readings) if number is not None]
    if not known:
        return None
    counts = Counter(reading.text.strip() for reading in readings)
    return Said(readings[0].layer, readings[0].depth_percent, fmean(known), tuple(counts.most_common()))


def so_far(readings: Table[Reading]) -> str:
    """What a title adds while a table is still filling: it has fewer records than its `n_readings`."""
    return " so far" if len(readings) < readings.extra.get("n_readings", 0) else ""


def confidence(value: float) -> str:
    """A confidence in words."""
    return f"confidence {percent(value)}"


def grade(value: float) -> str:
    """A grade, or a mean of grades, in words."""
    return f"grade {value:.2g} of 5"


def nats(value: float) -> str:
    """A log-probability in words."""
    return f"{value:.1f} nats".replace("-", "−")


def of_reference(value: float) -> str:
    """The log-probability of the reference in words."""
    return f"log-probability of the reference {nats(value)}"
