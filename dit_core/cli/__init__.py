"""The command line: `dit-explorer <method>` for each method, and what files, suites and figures need beside.

The same functions as the page and Python. Only what a command needs is imported, when it runs: `--help` answers at
once. What diffs were trained on is shown only with `--reveal`.
"""

import os
import sys
from collections.abc import Callable

import typer

from dit_core.cli.artefacts import cache, check, convert, diffs, pocket, smol, suites, train
from dit_core.cli.measuring import audit, scoreboard
from dit_core.cli.output import console_progress
from dit_core.cli.registered import method_commands, methods
from dit_core.cli.trust import calibrate, confidence, grade, reading_confidence
from dit_core.errors import DitError

COMMANDS: tuple[Callable[..., None], ...] = (
    *(methods, diffs, scoreboard, audit, confidence, reading_confidence, calibrate, grade),
    *(check, convert, suites, cache, train, pocket, smol),
)


def make_app() -> typer.Typer:
    """Return the program, with a command for each method that is registered now."""
    app = typer.Typer(
        help="Makes a finetuned model say what its finetuning changed.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    for name, command in method_commands():
        app.command(name)(command)
    for function in COMMANDS:
        app.command()(function)
    return app


def run(app: typer.Typer) -> None:
    """Run a program; what the user can put right is one sentence and exit code 2."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # loading a small base is not worth a bar
    try:
        with console_progress():
            app()
    except DitError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)
