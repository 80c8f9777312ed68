"""The command line: `python -m dit_core ask | diffs | oracle | lens | scoreboard | audit | grade | check | …`.

The same functions as the page and Python. Only what a command needs is imported, when it runs: `--help` answers at
once.
"""

import os
import sys

import typer

from dit_core.cli.asking import ask, diffs
from dit_core.cli.auditing import audit
from dit_core.cli.files import check, convert
from dit_core.cli.grading import grade
from dit_core.cli.making import pocket, scoreboard
from dit_core.cli.progress import told
from dit_core.cli.reading import lens, oracle
from dit_core.cli.suites import cache, suites
from dit_core.cli.sweeping import sweep
from dit_core.cli.trusting import calibrate, confidence, reading_confidence
from dit_core.errors import DitError

app = typer.Typer(
    help="Makes a finetuned model say what its finetuning changed.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (ask, diffs, sweep, oracle, lens, scoreboard, audit, confidence, reading_confidence, calibrate, grade):
    app.command()(command)
for command in (check, convert, suites, cache, pocket):
    app.command()(command)


def main() -> None:
    """Runs the command line; what the user can put right is one sentence and exit code 2."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # loading a small base is not worth a bar
    try:
        with told():
            app()
    except DitError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)
