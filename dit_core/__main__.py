"""The command line: `python -m dit_core ask | diffs | scoreboard | pocket`. Same functions as the page and Python.

Only what a command needs is imported, when it runs: `--help` answers at once.
"""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import unquote

import typer

from .errors import DitError

if TYPE_CHECKING:
    from .records import Score, Table

app = typer.Typer(
    help="Makes a finetuned model say what its finetuning changed.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
SuiteName = Annotated[str, typer.Option("--suite", help="Name of a suite, or the path of its folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]


@app.command()
def ask(
    diff: Annotated[list[str] | None, typer.Option(help="Id or reference of a diff; repeatable.")] = None,
    condition: Annotated[list[str] | None, typer.Option(help="Like 'diff+dit*2+right'; repeatable.")] = None,
    strength: Annotated[str | None, typer.Option(help="Of the diff: numbers, like 0,0.5,1.")] = None,
    copies: Annotated[str | None, typer.Option(help="Of the DIT adapter: numbers, like 0,1,2.")] = None,
    trigger: Annotated[str | None, typer.Option(help="Out of absent,right,wrong,own:TEXT (percent-encoded).")] = None,
    adapter: Annotated[str | None, typer.Option(help="Names of DIT adapters, like topic,topic-64.")] = None,
    question: Annotated[list[str] | None, typer.Option(help="Instead of the task's own; repeatable.")] = None,
    samples: Annotated[int, typer.Option(help="Answers per combination; needs a temperature.")] = 1,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest token each time.")] = 0.0,
    top_p: Annotated[float, typer.Option(help="Sample among the likeliest tokens of this probability.")] = 1.0,
    max_new_tokens: Annotated[int | None, typer.Option(help="Of an answer; by default as the suite says.")] = None,
    seed: Annotated[int, typer.Option(help="Of the noise, and of the digits around triggers.")] = 0,
    suite: SuiteName = "pocket",
    as_json: AsJson = False,
) -> None:
    """Ask diffs under conditions: every combination is answered, all in one batch."""
    from .suite import load_suite
    from .verbalize import ask as verbalize

    table = verbalize(
        load_suite(suite),
        diff or None,
        condition=condition or None,
        strength=_numbers(strength, "--strength"),
        copies=_numbers(copies, "--copies"),
        trigger=_triggers(trigger),
        adapter=adapter and adapter.split(","),
        question=question or None,
        samples=samples,
        temperature=temperature,
        top_p=top_p,
        max_new_tokens=max_new_tokens,
        seed=seed,
    )
    if as_json:
        return _print_json(table)
    _print_rows(
        table.suite,
        ["diff", "condition", "question", "answer"],
        [[said.diff, said.condition, said.question, said.text] for said in table],
    )


@app.command()
def diffs(
    reveal: Annotated[bool, typer.Option("--reveal", help="Also show what each was trained on.")] = False,
    suite: SuiteName = "pocket",
    as_json: AsJson = False,
) -> None:
    """List the diffs of a suite."""
    from .suite import load_suite

    table = load_suite(suite).diffs
    if as_json:
        return _print_json(table, reveal)
    columns = ["id", "task", "split", "rank", *(["reference", "trigger"] if reveal else [])]
    _print_rows(table.suite, columns, [[getattr(info, column) for column in columns] for info in table])


@app.command()
def scoreboard(
    limit: Annotated[int | None, typer.Option(help="Only the first so many diffs of each task.")] = None,
    split: Annotated[str, typer.Option(help="Which diffs: test, calibration or train.")] = "test",
    suite: SuiteName = "pocket",
    as_json: AsJson = False,
) -> None:
    """Measure every method on the held-out diffs, with published figures beside."""
    from rich.console import Console
    from rich.progress import Progress

    from .experiments import scoreboard as measure
    from .suite import load_suite

    with Progress(console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task("loading", total=None)
        table = measure(
            load_suite(suite),
            limit,
            split,
            lambda done, total, what: bars.update(bar, completed=done, total=total, description=what),
        )
    if as_json:
        return _print_json(table)
    _print_rows(
        f"{table.suite}, {split} diffs",
        ["task", "method", "adapter", "measure", "n", "value", "95 % interval", "target", "published"],
        [_score_row(score) for score in table],
    )


@app.command()
def pocket(
    smoke: Annotated[bool, typer.Option("--smoke", help="Every stage in miniature, within minutes.")] = False,
    stage: Annotated[str | None, typer.Option(help="Up to this stage.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the suite; by default the shipped one.")] = None,
) -> None:
    """Build the pocket suite from scratch."""
    from .catalog import SUITES
    from .training.build import build

    build(out or SUITES["pocket"], smoke, stage)


def main() -> None:
    """Runs the command line; what the user can put right is one sentence and exit code 2."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # loading a small base is not worth a bar
    try:
        app()
    except DitError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)


def _numbers(text: str | None, option: str) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise DitError(f"{option} takes numbers with commas between, like 0,0.5,1, and not '{text}'.") from error


def _triggers(text: str | None) -> list[str] | None:
    return None if text is None else [unquote(part) for part in text.split(",")]


def _print_json(table: "Table", reveal: bool = False) -> None:
    print(json.dumps(table.to_json(reveal), ensure_ascii=False, indent=2))


def _print_rows(title: str, columns: list[str], rows: list[list]) -> None:
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    shown = RichTable(title=title)
    for column in columns:
        shown.add_column(column, overflow="fold")
    for row in rows:
        # As Text, so that brackets in an answer are not taken for rich's markup.
        shown.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    console = Console()
    if not console.is_terminal:
        console.width = 160  # in a file or a pipe there is no edge to fold at
    console.print(shown)


def _score_row(score: "Score") -> list[str]:
    from .experiments import TARGETS, meets_target

    def shown(value: float) -> str:
        return f"{value:.2f}" if score.measure == "mean_grade" else f"{100 * value:.1f} %"

    target = TARGETS.get((score.method, score.task, score.adapter, score.measure))
    verdict = {None: "", True: " reached", False: " missed"}[meets_target(score)]
    return [
        score.task,
        score.method,
        score.adapter,
        score.measure,
        str(score.n),
        shown(score.value),
        f"{shown(score.interval[0])} to {shown(score.interval[1])}" if score.interval else "",
        f"{target[0]} {shown(target[1])}{verdict}" if target else "",
        ", ".join(f"{entry['model']} {entry['value']:.2f}" for entry in score.published),
    ]


if __name__ == "__main__":
    main()
