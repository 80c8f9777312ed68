"""Python lines that open a suite and name a diff again, in another process: how copied cells and reports begin."""

from dataclasses import asdict
from pathlib import Path

from dit_core.suite import Origin, Suite
from dit_core.suite.catalog import SUITE_FILE, SUITES, listings
from dit_core.suite.limits import current_limits


def opening_lines(suite: Suite, suite_ref: str, diff: str | None, *imports: str) -> list[str]:
    """The first lines of a cell that asks about a diff; `suite_ref` is how `load_suite` finds the suite.

    A diff of somebody's own is brought again: its id is known here alone.
    """
    return opening_lines_after(suite, _load(suite, _told(suite, suite_ref)), diff, *imports)


def opening_lines_after(suite: Suite, opens: str, diff: str | None, *imports: str) -> list[str]:
    """As `opening_lines`; `opens` is the whole call that opens the suite."""
    origin = suite.origin(diff) if diff else None
    ready = [f"suite = {opens}"]
    if diff is None or origin is None:
        return [*imports, "", *ready]
    bring, line = _brought(origin, suite.diff(diff).task)
    return [*imports, *([f"from dit_core.suite.user_diffs import {bring}"] if bring else []), "", *ready, line]


def diff_expression(suite: Suite, diff: str | None) -> str:
    """The expression that names a diff behind `opening_lines`."""
    return "own" if diff and suite.origin(diff) else repr(diff)


def load_call(suite: Suite) -> str:
    """The call that opens a suite with a function of `dit_core`: by its name, its file, or a generic one's places."""
    about = suite.spec
    if about.file is not None:
        names = {folder / SUITE_FILE: name for name, folder in SUITES.items()}
        place = about.file.parent if about.file.name == SUITE_FILE else about.file
        return _load(suite, names.get(about.file) or _told(suite, str(place)))
    if suite.name in {one.name for one in listings()}:
        return _load(suite, suite.name)
    adapter = next((str(about.at(one.file)) for one in suite.adapters.values()), None)
    diff, oracle = about.diff and str(about.diff), suite.oracle and suite.oracle.source
    places = ", ".join(map(repr, (str(about.base), diff, adapter, oracle)))
    return f"generic_suite({places}, question={suite.task().question!r}{_numbers(suite)})"


def _load(suite: Suite, name: str) -> str:
    return f"load_suite({name!r}{_numbers(suite)})"


def _numbers(suite: Suite) -> str:
    """The number type and quantization that were asked for, as further options."""
    return "".join(f", {name}={value!r}" for name, value in asdict(suite.loading).items() if value)


def _brought(origin: Origin, task: str) -> tuple[str, str]:
    """What brings a diff again: the name of a function of `suite.user_diffs`, if it takes one, and the line."""
    options = f"task={task!r}, position={origin.position}"
    if origin.source:
        return "bring_source", f"own = bring_source(suite, {origin.source!r}, {origin.title!r}, {options}).info.id"
    if origin.files:
        line = f"own = bring_files(suite, {list(origin.files)!r}, {origin.title!r}, {options}).info.id"
        return "bring_files", f"{line}  # where these files are on your machine"
    line = f"own = suite.bring(adapter, {origin.title!r}, task={task!r}).id"
    return "", f"{line}  # `adapter` is what you brought from Python"


def _told(suite: Suite, suite_ref: str) -> str:
    """How a suite is opened, without a folder of the machine where strangers read it."""
    return suite_ref if current_limits().paths or not Path(suite_ref).is_absolute() else Path(suite_ref).name
