"""Widgets for notebooks: the page's Explore tab as one (`explorer`), and tables that show themselves (`show`).

    from dit_core.widgets import explorer
    explorer(suite)

    %load_ext dit_core.widgets    # from now on, tables are shown as cards and plots by themselves

Neither computes: they call what everyone calls, and show what it gives.
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
    """The page's Explore tab over a suite, for JupyterLab, Colab and VS Code: as a cell's last line, it is shown."""
    from dit_core.widgets.panel import Explorer

    return Explorer(suite)


def load_ipython_extension(shell: Any) -> None:
    """`%load_ext dit_core.widgets`: tables are shown as `show` shows them."""
    shell.display_formatter.mimebundle_formatter.for_type(Table, bundle)


def unload_ipython_extension(shell: Any) -> None:
    """`%unload_ext dit_core.widgets`: tables are shown as before."""
    shell.display_formatter.mimebundle_formatter.pop(Table, None)
