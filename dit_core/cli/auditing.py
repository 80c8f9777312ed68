"""The command that writes an audit report: all that is known about one diff, in one file."""

from pathlib import Path
from typing import Annotated

import typer

from dit_core.cli.shared import SuiteName, progress
from dit_core.errors import DitError


def audit(
    diff: Annotated[str, typer.Option(help="Id or reference of the diff.")],
    out: Annotated[Path, typer.Option(help="The HTML file to write.")],
    reveal: Annotated[bool, typer.Option("--reveal", help="Say what it was trained on, its trigger, and grades.")] = (
        False
    ),
    suite: SuiteName = "pocket",
) -> None:
    """Write an audit report: what a diff changes, and what every method says about it."""
    from dit_core.audit import audit_diff, report_html
    from dit_core.suite import load_suite

    if not out.parent.is_dir():
        raise DitError(f"There is no folder '{out.parent}': make it, or write the report elsewhere.")
    if out.is_dir():
        raise DitError(f"'{out}' is a folder: give the name of a file, such as '{out / 'report.html'}'.")
    with progress() as tell:
        found = audit_diff(load_suite(suite), diff, tell)
    try:
        out.write_text(report_html(found, reveal), encoding="utf-8")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise DitError(f"The report can't be written to '{out}' ({reason}): make room or write elsewhere.") from error
    print(out)
