"""Commands that take long: measure a suite, and make one."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dit_core.cli.shared import (
    AsJson,
    GraderModel,
    GraderName,
    JudgeCache,
    JudgeUrl,
    SuiteName,
    print_json,
    print_rows,
    progress,
)
from dit_core.errors import DitError

if TYPE_CHECKING:
    from dit_core.grading import Grader
    from dit_core.records import Agreement, Score, Table
    from dit_core.scoreboard import Engine
    from dit_core.suite import Suite


def scoreboard(
    limit: Annotated[int | None, typer.Option(help="Only the first so many diffs of each task.")] = None,
    split: Annotated[str, typer.Option(help="Which diffs: test, calibration or train.")] = "test",
    kind: Annotated[list[str] | None, typer.Option(help="Only verbal, oracle or lens; repeatable.")] = None,
    results: Annotated[
        str | None,
        typer.Option(help="A file, or folder/, that keeps results: a run that was stopped goes on from there."),
    ] = None,
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
    from dit_core.scoreboard import KINDS, findings, regraded, summed_up
    from dit_core.scoreboard import agreement as compare
    from dit_core.suite import load_suite

    loaded, where = load_suite(suite), _engine(engine, actors, address)
    grades = _grader(loaded, grader, model=model, base_url=base_url, cache=cache)
    with progress() as tell:
        found = findings(loaded, limit, split, tell, results, kind or KINDS, engine=where)
        if grades:
            found = regraded(loaded, found, grades, tell)
    table = compare(loaded, found, grades) if agreement else summed_up(found)
    if as_json:
        return print_json(table)
    if agreement:
        return _print_agreement(table)
    print_rows(
        f"{table.suite}, {split} diffs" + (f", graded by {grader}" if grades else ""),
        ["task", "method", "adapter", "layer", "measure", "n", "value", "95 % interval", "target", "published"],
        [_score_row(loaded, score) for score in table],
    )


def pocket(
    smoke: Annotated[bool, typer.Option("--smoke", help="Every stage in miniature, within minutes.")] = False,
    stage: Annotated[str | None, typer.Option(help="Up to this stage.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the suite; by default the shipped one.")] = None,
) -> None:
    """Build the pocket suite from scratch."""
    from dit_core.suite.catalog import SUITES
    from dit_core.training.build import build

    build(out or SUITES["pocket"], smoke, stage)


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
            [one.task, one.first, one.second, one.n, one.both, one.only_first, one.only_second, one.neither]
            + ["" if one.correlation is None else f"{one.correlation:.2f}"]
            for one in table
        ],
    )


def _grader(suite: "Suite", name: str, **options: Any) -> "Grader | None":
    """The grader; None for the suite's own rules, by which all is graded to begin with."""
    from dit_core.grading import grader

    own = suite if name == "rules" or name == "judge" and not options["model"] else None
    found = grader(name, suite=own, **options)
    return None if name == "rules" else found


def _engine(name: str, actors: int, address: str | None) -> "Engine | None":
    if name not in ("here", "ray"):
        raise DitError(f"There is no engine '{name}': use here or ray.")
    if name == "here" and address:
        raise DitError("An address is one of a Ray cluster: add --engine ray.")
    from dit_core.scoreboard import OnRay

    return OnRay(actors, address) if name == "ray" else None


def _score_row(suite: "Suite", score: "Score") -> list:
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
