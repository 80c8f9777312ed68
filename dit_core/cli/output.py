"""Options, tables and JSON that all commands share on stdout, and progress on stderr."""

import json
import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dit_core.errors import DitError
from dit_core.hub import format_bytes, watch_downloads

if TYPE_CHECKING:
    from dit_core.records import Table

SuiteName = Annotated[str, typer.Option("--suite", help="Name of a suite, or the path of its folder.")]
MaybeSuite = Annotated[str | None, typer.Option("--suite", help="Name of a suite, or the path of its folder.")]
Position = Annotated[int, typer.Option(help="Which diff, of a file or folder of many; the first is 0.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
Reveal = Annotated[bool, typer.Option("--reveal", help="Also show what diffs were trained on: references, grades.")]
GraderName = Annotated[str, typer.Option("--grader", help="Who grades: rules, learned, smol, embedding or judge.")]
GraderModel = Annotated[str | None, typer.Option(help="Of the embedding grader, or the judge's at its endpoint.")]
JudgeUrl = Annotated[str | None, typer.Option(help="Of the judge's OpenAI-compatible endpoint.")]
JudgeCache = Annotated[Path | None, typer.Option(help="File in which the judge's grades are kept.")]

_SECONDS_BETWEEN_UPDATES = 0.2  # at one download
_SMALL_DOWNLOAD = 10_000_000  # bytes that are here before anybody has read a line
_SECONDS_BETWEEN_LINES = 10.0  # of progress, in a file or a pipe
_PIPE_WIDTH = 160  # columns of a table where there is no terminal, and so no edge to fold at


def numbers(text: str | None, option: str) -> list[float] | None:
    """Return the numbers of an option like `0,0.5,1`; raise `DitError` for anything else."""
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise DitError(f"{option} takes numbers with commas between, like 0,0.5,1, and not '{text}'.") from error


def print_json(table: "Table[Any]", reveal: bool = False) -> None:
    """Print a table as JSON, and nothing else; secret fields only with `reveal`."""
    print(json.dumps(table.to_json(reveal), ensure_ascii=False, indent=2))


def print_rows(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table for people; None leaves its cell empty."""
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
        console.width = _PIPE_WIDTH
    console.print(shown)


def say(sentence: str) -> None:
    """Print a sentence on stderr, where it is in no program's way."""
    print(sentence, file=sys.stderr, flush=True)


@contextmanager
def progress_bar() -> Iterator[Callable[[float, float, str], None]]:
    """Show on stderr how far a long command is, in a pipe too; yield a function of (done, total, what is done)."""
    from tqdm import tqdm

    seconds = _SECONDS_BETWEEN_UPDATES if sys.stderr.isatty() else _SECONDS_BETWEEN_LINES
    with tqdm(file=sys.stderr, mininterval=seconds, leave=False, unit="") as bar:

        def show(done: float, total: float, what: str) -> None:
            if total:
                bar.total = total
            changed = bar.desc != what
            bar.set_description_str(what, refresh=False)
            bar.update(done - bar.n)
            if changed:
                bar.refresh()

        yield show


@contextmanager
def console_progress() -> Iterator[None]:
    """Write downloads, and what loading takes, to stderr while the context is open."""
    handler = logging.StreamHandler(sys.stderr)
    log = logging.getLogger("dit_core")
    before = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        with watch_downloads(_DownloadLine()):
            yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before)


class _DownloadLine:
    """Rewrites one line of a terminal; in a file or a pipe it writes one line per finished download."""

    def __init__(self) -> None:
        self._last = 0.0

    def __call__(self, done: int, total: int, what: str) -> None:
        over, now = done >= total, time.monotonic()
        shown_lately = now - self._last < _SECONDS_BETWEEN_UPDATES
        if total < _SMALL_DOWNLOAD or (not over and (shown_lately or not sys.stderr.isatty())):
            return
        self._last = now
        text = f"{what}: {format_bytes(done)} of {format_bytes(total)}"
        start, end = ("\r", "\n" if over else "") if sys.stderr.isatty() else ("", "\n")
        print(f"{start}{text}", end=end, file=sys.stderr, flush=True)
