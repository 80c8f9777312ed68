"""What all commands share: the options for a suite and JSON, and how tables and progress are shown."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dit_core.errors import DitError

if TYPE_CHECKING:
    from dit_core.records import Table

SuiteName = Annotated[str, typer.Option("--suite", help="Name of a suite, or the path of its folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
GraderName = Annotated[str, typer.Option("--grader", help="Who grades: rules, embedding or judge.")]
GraderModel = Annotated[str | None, typer.Option(help="Of the embedding grader, or the judge's at its endpoint.")]
JudgeUrl = Annotated[str | None, typer.Option(help="Of the judge's OpenAI-compatible endpoint.")]
JudgeCache = Annotated[Path | None, typer.Option(help="File in which the judge's grades are kept.")]


def numbers(text: str | None, option: str) -> list[float] | None:
    """The numbers of an option like `0,0.5,1`; DitError for anything else."""
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise DitError(f"{option} takes numbers with commas between, like 0,0.5,1, and not '{text}'.") from error


def print_json(table: "Table", reveal: bool = False) -> None:
    """A table as JSON, and nothing else."""
    print(json.dumps(table.to_json(reveal), ensure_ascii=False, indent=2))


def print_rows(title: str, columns: Sequence[str], rows: Sequence[Sequence]) -> None:
    """A table for people; None leaves its cell empty."""
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    shown = RichTable(title=Text(title))
    for column in columns:
        shown.add_column(column, overflow="fold")
    for row in rows:
        # As Text, so that brackets in an answer are not taken for rich's markup.
        shown.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    console = Console()
    if not console.is_terminal:
        console.width = 160  # in a file or a pipe there is no edge to fold at
    console.print(shown)


@contextmanager
def progress() -> Iterator[Callable[[int, int, str], None]]:
    """A bar on the terminal while the context is open; inside, call (done, of all, what is being done)."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bars:
        bar = bars.add_task("loading", total=None)
        yield lambda done, total, what: bars.update(bar, completed=done, total=total, description=what)
