"""The command that says how well a grader agrees with grades that were given."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dit_core.cli.shared import AsJson, GraderModel, GraderName, JudgeCache, JudgeUrl, print_rows, progress

if TYPE_CHECKING:
    from dit_core.grading.agreement import Agreement


def grade(
    file: Annotated[Path, typer.Argument(help="A CSV with the columns reference, guess and grade.")],
    grader: GraderName = "rules",
    model: GraderModel = None,
    base_url: JudgeUrl = None,
    cache: JudgeCache = None,
    suite: Annotated[str | None, typer.Option(help="Whose world decides (rules), or whose base judges.")] = None,
    as_json: AsJson = False,
) -> None:
    """Grade the pairs of a file anew, and show how well that agrees with their grades."""
    from dit_core.grading import grader as grader_of
    from dit_core.grading.agreement import agreement, read_graded
    from dit_core.suite import load_suite

    pairs = read_graded(file)
    chosen = grader_of(grader, model=model, suite=suite and load_suite(suite), base_url=base_url, cache=cache)
    with progress() as tell:
        marks = chosen.marks([(pair.reference, pair.guess) for pair in pairs], tell)
    found = agreement([pair.grade for pair in pairs], marks)
    if as_json:
        print(json.dumps(asdict(found), indent=2))
        return
    _print(found, f"{file.name}, graded by {chosen.name}")


def _print(found: "Agreement", title: str) -> None:
    figures = [found.spearman, found.mean_absolute_error, found.roc_area]
    shown = ["not defined" if value is None else f"{value:.3f}" for value in figures]
    print_rows(title, ["pairs", "Spearman", "mean absolute error", "ROC area (grade 4 or 5)"], [[found.n, *shown]])
    grades = range(1, len(found.confusion) + 1)
    print_rows(
        "given (rows) and found (columns)",
        ["", *map(str, grades)],
        [[at, *row] for at, row in zip(grades, found.confusion, strict=True)],
    )
