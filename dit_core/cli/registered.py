"""The commands of all methods, made from their declarations, and the list of them."""

import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import fields
from inspect import Parameter, Signature
from itertools import product
from typing import Annotated, Any
from urllib.parse import unquote

import typer

from dit_core.cli.output import AsJson, Reveal, SuiteName, numbers, print_json, print_rows, progress_bar, say
from dit_core.errors import DitError
from dit_core.methods import (
    Method,
    Option,
    Targets,
    describe_methods,
    describe_options,
    list_methods,
    options_from,
    start,
)
from dit_core.records.condition import grid

DIFF = "Id or reference of a diff{}."
CONDITION = "Like 'diff+dit*2+right'; repeatable."
ASKED = "What the condition is asked, instead of the task's own; repeatable."
STRENGTH = "Of the diff: numbers, like 0,0.5,1."
COPIES = "Of the DIT adapter: numbers, like 0,1,2."
TRIGGER = "Out of absent,right,wrong,own:TEXT (percent-encoded)."
ADAPTER = "Names of DIT adapters, like topic,topic-64."


def methods(suite: SuiteName = "pocket", as_json: AsJson = False) -> None:
    """List the methods: what each does, needs and costs, and whether the suite has what it needs."""
    from dit_core.suite import load_suite

    listed = describe_methods(load_suite(suite))
    if as_json:
        return print(json.dumps(listed, ensure_ascii=False, indent=2))
    columns = ["name", "title", "needs", "lacking", "cost"]
    rows = [[own[c] if isinstance(own[c], str) else ", ".join(own[c]) for c in columns] for own in listed["methods"]]
    print_rows(listed["suite"], columns, rows)


def method_commands() -> list[tuple[str, Callable[..., None]]]:
    """Return the command of each method, with its name."""
    return [(method.name.replace("_", "-"), _command(method)) for method in list_methods()]


def _command(method: Method[Any, Any]) -> Callable[..., None]:
    """Make a method's command; typer reads the options from its signature."""

    def command(**values: Any) -> None:
        _run(method, values)

    parameters = [*_target_parameters(method), *map(_parameter, describe_options(method.options))]
    parameters.append(Parameter("suite", Parameter.KEYWORD_ONLY, default="pocket", annotation=SuiteName))
    if any(own.metadata.get("secret") for own in fields(method.record)):
        parameters.append(Parameter("reveal", Parameter.KEYWORD_ONLY, default=False, annotation=Reveal))
    parameters.append(Parameter("as_json", Parameter.KEYWORD_ONLY, default=False, annotation=AsJson))
    command.__name__, command.__doc__ = method.name, method.summary
    command.__signature__ = Signature(parameters)  # type: ignore[attr-defined]  # the way to give a function another
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _target_parameters(method: Method[Any, Any]) -> list[Parameter]:
    """Return the options that say what a method is run on."""
    several, one = list[str] | None, str | None
    shown: list[tuple[str, Any, str, str]] = [
        ("diff", several, "--diff", DIFF.format("; repeatable")) if method.many_diffs
        else ("diff", one, "--diff", DIFF.format("")),
    ]  # fmt: skip
    if method.asked:
        shown += [("condition", several, "--condition", CONDITION), ("strength", one, "--strength", STRENGTH)]
        shown += [("copies", one, "--copies", COPIES), ("trigger", one, "--trigger", TRIGGER)]
        shown += [("adapter", one, "--adapter", ADAPTER), ("target_question", several, f"--{method.asked}", ASKED)]
    return [
        Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, typer.Option(flag, help=text)])
        for name, kind, flag, text in shown
    ]


def _parameter(option: Option) -> Parameter:
    """Return an option of a method as one of its command; texts are repeatable, numbers stand with commas between."""
    kind: Any = option.type
    if option.several:
        kind = list[str] if option.type is str else str
    text = option.help
    if option.choices:
        text += f" One of {', '.join(option.choices)}."
    if option.several and option.type is str:
        text += " Repeatable."
    unset = option.several or option.optional
    shown: Any = kind | None if unset else kind
    annotation: Any = Annotated[shown, typer.Option(option.flag, help=text)]
    return Parameter(
        option.name, Parameter.KEYWORD_ONLY, default=None if unset else option.default, annotation=annotation
    )


def _run(method: Method[Any, Any], values: dict[str, Any]) -> None:
    from dit_core.suite import load_suite

    described = {option.name: option for option in describe_options(method.options)}
    own = {name: values[name] for name in described}
    for name, option in described.items():
        if option.several and option.type is not str:
            own[name] = numbers(own[name], option.flag)
    targets, options = _targets(method, values), options_from(method, own)
    suite = load_suite(values["suite"])
    with ExitStack() as opened:
        show = None
        for table in start(method, suite, targets, options):
            done, total = method.progress(table)
            if total:
                show = show or opened.enter_context(progress_bar())
                show(done, total, "answers")
    if method.asked and not targets.diffs:
        say("No --diff was given: the base was asked, without any diff.")
    reveal = values.get("reveal", False)
    if values["as_json"]:
        return print_json(table, reveal)
    shown = method.text_rows(table, reveal)
    print_rows(shown.title, shown.columns, shown.rows)


def _targets(method: Method[Any, Any], values: dict[str, Any]) -> Targets:
    """Return what a command is to be run on: conditions written whole, or all combinations of their parts."""
    diff = values["diff"] or []
    diffs = tuple(diff) if isinstance(diff, list) else (diff,)
    if not method.asked:
        return Targets(diffs)
    parts = {
        "strength": numbers(values["strength"], "--strength"),
        "copies": numbers(values["copies"], "--copies"),
        "trigger": None if values["trigger"] is None else [unquote(part) for part in values["trigger"].split(",")],
        "adapter": values["adapter"].split(",") if values["adapter"] else None,
    }
    given = {name: value for name, value in parts.items() if value is not None}
    written = values["condition"] or []
    if written and given:
        raise DitError(f"Say conditions whole or in parts: leave out --condition or --{next(iter(given))}.")
    if given:
        written = [str(condition) for condition in grid(**{"strength": 1.0 if diffs else 0.0} | given)]
    questions = values["target_question"]
    if questions and not written:
        written = ["diff" if diffs else "base"]
    return Targets(diffs, tuple(product(written, questions or [None])))
