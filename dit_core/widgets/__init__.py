"""Widgets for notebooks: the page's Explore tab as one (`explorer`), and tables that show themselves (`show`).

    from dit_core.widgets import explorer
    explorer(suite)

    %load_ext dit_core.widgets    # from now on, tables are shown as cards and plots by themselves

Neither computes anything: they call the same functions as the other faces, and show the results.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dit_core.records import Table
from dit_core.suite import Suite
from dit_core.widgets.shown import bundle, show

if TYPE_CHECKING:
    from dit_core.widgets.panel import Explorer

__all__ = ["bundle", "explorer", "load_ipython_extension", "show", "unload_ipython_extension"]


def explorer(suite: Suite) -> Explorer:
    """Return the page's Explore tab over a suite, for JupyterLab, Colab and VS Code: shown as a cell's last line."""
    from dit_core.widgets.panel import Explorer

    return Explorer(suite)


def load_ipython_extension(shell: Any) -> None:
    """Show tables as `show` does from now on: `%load_ext dit_core.widgets`."""
    shell.display_formatter.mimebundle_formatter.for_type(Table, bundle)


def unload_ipython_extension(shell: Any) -> None:
    """Show tables as before: `%unload_ext dit_core.widgets`."""
    shell.display_formatter.mimebundle_formatter.pop(Table, None)
