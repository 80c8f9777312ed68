"""Methods: every way to turn a weight diff into words about it, and the list of them.

Each is declared once, in its own folder, as a `Method` (see `protocol`); all faces are made from the declaration.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

from dit_core.errors import DitError, did_you_mean
from dit_core.methods.protocol import Method, Need, Option, Targets, TextRows, describe_options, option, options_from
from dit_core.records import Answer, Condition, DiffInfo, Table, as_list

if TYPE_CHECKING:
    from dit_core.methods.sampling import Conditions, Diffs
    from dit_core.suite import Suite

__all__ = [
    "Answer",
    "Method",
    "Need",
    "Option",
    "Targets",
    "TextRows",
    "describe_methods",
    "describe_options",
    "get_method",
    "list_methods",
    "option",
    "options_from",
    "register",
    "run_method",
    "start",
    "stream_method",
    "unregister",
]
ROOMS = ("dit_core.methods", "dit_core.sweeps")
"""Packages that declare methods, in a list `METHODS` of their own or of packages in them. They are imported by name
when the list is first asked for, as some stand on higher floors than this one."""


def list_methods() -> tuple[Method[Any, Any], ...]:
    """Return all methods: those of the project in the order of their rooms, then those that others registered."""
    return tuple(_methods().values())


def get_method(name: str) -> Method[Any, Any]:
    """Return the method of that name; DitError, with the nearest name, for an unknown one."""
    if name not in _methods():
        raise DitError(f"There is no method '{name}': use {', '.join(_methods())}.{did_you_mean(name, _methods())}")
    return _methods()[name]


def describe_methods(suite: Suite) -> dict[str, Any]:
    """Return the list of methods as plain data for JSON: what each does, needs, costs and takes, and what it lacks."""
    return {"suite": suite.name, "methods": [_described(method, suite) for method in list_methods()]}


def _described(method: Method[Any, Any], suite: Suite) -> dict[str, Any]:
    texts = {name: getattr(method, name) for name in ("name", "title", "summary", "source", "cost", "figure")}
    needs = [str(need) for need in Need if need in method.needs]
    lacking = [str(need) for need in method.unmet(suite, method.options())]
    options = [
        {"name": own.name, "type": own.type.__name__, "several": own.several, "default": own.default, "help": own.help}
        for own in describe_options(method.options)
    ]
    takes = {"takes_conditions": bool(method.asked), "gives_answers": method.gives_answers, "options": options}
    return texts | {"needs": needs, "lacking": lacking} | takes


def register(method: Method[Any, Any]) -> None:
    """Add a method; commands and pages that are made from now on have it.

    Raises:
        DitError: another method has its name.
    """
    if _methods().setdefault(method.name, method) is not method:
        raise DitError(f"There is a method '{method.name}' already: give this one another name.")


def unregister(name: str) -> None:
    """Take a method off the list; nothing happens where there is none of that name."""
    _methods().pop(name, None)


def run_method(
    suite: Suite, name: str, diff: Diffs = None, *, condition: Conditions = None, asked: str | None = None,
    options: Any = None,
) -> Table[Any]:  # fmt: skip
    """Run a method and return its table.

    Args:
        suite: what `load_suite` gave.
        name: the method's, such as `oracle`; `list_methods` has all.
        diff: ids or references; None for the base alone, where the method can.
        condition: conditions in their written form, or `Condition`s; by default the method's own choice.
        asked: what they are asked; by default the question of the diff's task.
        options: an object of the method's `options` class; its defaults without it.

    Raises:
        DitError: there is no such method, the suite lacks what it needs, or the request makes no sense.
    """
    *_, table = stream_method(suite, name, diff, condition=condition, asked=asked, options=options)
    return table


def stream_method(
    suite: Suite, name: str, diff: Diffs = None, *, condition: Conditions = None, asked: str | None = None,
    options: Any = None,
) -> Generator[Table[Any], None, None]:  # fmt: skip
    """Run a method as `run_method` does, and yield the table so far as the work goes on."""
    diffs = tuple(info.id if isinstance(info, DiffInfo) else info for info in _several(diff))
    written = tuple((str(Condition.parse(own) if isinstance(own, str) else own), asked) for own in _several(condition))
    return start(get_method(name), suite, Targets(diffs, written), options)


def start(
    method: Method[Any, Any], suite: Suite, targets: Targets, options: Any = None
) -> Generator[Table[Any], None, None]:
    """Begin a method's work on targets of a suite; `options` and errors are as of `run_method`."""
    options = method.options() if options is None else options
    if not isinstance(options, method.options):
        raise DitError(f"The options of '{method.name}' must be made by its class {method.options.__name__}.")
    lacking = lacking_for(method, suite, options, targets)
    if lacking:
        raise DitError(
            f"The suite '{suite.name}' has no {lacking[0]}, which '{method.name}' needs: choose another of them."
        )
    if Need.DIFF in method.needs and not targets.diffs:
        raise DitError(f"The method '{method.name}' needs a diff: choose one.")
    if len(targets.diffs) > 1 and not method.many_diffs:
        raise DitError(f"The method '{method.name}' takes one diff at a time: leave out all but one.")
    if targets.conditions and not method.asked:
        raise DitError(f"The method '{method.name}' takes no conditions: leave them out.")
    return method.run(suite, replace(targets, diffs=tuple(map(suite.diff, targets.diffs))), options)


def lacking_for(method: Method[Any, Any], suite: Suite, options: Any, targets: Targets) -> list[Need]:
    """Return what a method lacks for these targets: a user's own diff is one where the suite lists none."""
    given = {Need.DIFF} if targets.diffs else set()
    return [need for need in method.unmet(suite, options) if need not in given]


def _several(value: Any) -> list[Any]:
    return [] if value is None else as_list(value)


@cache
def _methods() -> dict[str, Method[Any, Any]]:
    """The list of methods by name, which `register` adds to."""
    found: list[Method[Any, Any]] = []
    for room in map(import_module, ROOMS):
        folders = [module.name for module in iter_modules(room.__path__, f"{room.__name__}.") if module.ispkg]
        for declaring in (room, *map(import_module, folders)):
            found += getattr(declaring, "METHODS", ())
    return {method.name: method for method in found}
