"""Scaling: how well DIT does by number of training diffs (and by rank of the diffs), beside the published curves.

A suite's own points are data of the suite, in `scaling.json`: measured once, when the suite is made.
"""

import json
from collections.abc import Iterable
from typing import Any

from dit_core.errors import DitError
from dit_core.records import ScalingPoint, Score, Table, records_from_json
from dit_core.records.method_names import DIT
from dit_core.scoreboard.measures import GRADED
from dit_core.scoreboard.published import SCALING, TRAINING_DIFFS
from dit_core.suite import Suite

FILE = "scaling.json"


def scaled(suite: Suite, scores: Iterable[Score]) -> list[ScalingPoint]:
    """The points by number of training diffs that a scoreboard holds: one per DIT adapter of a task with several."""
    adapters = {info.name: info for info in suite.adapters.values() if info.trained_on}
    counts = {task: sum(info.task == task for info in adapters.values()) for task in suite.tasks}
    return [
        ScalingPoint(
            TRAINING_DIFFS, adapters[one.adapter].trained_on, suite.name, one.task, one.n, one.value, one.interval
        )
        for one in scores
        if (one.method, one.measure) == (DIT, GRADED) and one.adapter in adapters and counts[one.task] > 1
    ]


def published() -> list[ScalingPoint]:
    """Other people's points (arXiv 2510.05092): a judge's mean grades of 100 diffs, without intervals."""
    return [
        ScalingPoint(by, amount, model, "topic", 100, value)
        for (model, by), points in SCALING.items()
        for amount, value in points.items()
    ]


def as_json(suite: Suite, points: Iterable[ScalingPoint]) -> dict[str, Any]:
    """The content of a suite's `scaling.json` with these points; those it has by anything else stay."""
    points = tuple(points)
    there = (one for one in read_scaling(suite) or () if one.by not in {new.by for new in points})
    table = Table(suite.name, "rows", (*points, *there), {"fingerprint": suite.fingerprint})
    return table.to_json()


def read_scaling(suite: Suite) -> Table[ScalingPoint] | None:
    """The suite's own points; None where it has none. Raises DitError for a damaged file."""
    path = suite.folder / FILE
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
        points = records_from_json(rows, ScalingPoint)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError, DitError) as error:
        raise DitError(f"'{path}' does not hold scaling curves: get the suite's files anew.") from error
    return Table(suite.name, "rows", points)
