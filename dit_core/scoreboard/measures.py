"""What is measured of the answers of many diffs, and the scoreboard's rows that come of it."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from dit_core.grading import GRADES, Grader, GradeResult, exact, grade, mentions
from dit_core.records import DiffInfo, Finding, Score, Table
from dit_core.scoreboard.published import PUBLISHED
from dit_core.scoreboard.rows import Progress
from dit_core.stats import bootstrap_interval, wilson_interval
from dit_core.suite import Suite

MEASURES: dict[str, Callable[[Suite, DiffInfo, str], float | None]] = {
    "exact": exact,
    "mean_grade": grade,
    "at_least_2": lambda suite, info, text: _at_least_2(grade(suite, info, text)),
    "mentions": mentions,
}
OF_GRADE: dict[str, Callable[[int], int]] = {"mean_grade": lambda grade: grade, "at_least_2": lambda grade: grade >= 2}
"""The measures that a grader decides."""
SHARES = frozenset(("exact", "at_least_2", "mentions", "equals_base"))
"""Measures that are right or wrong of each answer; the others are a mean of grades, and nats per token."""
GRADED, LIFT = "mean_grade", "lift"
Values = tuple[bool | int | float | None, ...]
"""A diff's answers by one measure, as `Finding.values` keeps them."""


def _at_least_2(grade: int | None) -> int | None:
    return None if grade is None else OF_GRADE["at_least_2"](grade)


def measure_answer(suite: Suite, info: DiffInfo, measures: Iterable[str], text: str) -> dict[str, Values]:
    """One answer by each measure; None without a reference, of which nothing can be right or wrong."""
    known = bool(info.reference.strip())
    return {measure: (MEASURES[measure](suite, info, text) if known else None,) for measure in measures}


def regrade(suite: Suite, found: Table[Finding], grader: Grader, progress: Progress | None = None) -> Table[Finding]:
    """The same findings by the grades of another grader. Raises what `Grader.grade_all` raises."""
    pairs = pairs_to_grade(suite, found)
    marks = grader.grade_all(pairs, progress or (lambda *_: None))
    return with_grades(suite, found, dict(zip(pairs, marks, strict=True)), grader.name)


def pairs_to_grade(suite: Suite, found: Table[Finding]) -> list[tuple[str, str]]:
    """The references and answers of findings that a grader decides, each once."""
    graded = [one for one in found if OF_GRADE.keys() & one.values.keys()]
    return list(dict.fromkeys((suite.diff(one.diff).reference, text) for one in graded for text in one.answers))


def with_grades(
    suite: Suite, found: Table[Finding], marks: Mapping[tuple[str, str], GradeResult | None], grader: str
) -> Table[Finding]:
    """The same findings by a grader's marks of what is `pairs_to_grade`; what is exact or mentioned stays as it was.

    So do the layers that readings come from: these were chosen by the rules.
    """

    def anew(one: Finding) -> Finding:
        own = [marks.get((suite.diff(one.diff).reference, text)) for text in one.answers]
        values = {
            measure: tuple(None if mark is None else of_grade(mark.grade) for mark in own)
            for measure, of_grade in OF_GRADE.items()
            if measure in one.values
        }
        return replace(one, values=one.values | values)

    return replace(found, records=tuple(map(anew, found)), extra=found.extra | {"grader": grader})


def scores(findings: Iterable[Finding]) -> list[Score]:
    """The scoreboard's rows: one per method, layer and measure, in the order in which they first come up."""
    found: dict[tuple[str, str, str, int | None, str], tuple[list[str], list[float]]] = {}
    for one in findings:
        for measure, values in one.values.items():
            diffs, known = found.setdefault((one.method, one.task, one.adapter, one.layer, measure), ([], []))
            own = [value for value in values if value is not None]
            diffs += [one.diff] * len(own)
            known += own
    return [_scored(*row, diffs, known) for row, (diffs, known) in found.items() if known]


def _scored(
    method: str,
    task: str,
    adapter: str,
    layer: int | None,
    measure: str,
    diffs: Sequence[str],
    values: Sequence[float],
) -> Score:
    """The mean of `values`, one per answer, each of the diff at its place in `diffs`."""
    graded, counts = measure == GRADED, Counter(values)
    return Score(
        method=method,
        task=task,
        adapter=adapter,
        layer=layer,
        measure=measure,
        n=len(values),
        value=sum(values) / len(values),
        interval=interval_over_diffs(diffs, values, share=measure in SHARES),
        grades={str(step): counts[step] for step in GRADES} if graded else None,
        published=PUBLISHED.get((method, task, adapter), []) if graded else [],
    )


def interval_over_diffs(diffs: Sequence[str], values: Sequence[float], share: bool) -> tuple[float, float]:
    """The interval of the mean of `values`, one per answer, each of the diff at its place in `diffs`.

    Wilson's for a share of one answer per diff, else bootstrapped. Of several answers of one diff, the diff is what
    was drawn: their mean counts once, however many they are.
    """
    by_diff: dict[str, list[float]] = {}
    for diff, value in zip(diffs, values, strict=True):
        by_diff.setdefault(diff, []).append(value)
    if share and len(by_diff) == len(values):
        return wilson_interval(sum(values), len(values))
    return bootstrap_interval([sum(own) / len(own) for own in by_diff.values()])
