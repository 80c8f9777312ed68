"""The scoreboard as a suite ships it: measured when the suite was made, marked with when and on what."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from dit_core.errors import DitError
from dit_core.grading import Grader
from dit_core.project import versions
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
from dit_core.suite.lazy import lazy_property

FILE, STAGE = "report.json", "scoreboard"


class Board:
    """All that a run of the scoreboard comes to; each part is computed when it is first read, and then kept.

    A run makes a board of every batch, and nobody sees most of them: their intervals and votes are never computed.

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
        """How methods agree, pair by pair, and what a vote of them gains."""
        return self._agreement()

    @lazy_property
    def named(self) -> tuple[NamedDiffs, ...]:
        """Which diffs each method named."""
        return self._named()


@dataclass(frozen=True)
class NamedRow(Record):
    """Which diffs a method named and missed, as the report keeps it; `key` is (method, task, adapter)."""

    key: tuple[str, str, str]
    named: tuple[str, ...]
    missed: tuple[str, ...]


def board(suite: Suite, findings: Table[Finding], grader: Grader | None = None) -> Board:
    """Return what findings come to; `grader` (by default the rules) grades votes as it did the findings.

    Nothing is computed yet, see `Board`: reading `agreement` is what asks the grader.
    """

    def compared() -> Table[Agreement]:
        table = agreement(suite, findings, grader)
        return replace(table, extra=run_settings(findings) | table.extra)

    return Board(lambda: mean_scores(findings), compared, lambda: tuple(named_diffs(findings)))


def board_json(suite: Suite, findings: Table[Finding]) -> dict[str, Any]:
    """A board as the suite's report keeps it."""
    made = board(suite, findings)
    return {
        "date": date.today().isoformat(),
        "fingerprint": suite.fingerprint,
        "versions": versions(),
        **{key: value for key, value in made.scores.to_json().items() if key in ("split", "rows")},
        **{key: value for key, value in made.agreement.to_json().items() if key in ("votes", "agreement")},
        "named": [
            as_dict(
                NamedRow(
                    one.key,
                    named=tuple(diff for diff, hit in one.by_diff.items() if hit),
                    missed=tuple(diff for diff, hit in one.by_diff.items() if not hit),
                )
            )
            for one in made.named
        ],
    }


def read_board(suite: Suite) -> Board | None:
    """The stored board; None where the suite has none that can be read."""
    try:
        stored = json.loads((suite.folder / FILE).read_text(encoding="utf-8"))[STAGE]
        told = ("split", "fingerprint", "date", "machine", "versions")
        extra = {"split": "test"} | {name: stored[name] for name in told if name in stored}
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
        return None  # measured live instead: a damaged report is no reason to stop


SCALING_FILE = "scaling.json"


def scaling_points(suite: Suite, scores: Iterable[Score]) -> list[ScalingPoint]:
    """The points by number of training diffs that a scoreboard holds: one per DIT adapter of a task with several."""
    adapters = {info.name: info for info in suite.adapters.values() if info.trained_on}
    trained_on = {info.name: info.trained_on for info in adapters.values() if info.trained_on}
    counts = {task: sum(info.task == task for info in adapters.values()) for task in suite.tasks}
    return [
        ScalingPoint(TRAINING_DIFFS, trained_on[one.adapter], suite.name, one.task, one.n, one.value, one.interval)
        for one in scores
        if (one.method, one.measure) == (DIT, GRADED) and one.adapter in adapters and counts[one.task] > 1
    ]


def published_points() -> list[ScalingPoint]:
    """Other people's points (arXiv 2510.05092): a judge's mean grades of 100 diffs, without intervals."""
    return [
        ScalingPoint(by, amount, model, "topic", 100, value)
        for (model, by), points in SCALING.items()
        for amount, value in points.items()
    ]


def scaling_json(suite: Suite, points: Iterable[ScalingPoint]) -> dict[str, Any]:
    """The content of a suite's `scaling.json` with these points; those it has by anything else stay."""
    points = tuple(points)
    there = (one for one in read_scaling(suite) or () if one.by not in {new.by for new in points})
    table = Table(suite.name, "rows", (*points, *there), {"fingerprint": suite.fingerprint})
    return table.to_json()


def read_scaling(suite: Suite) -> Table[ScalingPoint] | None:
    """The suite's own points; None where it has none. Raises DitError for a damaged file."""
    path = suite.folder / SCALING_FILE
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
        points = records_from_json(rows, ScalingPoint)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError, DitError) as error:
        raise DitError(f"'{path}' does not hold scaling curves: get the suite's files anew.") from error
    return Table(suite.name, "rows", points)
