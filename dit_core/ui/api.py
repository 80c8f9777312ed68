"""The page's endpoints, for `gradio_client`, other programs and MCP; each method's is made from its declaration."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter, Signature
from typing import Any
from urllib.parse import urlencode

import gradio as gr

from dit_core.grading import grade
from dit_core.methods import (
    Method,
    Need,
    Option,
    Targets,
    describe_methods,
    describe_options,
    list_methods,
    options_from,
    start,
)
from dit_core.methods.comparison import Column, columns
from dit_core.records import DiffInfo, Table, as_dict
from dit_core.records.condition import Condition
from dit_core.session.explore import cell_code
from dit_core.session.job import QueuePosition, follow
from dit_core.session.settings import Settings, from_query, to_query
from dit_core.suite import Suite
from dit_core.trust import stream_confidence, stream_method_confidence, stream_reading_confidence
from dit_core.ui.server.public import Server, in_a_sentence
from dit_core.ui.tabs.explore.events import pick


def endpoints(suite: Suite, suite_ref: str, server: Server) -> None:
    """Register the endpoints of a page over one suite, inside its `gr.Blocks`; `load_suite` finds it by `suite_ref`."""
    for function in functions(suite, suite_ref, server):
        gr.api(function, api_name=function.__name__, concurrency_limit=None)


def functions(suite: Suite, suite_ref: str, server: Server | None = None) -> list[Callable[..., Any]]:
    """Return the endpoints' functions over one suite, on a server without limits where none is given.

    Each raises `gr.Error` with the sentence of a `DitError`.
    """
    api = Api(suite, server or Server())

    def diffs(task: str = "", split: str = "") -> dict[str, Any]:
        """List the suite's weight diffs by id; what each was trained on stays hidden.

        Args:
            task: only diffs of this task, 'topic' or 'headline'; empty for all.
            split: only diffs of this split, 'train', 'test' or 'calibration'; empty for all.
        """
        table = suite.diffs.to_json()
        table["diffs"] = [d for d in table["diffs"] if task in ("", d["task"]) and split in ("", d["split"])]
        return table

    def surprise(task: str = "topic") -> str:
        """Pick a diff at random that no DIT adapter has seen in training, and give its id.

        Args:
            task: the task to pick from, 'topic' or 'headline'.
        """
        with in_a_sentence():
            return pick(suite, suite.task(task).name)

    def methods() -> dict[str, Any]:
        """List the methods: what each does, needs and costs, what the suite lacks for it, and its options."""
        return describe_methods(suite)

    def stop(request: gr.Request | None = None) -> str:
        """Stop what this client is waiting for; `ask` then gives what was said so far, `oracle` what was read."""
        return "stopped" if api.server.stop(request) else "nothing is running"

    def reveal(diff: str, answer: str = "") -> dict[str, Any]:
        """Say what a diff was really trained on and its trigger, and grade an answer against it.

        Args:
            diff: a diff's id, such as 'topic-0326'.
            answer: what a condition said; empty for no grade.
        """
        with in_a_sentence():
            info = suite.diff(diff)
            return as_dict(info, reveal=True) | {"grade": grade(suite, info, answer) if answer else None}

    def link(diff: str, condition: str = "diff+dit", question: str = "") -> str:
        """The part after the page's address that opens it with these settings and asks them.

        Args:
            diff: a diff's id, such as 'topic-0326'.
            condition: the chosen condition in its written form, such as 'diff*0.5+dit*2'.
            question: what to ask; empty for the suite's question.
        """
        return "?" + to_query(suite, _settings(diff, condition, question))

    def notebook_cell(diff: str, condition: str = "diff+dit", question: str = "") -> str:
        """Python for a notebook that asks the same standing comparison and the chosen condition.

        Args:
            diff: a diff's id, such as 'topic-0326'.
            condition: the chosen condition in its written form, such as 'diff*0.5+dit*2'.
            question: what to ask; empty for the suite's question.
        """
        settings = _settings(diff, condition, question)
        task = suite.task_of(suite.diff(settings.diff))
        return cell_code(suite, suite_ref, settings, columns(task, settings.question, settings.condition))

    def _settings(diff: str, condition: str, question: str) -> Settings:
        parts = {"diff": diff, "condition": condition} | ({"question": question} if question else {})
        with in_a_sentence():
            return from_query(suite, urlencode(parts))

    named: list[Callable[..., Any]] = [diffs, surprise, methods, stop, reveal, link, notebook_cell]
    return [*named, *method_functions(api), *trust_functions(api)]


@dataclass(frozen=True)
class Api:
    """The endpoints of one page: its suite, and the server that it is on."""

    suite: Suite
    server: Server

    def cards(self, info: DiffInfo, conditions: Sequence[str] | None, question: str) -> tuple[Column, ...]:
        """Return the columns for conditions in their written form; the standing comparison for none."""
        task = self.suite.task_of(info)
        if not conditions:
            return columns(task, question or None)
        parsed = [str(Condition.parse(condition)) for condition in conditions]
        return tuple(Column("other", text, text, question.strip() or task.question) for text in parsed)

    def last(self, tables: Generator[Table[Any], None, None], kind: str, request: gr.Request | None) -> dict[str, Any]:
        """Return the last of a stream's tables as JSON, an empty one of its `kind` where the client stops it before."""
        last: Table[Any] = Table(self.suite.name, kind, ())
        with self.server.running(request) as stopped:
            for table in follow(tables, stopped, frame=0):
                last = last if isinstance(table, QueuePosition) else table
        return last.to_json()


def method_functions(api: Api) -> list[Callable[..., Any]]:
    """Return the endpoint of each method, made from its declaration."""
    return [_endpoint(api, method) for method in list_methods()]


def _endpoint(api: Api, method: Method[Any, Any]) -> Callable[..., Any]:
    """Make a method's endpoint: Gradio reads parameters from its signature, MCP their meaning from its docstring."""
    described = [option for option in describe_options(method.options) if not option.local]

    def endpoint(*positional: Any, **named: Any) -> dict[str, Any]:
        bound = signature.bind(*positional, **named)
        bound.apply_defaults()
        values = bound.arguments
        given = {option.name: values[option.name] for option in described if option.given(values[option.name])}
        with in_a_sentence():
            targets = _targets(api, method, values)
            tables = start(method, api.suite, targets, options_from(method, given))
            return api.last(tables, method.kind, values["request"])

    parameters = [*_target_parameters(method), *map(_parameter, described)]
    signature = Signature([own for own, _ in parameters] + [_REQUEST], return_annotation=dict[str, Any])
    endpoint.__name__ = method.name
    endpoint.__signature__ = signature  # type: ignore[attr-defined]  # the way to give a function another
    endpoint.__annotations__ = {own.name: own.annotation for own in signature.parameters.values()}
    endpoint.__annotations__["return"] = dict[str, Any]
    lines = [f"    {own.name}: {meaning}" for own, meaning in parameters]
    endpoint.__doc__ = "\n".join([method.summary, "", "Args:", *lines])
    return endpoint


_REQUEST = Parameter("request", Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=gr.Request | None)
DIFF = "a diff's id, such as 'topic-0326'"
CONDITIONS = (
    "conditions in their written form, such as 'diff+dit*2+right' or 'base'; empty for the standing comparison: base, "
    "diff, diff + right trigger, DIT alone, diff + DIT."
)
ASKED = "what the model is asked; empty for the question that the suite asks about this kind of diff."


def _target_parameters(method: Method[Any, Any]) -> list[tuple[Parameter, str]]:
    """Return the parameters that say what a method is run on, each with its meaning."""
    needed = Need.DIFF in method.needs or method.asked
    shown: list[tuple[str, Any, Any, str]] = [("diff", str, Parameter.empty, f"{DIFF}.")]
    if not needed:
        shown = [("diff", str, "", f"{DIFF}; empty for none.")]
    if method.asked:
        shown += [("conditions", list[str] | None, None, CONDITIONS), (method.asked, str, "", ASKED)]
    kind = Parameter.POSITIONAL_OR_KEYWORD
    return [(Parameter(name, kind, default=default, annotation=hint), text) for name, hint, default, text in shown]


def _parameter(option: Option) -> tuple[Parameter, str]:
    """Return the parameter of a method's option; what may be None is 0 or empty for clients that send everything."""
    hint: Any = list[option.type] | None if option.several else option.type  # type: ignore[name-defined]
    default = None if option.several else option.type() if option.optional else option.default
    choices = f" One of {', '.join(option.choices)}." if option.choices else ""
    kind = Parameter.POSITIONAL_OR_KEYWORD
    return Parameter(option.name, kind, default=default, annotation=hint), f"{option.help}{choices}"


def _targets(api: Api, method: Method[Any, Any], values: Mapping[str, Any]) -> Targets:
    """Return what a request is about: conditions as written, else the standing comparison."""
    if not method.asked:
        return Targets(tuple(filter(None, [values["diff"]])))
    info = api.suite.diff(values["diff"])
    cards = api.cards(info, values["conditions"], values[method.asked])
    return Targets((info.id,), tuple((card.condition, card.question) for card in cards))


def trust_functions(api: Api) -> list[Callable[..., Any]]:
    """Return the endpoints that say how far an answer can be trusted."""
    suite = api.suite

    def confidence(
        diff: str, adapter: str = "", samples: int = 16, seed: int = 0, method: str = "",
        request: gr.Request | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """Say how far what a DIT adapter says about a diff can be trusted: samples, controls, and a probability.

        Args:
            diff: a diff's id, such as 'topic-0326'.
            adapter: the name of a DIT adapter; empty for that of the diff's task.
            samples: answers per diff and control; the calibration is for 16.
            seed: the same seed gives the same samples.
            method: the name of another method that gives answers, which runs with its default options; empty for a
                DIT adapter's answers.
        """
        with in_a_sentence():
            if method:
                return api.last(stream_method_confidence(suite, method, diff), "confidence", request)
            tables = stream_confidence(suite, diff, adapter=adapter or None, samples=samples, seed=seed)
            return api.last(tables, "confidence", request)

    def reading_confidence(
        diff: str,
        condition: str = "diff+dit",
        layers: str = "all",
        asked: str = "",
        span: str = "last:10",
        kind: str = "with",
        question: str = "",
        samples: int = 16,
        seed: int = 0,
        request: gr.Request | None = None,
    ) -> dict[str, Any]:
        """Say how far what the oracle reads of a diff can be trusted, layer by layer: samples, controls, chance.

        Args:
            diff: a diff's id, such as 'topic-0326'.
            condition: a condition with a diff in its written form, such as 'diff+right' or 'diff+dit'.
            layers: 'all', or numbers like '0,3-5' or '25%,50%'.
            asked: what the model is asked; empty for the question that the suite asks about this kind of diff.
            span: which tokens are read: 'last:10', 'prompt', '7', '3:9', 'answer' or 'answer:3'.
            kind: 'with' the condition, or its 'difference' to the base.
            question: what the oracle is asked; empty for its first preset.
            samples: readings per diff and control; the calibration is for 16.
            seed: the same seed gives the same samples.
        """
        with in_a_sentence():
            tables = stream_reading_confidence(
                suite,
                diff,
                condition=condition,
                layers=layers,
                asked=asked or None,
                span=span,
                kind=kind,
                question=question or None,
                samples=samples,
                seed=seed,
            )
            return api.last(tables, "reading_confidence", request)

    return [confidence, reading_confidence]
