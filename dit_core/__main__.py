"""`python -m dit_core`, `dit-explorer`: the command line, and the page as one of its commands."""

import sys

import typer

from dit_core.cli import app, main


@app.command("app", context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, add_help_option=False)
def page(context: typer.Context) -> None:
    """Serve the page; `app --help` lists its settings."""
    from dit_core.ui.launch import serve

    sys.exit(serve(context.args, context.command_path))


if __name__ == "__main__":
    main()
