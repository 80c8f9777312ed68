"""The measures of an answer, and the scores that come of many findings."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from dit_core.grading import GRADES, Grader, GradeResult, exact, grade, mentions
from dit_core.records import DiffInfo, Finding, Score, Table
from dit_core.scoreboard.published import Figures, published_figures
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
"""Measures that follow from a grade, as functions of it."""
SHARES = frozenset(("exact", "at_least_2", "mentions", "equals_base"))
"""Measures that are right or wrong for each answer; the others are mean grades, and nats per token."""
GRADED, LIFT = "mean_grade", "lift"
Values = tuple[bool | int | float | None, ...]
"""A diff's answers by one measure, as `Finding.values` keeps them."""


def _at_least_2(grade: int | None) -> int | None:
    return None if grade is None else OF_GRADE["at_least_2"](grade)


def measure_answer(suite: Suite, info: DiffInfo, measures: Iterable[str], text: str) -> dict[str, Values]:
    """Return one answer's value by each measure; None where the diff's reference is not known."""
    known = bool(info.reference.strip())
    return {measure: (MEASURES[measure](suite, info, text) if known else None,) for measure in measures}


def regrade(suite: Suite, findings: Table[Finding], grader: Grader, progress: Progress | None = None) -> Table[Finding]:
    """Return the same findings with the grades of another grader.

    Raises:
        DitError: the grader can't grade, see `Grader.grade_all`.
    """
    pairs = pairs_to_grade(suite, findings)
    results = grader.grade_all(pairs, progress or (lambda *_: None))
    return with_grades(suite, findings, dict(zip(pairs, results, strict=True)), grader.name)


def pairs_to_grade(suite: Suite, findings: Table[Finding]) -> list[tuple[str, str]]:
    """Return the (reference, answer) pairs of findings that a grader decides, each once."""
    graded = [finding for finding in findings if OF_GRADE.keys() & finding.values.keys()]
    pairs = ((suite.diff(finding.diff).reference, text) for finding in graded for text in finding.answers)
    return list(dict.fromkeys(pairs))


def with_grades(
    suite: Suite, findings: Table[Finding], results: Mapping[tuple[str, str], GradeResult | None], grader: str
) -> Table[Finding]:
    """Return the same findings with a grader's results for `pairs_to_grade`.

    Exact matches and mentions stay as they were. So do the layers of readings, which were chosen by the rules.
    """

    def with_new_grades(finding: Finding) -> Finding:
        reference = suite.diff(finding.diff).reference
        graded = [results.get((reference, text)) for text in finding.answers]
        values = {
            measure: tuple(None if result is None else of_grade(result.grade) for result in graded)
            for measure, of_grade in OF_GRADE.items()
            if measure in finding.values
        }
        return replace(finding, values=finding.values | values)

    return replace(findings, records=tuple(map(with_new_grades, findings)), extra=findings.extra | {"grader": grader})


def scores(findings: Iterable[Finding], suite: str = "") -> list[Score]:
    """Return the scoreboard's rows: one per method, layer and measure, in the order of the findings.

    `suite` is the name of the suite that they are of, for the published figures beside.
    """
    groups: dict[tuple[str, str, str, int | None, str], tuple[list[str], list[float]]] = {}
    for finding in findings:
        for measure, values in finding.values.items():
            key = finding.method, finding.task, finding.adapter, finding.layer, measure
            diffs, known = groups.setdefault(key, ([], []))
            new = [value for value in values if value is not None]
            diffs += [finding.diff] * len(new)
            known += new
    beside = published_figures(suite)
    return [_scored(*row, diffs, known, beside) for row, (diffs, known) in groups.items() if known]


def _scored(
    method: str,
    task: str,
    adapter: str,
    layer: int | None,
    measure: str,
    diffs: Sequence[str],
    values: Sequence[float],
    beside: Figures,
) -> Score:
    """Return the score of `values`, one per answer, with what is published `beside`; `diffs` has the diff of each."""
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
        published=beside.get((method, task, adapter), []) if graded else [],
    )


def interval_over_diffs(diffs: Sequence[str], values: Sequence[float], share: bool) -> tuple[float, float]:
    """Return the 95 % interval of the mean of `values`, one per answer; `diffs` has the diff of each.

    Wilson's for a share of one answer per diff, else bootstrapped over diffs: of several answers about one diff, their
    mean is what is resampled.
    """
    by_diff: dict[str, list[float]] = {}
    for diff, value in zip(diffs, values, strict=True):
        by_diff.setdefault(diff, []).append(value)
    if share and len(by_diff) == len(values):
        return wilson_interval(sum(values), len(values))
    return bootstrap_interval([sum(of_diff) / len(of_diff) for of_diff in by_diff.values()])
