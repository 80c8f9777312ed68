"""Agreement as figures: which methods named which diffs, and whether their errors go together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dit_core.present.plots.cells import Axis, Cell, cells
from dit_core.present.plots.style import hover, plain, sentence, shortened
from dit_core.records import Agreement, NamedDiffs, Table
from dit_core.records.method_names import SHORT_NAMES

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


LABEL = 24  # characters of a method's name
NOTHING = "Nothing to compare: fewer than two methods were graded."
MISSED_OR_NAMED = [[0, "#d5d9e0"], [0.5, "#d5d9e0"], [0.5, "#0b62a4"], [1, "#0b62a4"]]


def who_named(methods: Sequence[NamedDiffs], dark: bool = False, shown: str = "") -> Figure:
    """Which methods named which diffs, the diffs that most named first.

    Whether a diff was named is a grade, so no diff is called by its id but `shown`, the one that was revealed.
    """
    if len(methods) < 2:
        return sentence(NOTHING, dark)
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
        Axis("", [plain(shortened(method.label, LABEL)) for method in ordered]),
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
    """How the errors of each two methods of a task go together."""
    own = [one for one in agreement if one.task == task]
    known = [one for one in own if one.correlation is not None]
    if not known:
        return sentence("Nothing to compare: no two methods are both right on some diffs and wrong on others.", dark)
    names = list(dict.fromkeys(name for one in own for name in (one.first, one.second)))
    found = {}
    for one in own:
        place = names.index(one.second), names.index(one.first)
        found[place] = found[place[::-1]] = Cell(one.correlation, _pair(one), [])
    most = max(known, key=lambda one: one.correlation)
    labels = [plain(shortened(SHORT_NAMES.get(name, name), LABEL)) for name in names]
    return cells(
        found,
        Axis("", labels),
        Axis("", labels),
        f"Errors go together most for {most.first} and {most.second}: {most.correlation:.2f}",
        "1: they fail on the same diffs; 0: independently; below 0: one where the other does not",
        dark,
        bar={"title": "correlation of errors"},
        limits=(-1.0, 1.0),
        scale="RdBu_r",
    )


def _pair(one: Agreement) -> str:
    correlation = "one of them never errs, or always does"
    if one.correlation is not None:
        correlation = f"correlation of errors {one.correlation:.2f}"
    both = f"both named {one.both} of {one.n} diffs, neither {one.neither}"
    one_only = f"only the first {one.only_first}, only the second {one.only_second}"
    return hover(f"{one.first} and {one.second}", correlation, both, one_only)
