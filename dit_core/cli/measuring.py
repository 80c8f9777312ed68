"""Commands that run every method: the scoreboard over a suite's diffs, and the audit report of one diff."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dit_core.cli.output import (
    AsJson,
    GraderModel,
    GraderName,
    JudgeCache,
    JudgeUrl,
    Reveal,
    SuiteName,
    print_json,
    print_rows,
    progress_bar,
    say,
)
from dit_core.errors import DitError

if TYPE_CHECKING:
    from dit_core.grading import Grader
    from dit_core.records import Agreement, Score, Table
    from dit_core.scoreboard import Board, Engine
    from dit_core.suite import Suite


def scoreboard(
    limit: Annotated[int | None, typer.Option(help="Only the first so many diffs of each task.")] = None,
    split: Annotated[str, typer.Option(help="Which diffs: test, calibration or train.")] = "test",
    kind: Annotated[list[str] | None, typer.Option(help="Only verbal, oracle or lens; repeatable.")] = None,
    results: Annotated[
        str | None,
        typer.Option(help="A file, or folder/, that keeps results: a run that was stopped goes on from there."),
    ] = None,
    stored: Annotated[bool, typer.Option("--stored", help="Print the figures that the suite ships, at once.")] = False,
    agreement: Annotated[bool, typer.Option("--agreement", help="Show how methods agree, instead of scores.")] = False,
    engine: Annotated[str, typer.Option(help="Where: here, or ray for several models at once.")] = "here",
    actors: Annotated[int, typer.Option(help="With ray: how many models.")] = 2,
    address: Annotated[
        str | None, typer.Option(help="With ray: a cluster, as auto, HOST:PORT or ray://HOST:PORT.")
    ] = None,
    grader: GraderName = "rules",
    model: GraderModel = None,
    base_url: JudgeUrl = None,
    cache: JudgeCache = None,
    suite: SuiteName = "pocket",
    as_json: AsJson = False,
) -> None:
    """Measure every method on the held-out diffs, with published figures beside."""
    from dit_core import scoreboard as room
    from dit_core.suite import load_suite

    loaded, where = load_suite(suite), _engine(engine, actors, address)
    grades = _grader(loaded, grader, model=model, base_url=base_url, cache=cache)
    if stored:
        if (limit, split, kind, results, grades, where) != (None, "test", None, None, None, None):
            raise DitError("The stored figures are of one run with the rules' grades: give --stored no other setting.")
        board = _stored(loaded)
        scores = board.scores
    else:
        kinds = kind or room.KINDS
        seconds = room.expected_seconds(loaded, limit, split, results, kinds, where)
        say(f"This will take about {_duration(seconds)}.")
        with progress_bar() as show:
            findings = room.findings(loaded, limit, split, show, results, kinds, engine=where)
            if grades:
                findings = room.regrade(loaded, findings, grades, show)
        scores = room.mean_scores(findings)
    if agreement:
        pairs = board.agreement if stored else room.agreement(loaded, findings, grades)
        return print_json(pairs) if as_json else _print_agreement(pairs)
    if as_json:
        return print_json(scores)
    print_rows(
        f"{loaded.name}, {split} diffs" + (f", graded by {grader}" if grades else ""),
        ["task", "method", "adapter", "layer", "measure", "n", "value", "95 % interval", "target", "published"],
        [_score_row(loaded, score) for score in scores],
    )


def audit(
    diff: Annotated[str, typer.Option(help="Id or reference of the diff.")],
    out: Annotated[Path, typer.Option(help="The HTML file to write.")],
    reveal: Reveal = False,
    suite: SuiteName = "pocket",
) -> None:
    """Write an audit report: what a diff changes, and what every method says about it."""
    from dit_core.audit import audit_diff, report_html
    from dit_core.suite import load_suite

    if not out.parent.is_dir():
        raise DitError(f"There is no folder '{out.parent}': make it, or write the report elsewhere.")
    if out.is_dir():
        raise DitError(f"'{out}' is a folder: give the name of a file, such as '{out / 'report.html'}'.")
    with progress_bar() as show:
        report = audit_diff(load_suite(suite), diff, show)
    try:
        out.write_text(report_html(report, reveal), encoding="utf-8")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise DitError(f"The report can't be written to '{out}' ({reason}): make room or write elsewhere.") from error
    print(out)


def _stored(suite: "Suite") -> "Board":
    from dit_core.scoreboard import read_board

    board = read_board(suite)
    if board is None:
        raise DitError(f"The suite '{suite.name}' ships no figures: measure them, without --stored.")
    say(f"Stored figures, measured {board.measured}{'' if board.of_this_suite else ', of other files than these'}.")
    return board


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _print_agreement(table: "Table[Agreement]") -> None:
    print_rows(
        f"{table.suite}, votes",
        ["task", "methods", "n", "best one (in hindsight)", "named by it", "named by a vote", "missed by all"],
        [
            [vote["task"], f"{len(vote['methods'])} {vote['who']}", vote["n"], vote["best"]]
            + [vote[key] for key in ("best_named", "vote_named", "all_wrong")]
            for vote in table.extra["votes"]
        ],
    )
    print_rows(
        f"{table.suite}, pairs of methods: diffs that they named, and how their errors go together",
        ["task", "first", "second", "n", "both", "only first", "only second", "neither", "correlation"],
        [
            [pair.task, pair.first, pair.second, pair.n, pair.both, pair.only_first, pair.only_second, pair.neither]
            + ["" if pair.correlation is None else f"{pair.correlation:.2f}"]
            for pair in table
        ],
    )


def _grader(
    suite: "Suite", name: str, *, model: str | None, base_url: str | None, cache: Path | None
) -> "Grader | None":
    """Return the grader; None for the suite's own rules, which grade everything to begin with."""
    from dit_core.grading import grader

    own = suite if name == "rules" or (name == "judge" and not model) else None
    chosen = grader(name, model=model, suite=own, base_url=base_url, cache=cache)
    return None if name == "rules" else chosen


def _engine(name: str, actors: int, address: str | None) -> "Engine | None":
    if name not in ("here", "ray"):
        raise DitError(f"There is no engine '{name}': use here or ray.")
    if name == "here" and address:
        raise DitError("An address is one of a Ray cluster: add --engine ray.")
    from dit_core.scoreboard import OnRay

    return OnRay(actors, address) if name == "ray" else None


def _score_row(suite: "Suite", score: "Score") -> list[Any]:
    from dit_core.scoreboard import SHARES, TARGETS, asked_note, meets_target

    def shown(value: float) -> str:
        return f"{100 * value:.1f} %" if score.measure in SHARES else f"{value:.2f}"

    target = TARGETS.get((score.method, score.task, score.adapter, score.measure))
    verdict = {None: "", True: " reached", False: " missed"}[meets_target(score)]
    note = asked_note(suite, score.method)
    return [
        score.task,
        f"{score.method} ({note})" if note else score.method,
        score.adapter,
        score.layer,
        score.measure,
        score.n,
        shown(score.value),
        f"{shown(score.interval[0])} to {shown(score.interval[1])}" if score.interval else "",
        f"{target[0]} {shown(target[1])}{verdict}" if target else "",
        ", ".join(f"{entry['model']} {entry['value']:.2f}" for entry in score.published),
    ]
