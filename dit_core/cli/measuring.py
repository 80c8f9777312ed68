"""Commands that run every method: the scoreboard over a suite's diffs, and the audit of one finetune or diff."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dit_core.cli.output import (
    AsJson,
    GraderModel,
    GraderName,
    JudgeCache,
    JudgeUrl,
    MaybeSuite,
    Position,
    Reveal,
    SuiteName,
    print_json,
    print_rows,
    progress_bar,
    say,
)
from dit_core.errors import DitError

if TYPE_CHECKING:
    from collections.abc import Generator

    from dit_core.auditing import Audit, MethodAnswer
    from dit_core.grading import Grader
    from dit_core.records import Agreement, Score, Table
    from dit_core.scoreboard import Board, Engine
    from dit_core.suite import Suite

STOPPED = 130  # the exit code of what Ctrl-C stopped


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
    source: Annotated[
        str | None, typer.Argument(help="A finetune: a LoRA's folder, a checkpoint, a zip, or a hub id.")
    ] = None,
    diff: Annotated[str | None, typer.Option(help="A diff of the suite instead: its id or reference.")] = None,
    base: Annotated[
        str | None, typer.Option(help="The base that it was made on: a folder, a hub id or package:NAME.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The HTML file to write.")] = None,
    position: Position = 0,
    reveal: Reveal = False,
    suite: MaybeSuite = None,
    as_json: AsJson = False,
) -> None:
    """Find out what a finetune was trained for: every method is asked, and a report is written with --out.

    A finetune's base is found by itself, and the suite that has a DIT adapter for it. Ctrl-C leaves what was found.
    """
    from dit_core.auditing import audit_steps, open_finetune
    from dit_core.suite import load_suite

    _check_out(out)
    if (source is None) == (diff is None):
        raise DitError("Give one thing to audit: the path or hub id of a finetune, or a suite's diff with --diff.")
    try:
        if source is not None:
            finetune = open_finetune(source, base, suite, position)
            for sentence in finetune.about:
                say(sentence)
            steps = audit_steps(finetune.suite, finetune.info, about=finetune.about)
        else:
            steps = audit_steps(load_suite(suite or "pocket"), diff or "")
        found = _followed(steps, shown=not as_json)
    except KeyboardInterrupt:
        say("Stopped before anything was found.")
        raise typer.Exit(STOPPED) from None
    if out is not None:
        _write_report(out, found, reveal)
    if as_json:
        print(json.dumps(found.to_json(reveal), ensure_ascii=False, indent=2))
    else:
        _print_end(found, out)
    if found.left:
        raise typer.Exit(STOPPED)


def _followed(steps: "Generator[Audit, None, None]", shown: bool) -> "Audit":
    """Follow an audit to its end, or to Ctrl-C after its first part; show the answers as soon as they are there."""
    from tqdm import tqdm

    from dit_core.auditing import MethodAnswer, audit_progress

    found, told = next(steps), set[MethodAnswer]()
    with progress_bar() as show:
        try:
            for found in steps:
                show(*audit_progress(found))
                if shown and not told.issuperset(found.answers):
                    with tqdm.external_write_mode():
                        _print_answers(found, told)
                    told.update(found.answers)
        except KeyboardInterrupt:
            if found.changes is None:
                raise
            say(f"Stopped: without {', '.join(found.left)}.")
    return found


def _print_answers(found: "Audit", told: set["MethodAnswer"]) -> None:
    rows = [[answer.method, answer.question, answer.text] for answer in found.answers if answer not in told]
    print_rows(f"What {found.title} says", ["method", "asked", "answer"], rows)


def _print_end(found: "Audit", out: Path | None) -> None:
    for record in found.confidence:
        print(record.sentence)
        print(record.why if record.probability is None else f"Probability that it is right: {record.probability:.3f}")
    for part, sentence in found.failed.items():
        say(f"Not told, {part}: {sentence}")
    print(out if out else "The whole report, with figures, is written by --out report.html.")


def _check_out(out: Path | None) -> None:
    if out is not None and not out.parent.is_dir():
        raise DitError(f"There is no folder '{out.parent}': make it, or write the report elsewhere.")
    if out is not None and out.is_dir():
        raise DitError(f"'{out}' is a folder: give the name of a file, such as '{out / 'report.html'}'.")


def _write_report(out: Path, found: "Audit", reveal: bool) -> None:
    from dit_core.auditing import report_html

    try:
        out.write_text(report_html(found, reveal), encoding="utf-8")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise DitError(f"The report can't be written to '{out}' ({reason}): make room or write elsewhere.") from error


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
