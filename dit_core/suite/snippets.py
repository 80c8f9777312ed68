"""Python lines for another process: they open a suite, name a diff and call a function, in copied cells and reports."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dit_core.suite import Origin, Suite
from dit_core.suite.catalog import SUITE_FILE, SUITES, listings
from dit_core.suite.limits import current_limits

IMPORTS = ("from dit_core import load_suite", "from dit_core.present import plots")
"""What a cell needs that draws a figure."""


def opening_lines(suite: Suite, suite_ref: str, diff: str | None, *imports: str) -> list[str]:
    """Return the first lines of a cell about a diff; `suite_ref` is what `load_suite` finds the suite by.

    The lines add a user's own diff again, as its id is only known in this process.
    """
    return opening_lines_after(suite, _load_suite_call(suite, _public_ref(suite, suite_ref)), diff, *imports)


def opening_lines_after(suite: Suite, call: str, diff: str | None, *imports: str) -> list[str]:
    """Return the same lines as `opening_lines`, where `call` is the whole call that opens the suite."""
    origin = suite.origin(diff) if diff else None
    opened = [f"suite = {call}"]
    if diff is None or origin is None:
        return [*imports, "", *opened]
    function, line = _bring_line(origin, suite.diff(diff).task)
    return [*imports, *([f"from dit_core.suite.user_diffs import {function}"] if function else []), "", *opened, line]


def diff_expression(suite: Suite, diff: str | None) -> str:
    """Return the Python expression for a diff in the code after `opening_lines`."""
    return "own" if diff and suite.origin(diff) else repr(diff)


def call(function: str, suite: Suite, diff: str | None, options: Mapping[str, Any]) -> str:
    """Return the code of a call about a diff, one option per line."""
    inside = "".join(f"    {option}={value!r},\n" for option, value in options.items())
    return f"{function}(\n    suite,\n    {diff_expression(suite, diff)},\n{inside})"


def load_call(suite: Suite) -> str:
    """Return the `dit_core` call that opens a suite: by its name, by its file, or by a generic suite's sources."""
    spec = suite.spec
    if spec.file is not None:
        names = {folder / SUITE_FILE: name for name, folder in SUITES.items()}
        path = spec.file.parent if spec.file.name == SUITE_FILE else spec.file
        return _load_suite_call(suite, names.get(spec.file) or _public_ref(suite, str(path)))
    if suite.name in {listing.name for listing in listings()}:
        return _load_suite_call(suite, suite.name)
    adapter = next((str(spec.at(info.file)) for info in suite.adapters.values()), None)
    diff, oracle = spec.diff and str(spec.diff), suite.oracle and suite.oracle.source
    sources = ", ".join(map(repr, (str(spec.base), diff, adapter, oracle)))
    return f"generic_suite({sources}, question={suite.task().question!r}{_load_options(suite)})"


def _load_suite_call(suite: Suite, suite_ref: str) -> str:
    return f"load_suite({suite_ref!r}{_load_options(suite)})"


def _load_options(suite: Suite) -> str:
    """Return the number type and quantization that were asked for, as further arguments."""
    return "".join(f", {name}={value!r}" for name, value in asdict(suite.loading).items() if value)


def _bring_line(origin: Origin, task: str) -> tuple[str, str]:
    """Return a function of `suite.user_diffs` ("" for none), and the line that adds a diff again with it."""
    options = f"task={task!r}, position={origin.position}"
    if origin.source:
        return "bring_source", f"own = bring_source(suite, {origin.source!r}, {origin.title!r}, {options}).info.id"
    if origin.files:
        line = f"own = bring_files(suite, {list(origin.files)!r}, {origin.title!r}, {options}).info.id"
        return "bring_files", f"{line}  # where these files are on your machine"
    line = f"own = suite.bring(adapter, {origin.title!r}, task={task!r}).id"
    return "", f"{line}  # `adapter` is what you brought from Python"


def _public_ref(suite: Suite, suite_ref: str) -> str:
    """Return how the suite is opened, without a folder of this machine where strangers read it."""
    return suite_ref if current_limits().paths or not Path(suite_ref).is_absolute() else Path(suite_ref).name
