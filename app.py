"""The page: `python app.py`, then open the printed address. Settings as flags or as Gradio's environment variables."""

import sys
from typing import Any

from dit_core.ui.launch import demo as build_demo
from dit_core.ui.launch import serve


def main(arguments: list[str] | None = None) -> int:
    """Serve the page until interrupted; return 2 after one sentence where it can't be served."""
    from dit_core.cli.output import console_progress

    with console_progress():
        return serve(arguments)


def __getattr__(name: str) -> Any:
    """Return `app.demo`, for hosts that look for one: the page as the environment alone sets it, built when needed."""
    if name != "demo":
        raise AttributeError(f"module 'app' has no attribute '{name}'")
    return build_demo()


if __name__ == "__main__":
    sys.exit(main())
