"""Commands that take long: measure a suite, and make one."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dit_core.cli.shared import AsJson, SuiteName, print_json, print_rows, progress

if TYPE_CHECKING:
    from dit_core.records import Score


def scoreboard(
    limit: Annotated[int | None, typer.Option(help="Only the first so many diffs of each task.")] = None,
    split: Annotated[str, typer.Option(help="Which diffs: test, calibration or train.")] = "test",
    suite: SuiteName = "pocket",
    as_json: AsJson = False,
) -> None:
    """Measure every method on the held-out diffs, with published figures beside."""
    from dit_core.experiments import scoreboard as measure
    from dit_core.suite import load_suite

    with progress() as tell:
        table = measure(load_suite(suite), limit, split, tell)
    if as_json:
        return print_json(table)
    print_rows(
        f"{table.suite}, {split} diffs",
        ["task", "method", "adapter", "layer", "measure", "n", "value", "95 % interval", "target", "published"],
        [_score_row(score) for score in table],
    )


def pocket(
    smoke: Annotated[bool, typer.Option("--smoke", help="Every stage in miniature, within minutes.")] = False,
    stage: Annotated[str | None, typer.Option(help="Up to this stage.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the suite; by default the shipped one.")] = None,
) -> None:
    """Build the pocket suite from scratch."""
    from dit_core.catalog import SUITES
    from dit_core.training.build import build

    build(out or SUITES["pocket"], smoke, stage)


def _score_row(score: "Score") -> list:
    from dit_core.experiments import SHARES, TARGETS, meets_target

    def shown(value: float) -> str:
        return f"{100 * value:.1f} %" if score.measure in SHARES else f"{value:.2f}"

    target = TARGETS.get((score.method, score.task, score.adapter, score.measure))
    verdict = {None: "", True: " reached", False: " missed"}[meets_target(score)]
    return [
        score.task,
        score.method,
        score.adapter,
        score.layer,
        score.measure,
        score.n,
        shown(score.value),
        f"{shown(score.interval[0])} to {shown(score.interval[1])}" if score.interval else "",
        f"{target[0]} {shown(target[1])}{verdict}" if target else "",
        ", ".join(f"{entry['model']} {entry['value']:.2f}" for entry in score.published),
    ]
