"""Stored scoreboards: figures that a suite ships, with when and on what machine they were measured."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from dit_core.errors import DitError
from dit_core.grading import Grader
from dit_core.project import lazy_property, versions
from dit_core.records import (
    Agreement,
    Finding,
    NamedDiffs,
    Record,
    ScalingPoint,
    Score,
    Table,
    as_dict,
    records_from_json,
)
from dit_core.records.scores import DIT
from dit_core.scoreboard.measures import GRADED
from dit_core.scoreboard.method_agreement import agreement, named_diffs
from dit_core.scoreboard.published import SCALING, TRAINING_DIFFS
from dit_core.scoreboard.run import mean_scores, run_settings
from dit_core.suite import Suite

REPORT_FILE, REPORT_KEY = "report.json", "scoreboard"


class Board:
    """The results of a scoreboard run; each part is computed when it is first read, and then kept.

    A run makes a board of every batch, and most of them are never shown: their intervals and votes are not computed.

    Attributes:
        measured: when and on what machine a stored board was made; "" for one that was measured just now.
        of_this_suite: whether the suite's files are still those that were measured.
    """

    def __init__(
        self,
        scores: Callable[[], Table[Score]],
        agreement: Callable[[], Table[Agreement]],
        named: Callable[[], tuple[NamedDiffs, ...]],
        measured: str = "",
        of_this_suite: bool = True,
    ) -> None:
        self._scores, self._agreement, self._named = scores, agreement, named
        self.measured, self.of_this_suite = measured, of_this_suite

    @lazy_property
    def scores(self) -> Table[Score]:
        """The mean of every method by every measure, with its interval."""
        return self._scores()

    @lazy_property
    def agreement(self) -> Table[Agreement]:
        """How methods agree, pair by pair, and what their vote gains."""
        return self._agreement()

    @lazy_property
    def named(self) -> tuple[NamedDiffs, ...]:
        """Which diffs each method named."""
        return self._named()


@dataclass(frozen=True)
class NamedRow(Record):
    """Which diffs a method named and missed, as the report stores it; `key` is (method, task, adapter)."""

    key: tuple[str, str, str]
    named: tuple[str, ...]
    missed: tuple[str, ...]


def board(suite: Suite, findings: Table[Finding], grader: Grader | None = None) -> Board:
    """Return the board of findings; `grader` (by default the rules) grades votes as it did the findings.

    Nothing is computed yet, see `Board`: the grader is asked when `agreement` is read.
    """

    def compare() -> Table[Agreement]:
        table = agreement(suite, findings, grader)
        return replace(table, extra=run_settings(findings) | table.extra)

    return Board(lambda: mean_scores(findings), compare, lambda: tuple(named_diffs(findings)))


def board_json(suite: Suite, findings: Table[Finding]) -> dict[str, Any]:
    """Return the board of findings as the suite's report stores it."""
    results = board(suite, findings)
    return {
        "date": date.today().isoformat(),
        "fingerprint": suite.fingerprint,
        "versions": versions(),
        **{key: value for key, value in results.scores.to_json().items() if key in ("split", "rows")},
        **{key: value for key, value in results.agreement.to_json().items() if key in ("votes", "agreement")},
        "named": [
            as_dict(
                NamedRow(
                    method.key,
                    named=tuple(diff for diff, hit in method.by_diff.items() if hit),
                    missed=tuple(diff for diff, hit in method.by_diff.items() if not hit),
                )
            )
            for method in results.named
        ],
    }


def read_board(suite: Suite) -> Board | None:
    """Read the suite's stored board; None where it has none that can be read."""
    try:
        stored = json.loads((suite.folder / REPORT_FILE).read_text(encoding="utf-8"))[REPORT_KEY]
        names = ("split", "fingerprint", "date", "machine", "versions")
        extra = {"split": "test"} | {name: stored[name] for name in names if name in stored}
        scores = records_from_json(stored["rows"], Score)
        pairs = records_from_json(stored.get("agreement", []), Agreement)
        methods = tuple(
            NamedDiffs(row.key, dict.fromkeys(row.named, True) | dict.fromkeys(row.missed, False), {})
            for row in records_from_json(stored.get("named", []), NamedRow)
        )
        votes = stored.get("votes", [])
        measured = ", ".join(stored[key] for key in ("date", "machine") if key in stored)
        return Board(
            lambda: Table(suite.name, "rows", scores, extra),
            lambda: Table(suite.name, "agreement", pairs, extra | {"votes": votes}),
            lambda: methods,
            measured or "when the suite was made",
            stored.get("fingerprint", suite.fingerprint) == suite.fingerprint,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, DitError):
        return None  # it can be measured again: a damaged report is no reason to stop


SCALING_FILE = "scaling.json"


def scaling_points(suite: Suite, scores: Iterable[Score]) -> list[ScalingPoint]:
    """Return the scaling points in a scoreboard: one per DIT adapter, of tasks with several training-set sizes."""
    adapters = {info.name: info for info in suite.adapters.values() if info.trained_on}
    trained_on = {info.name: info.trained_on for info in adapters.values() if info.trained_on}
    counts = {task: sum(info.task == task for info in adapters.values()) for task in suite.tasks}
    return [
        ScalingPoint(
            TRAINING_DIFFS, trained_on[score.adapter], suite.name, score.task, score.n, score.value, score.interval
        )
        for score in scores
        if (score.method, score.measure) == (DIT, GRADED) and score.adapter in adapters and counts[score.task] > 1
    ]


def published_points() -> list[ScalingPoint]:
    """Return published scaling points (arXiv 2510.05092): a judge's mean grades of 100 diffs, without intervals."""
    return [
        ScalingPoint(by, amount, model, "topic", 100, value)
        for (model, by), points in SCALING.items()
        for amount, value in points.items()
    ]


def scaling_json(suite: Suite, points: Iterable[ScalingPoint]) -> dict[str, Any]:
    """Return the content of a suite's `scaling.json` with these points added; its points by other quantities stay."""
    points = tuple(points)
    new = {point.by for point in points}
    kept = (point for point in read_scaling(suite) or () if point.by not in new)
    table = Table(suite.name, "rows", (*points, *kept), {"fingerprint": suite.fingerprint})
    return table.to_json()


def read_scaling(suite: Suite) -> Table[ScalingPoint] | None:
    """Read the suite's own scaling points; None where it has none.

    Raises:
        DitError: the file is damaged.
    """
    path = suite.folder / SCALING_FILE
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
        points = records_from_json(rows, ScalingPoint)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError, DitError) as error:
        raise DitError(f"'{path}' does not hold scaling curves: get the suite's files anew.") from error
    return Table(suite.name, "rows", points)
