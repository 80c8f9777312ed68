"""`python -m dit_core`, `dit-explorer`: the command line, and the page as one of its commands."""

import sys

import typer

from dit_core.cli import make_app, run


def make_program() -> typer.Typer:
    """Return the whole program: a command for each method, and the page's."""
    program = make_app()
    settings = {"allow_extra_args": True, "ignore_unknown_options": True}
    program.command("app", context_settings=settings, add_help_option=False)(page)
    return program


def page(context: typer.Context) -> None:
    """Serve the page; `app --help` lists its settings."""
    from dit_core.ui.launch import serve

    sys.exit(serve(context.args, context.command_path))


def main() -> None:
    """Run the command line."""
    run(make_program())


if __name__ == "__main__":
    main()
