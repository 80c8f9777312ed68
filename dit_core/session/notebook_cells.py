"""Notebook cells that give the same results as the Explore tab."""

from collections.abc import Mapping, Sequence
from typing import Any

from dit_core.methods import comparison as standing
from dit_core.methods.comparison import Column
from dit_core.session.oracle import PanelResult, arguments
from dit_core.session.settings import Settings
from dit_core.suite import Suite
from dit_core.suite.snippets import diff_expression, opening_lines

IMPORTS = ("from dit_core import load_suite", "from dit_core.present import plots")


def cell_code(suite: Suite, suite_ref: str, settings: Settings, columns: Sequence[Column]) -> str:
    """Return a cell that gives the same answers; `suite_ref` is how `load_suite` finds the suite."""
    plain = Settings.for_diff(suite, settings.diff)
    changed = {name: value for name, value in settings.sampling.items() if value != getattr(plain, name)}
    lines = opening_lines(suite, suite_ref, settings.diff, "from dit_core import ask, load_suite")
    asked = list(dict.fromkeys(column.question for column in columns))
    tables = ("table", "shown")[: len(asked)]
    for table, question in zip(tables, asked, strict=True):
        options = {
            "condition": [column.condition for column in columns if column.question == question],
            "question": question,
            **changed,
        }
        lines += [f"{table} = {call('ask', suite, settings.diff, options)}"]
    return "\n".join([*lines, f"display({', '.join(f'{table}.to_frame()' for table in tables)})"])


def read_code(suite: Suite, panel: PanelResult) -> str:
    """Return the part of a cell that draws the panel's figures, for behind a cell that loads `suite`."""
    diff, seed = panel.cards.settings.diff, panel.cards.settings.sampling["seed"]
    followed = [column for column in panel.cards.columns if column.of(panel.next_tokens or ())]
    options = {"condition": standing.pairs(followed), "seed": seed}
    imports = [
        "from dit_core.methods.lens import next_tokens",
        "from dit_core.present.plots import by_layer, next_token_by_layer",
    ]
    lines = [f"next_token_by_layer({call('next_tokens', suite, diff, options)}).show()"]
    if panel.readings:
        imports.insert(1, "from dit_core.methods.oracle import read")
        options = {"condition": standing.pairs(panel.columns)} | arguments(panel)
        lines.insert(0, f"by_layer({call('read', suite, diff, options)}).show()")
    return "\n".join([*imports, "", *lines])


def call(function: str, suite: Suite, diff: str | None, options: Mapping[str, Any]) -> str:
    """Return the code of a call about a diff, one option per line."""
    inside = "".join(f"    {option}={value!r},\n" for option, value in options.items())
    return f"{function}(\n    suite,\n    {diff_expression(suite, diff)},\n{inside})"
