"""The scoreboard as a suite ships it: measured when the suite was made, marked with when and on what."""

import json
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from dit_core.grading import Grader
from dit_core.project import versions
from dit_core.records import Agreement, Finding, NamedDiffs, Score, Table
from dit_core.scoreboard.agreement import agreement, named
from dit_core.scoreboard.board import made_with, summed_up
from dit_core.suite import Suite

FILE, STAGE = "report.json", "scoreboard"


@dataclass(frozen=True)
class Board:
    """All that a run of the scoreboard comes to. `measured` says when and on what machine a stored one was made."""

    scores: Table[Score]
    agreement: Table[Agreement]
    named: tuple[NamedDiffs, ...]
    measured: str = ""
    of_this_suite: bool = True


def board(suite: Suite, findings: Table[Finding], grader: Grader | None = None) -> Board:
    """What findings come to; `grader` (by default the rules) grades the votes of methods, as it did the findings."""
    compared = agreement(suite, findings, grader)
    compared = replace(compared, extra=made_with(findings) | compared.extra)
    return Board(summed_up(findings), compared, tuple(named(findings)))


def as_json(suite: Suite, findings: Table[Finding]) -> dict[str, Any]:
    """A board as the suite's report keeps it."""
    made = board(suite, findings)
    return {
        "date": date.today().isoformat(),
        "fingerprint": suite.fingerprint,
        "versions": versions(),
        **{key: value for key, value in made.scores.to_json().items() if key in ("split", "rows")},
        **{key: value for key, value in made.agreement.to_json().items() if key in ("votes", "agreement")},
        "named": [
            {
                "key": list(one.key),
                "named": [diff for diff, hit in one.by_diff.items() if hit],
                "missed": [diff for diff, hit in one.by_diff.items() if not hit],
            }
            for one in made.named
        ],
    }


def read_board(suite: Suite) -> Board | None:
    """The stored board; None where the suite has none that can be read."""
    try:
        stored = json.loads((suite.folder / FILE).read_text(encoding="utf-8"))[STAGE]
        told = ("split", "fingerprint", "date", "machine", "versions")
        extra = {"split": "test"} | {name: stored[name] for name in told if name in stored}
        scores = tuple(
            Score(**{**row, "interval": row["interval"] and tuple(row["interval"])}) for row in stored["rows"]
        )
        pairs = tuple(Agreement(**row) for row in stored.get("agreement", ()))
        methods = tuple(
            NamedDiffs(tuple(one["key"]), dict.fromkeys(one["named"], True) | dict.fromkeys(one["missed"], False), {})
            for one in stored.get("named", ())
        )
        measured = ", ".join(stored[key] for key in ("date", "machine") if key in stored)
        return Board(
            Table(suite.name, "rows", scores, extra),
            Table(suite.name, "agreement", pairs, extra | {"votes": stored.get("votes", [])}),
            methods,
            measured or "when the suite was made",
            stored.get("fingerprint", suite.fingerprint) == suite.fingerprint,
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None  # measured live instead: a damaged report is no reason to stop
