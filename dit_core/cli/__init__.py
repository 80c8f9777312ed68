"""The command line: `python -m dit_core ask | diffs | oracle | lens | scoreboard | audit | grade | check | …`.

The same functions as the page and Python. Only what a command needs is imported, when it runs: `--help` answers at
once. What diffs were trained on is shown only with `--reveal`.
"""

import os
import sys
from collections.abc import Callable

import typer

from dit_core.cli.artefacts import cache, check, convert, pocket, suites
from dit_core.cli.asking import ask, diffs, sweep
from dit_core.cli.measuring import audit, scoreboard
from dit_core.cli.output import console_progress
from dit_core.cli.reading import lens, oracle
from dit_core.cli.trust import calibrate, confidence, grade, reading_confidence
from dit_core.errors import DitError

app = typer.Typer(
    help="Makes a finetuned model say what its finetuning changed.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
COMMANDS: tuple[Callable[..., None], ...] = (
    *(ask, diffs, sweep, oracle, lens, scoreboard, audit, confidence, reading_confidence, calibrate, grade),
    *(check, convert, suites, cache, pocket),
)
for command in COMMANDS:
    app.command()(command)


def main() -> None:
    """Run the command line; what the user can put right is one sentence and exit code 2."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # loading a small base is not worth a bar
    try:
        with console_progress():
            app()
    except DitError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)
