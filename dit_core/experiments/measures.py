"""What is measured of the answers of many diffs, and the scoreboard's row that comes of it."""

from collections import Counter
from collections.abc import Callable, Sequence

from dit_core.experiments.intervals import over_diffs
from dit_core.experiments.published import PUBLISHED
from dit_core.grading import GRADES, exact, grade, mentions
from dit_core.records import DiffInfo, Score
from dit_core.suite import Suite

MEASURES: dict[str, Callable[[Suite, DiffInfo, str], float]] = {
    "exact": exact,
    "mean_grade": grade,
    "at_least_2": lambda suite, info, text: grade(suite, info, text) >= 2,
    "mentions": mentions,
}
SHARES = frozenset(("exact", "at_least_2", "mentions", "equals_base"))
"""Measures that are right or wrong of each answer; the others are a mean of grades, and nats per token."""
GRADED, LIFT = "mean_grade", "lift"


def scored(
    method: str,
    task: str,
    adapter: str,
    measure: str,
    diffs: Sequence[str],
    values: Sequence[float],
    layer: int | None = None,
) -> Score:
    """One row of the scoreboard: the mean of `values`, one per answer, each of the diff at its place in `diffs`."""
    graded, counts = measure == GRADED, Counter(values)
    return Score(
        method=method,
        task=task,
        adapter=adapter,
        layer=layer,
        measure=measure,
        n=len(values),
        value=sum(values) / len(values),
        interval=over_diffs(diffs, values, share=measure in SHARES),
        grades={str(step): counts[step] for step in GRADES} if graded else None,
        published=PUBLISHED.get((method, task, adapter), []) if graded else [],
    )
