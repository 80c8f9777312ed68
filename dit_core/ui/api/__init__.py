"""What the page can do, as named endpoints: for `gradio_client`, for other programs, and for MCP.

Same functions as the page, the command line and Python; answers in the same JSON.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlencode

import gradio as gr

from dit_core.errors import DitError
from dit_core.grading import grade
from dit_core.methods import SamplingOptions
from dit_core.methods.comparison import Column, columns, compare
from dit_core.records import DiffInfo, Table, Verbalization, as_dict
from dit_core.records.condition import Condition
from dit_core.session.job import follow
from dit_core.session.notebook_cells import cell_code
from dit_core.session.settings import Settings, from_query, to_query
from dit_core.suite import Suite
from dit_core.ui.api.methods import lens_functions, oracle_functions, trust_functions
from dit_core.ui.server import public
from dit_core.ui.tabs.explore.events import pick

RUNNING: dict[str, threading.Event] = {}  # stops what each client of the API is waiting for


def endpoints(suite: Suite, word: str) -> None:
    """Registers the endpoints inside a `gr.Blocks`."""
    for function in functions(suite, word):
        gr.api(function, api_name=function.__name__, concurrency_limit=None)


def functions(suite: Suite, word: str) -> list[Callable]:
    """The endpoints' functions over one suite. Each raises `gr.Error` with the sentence of a `DitError`."""

    def diffs(task: str = "", split: str = "") -> dict:
        """Lists the suite's weight diffs by id; what each was trained on stays hidden.

        Args:
            task: only diffs of this task, 'topic' or 'headline'; empty for all.
            split: only diffs of this split, 'train', 'test' or 'calibration'; empty for all.
        """
        table = suite.diffs.to_json()
        table["diffs"] = [d for d in table["diffs"] if task in ("", d["task"]) and split in ("", d["split"])]
        return table

    def surprise(task: str = "topic") -> str:
        """Picks a diff at random that no DIT adapter has seen in training, and gives its id.

        Args:
            task: the task to pick from, 'topic' or 'headline'.
        """
        with plainly():
            return pick(suite, suite.task(task).name)

    def ask(
        diff: str,
        conditions: list[str] | None = None,
        question: str = "",
        samples: int = 1,
        temperature: float = 0.0,
        top_p: float = 1.0,
        max_new_tokens: int = 0,
        seed: int = 0,
        request: gr.Request | None = None,
    ) -> dict:
        """Asks a diff under several conditions, all in one batch, and gives what each said, token by token.

        Args:
            diff: a diff's id, such as 'topic-0326'.
            conditions: conditions in their written form, such as 'diff+dit*2+right' or 'base'; empty for the
                standing comparison: base, diff, diff + right trigger, DIT alone, diff + DIT.
            question: what to ask; empty for the question that the suite asks about this kind of diff.
            samples: answers per condition; more than one needs a temperature above 0.
            temperature: 0 takes the likeliest token each time.
            top_p: only the likeliest tokens that together have this probability are drawn from.
            max_new_tokens: the longest answer in tokens; 0 for the suite's default.
            seed: the same seed gives the same sampled answers.
        """
        answers: Table[Verbalization] = Table(suite.name, "verbalizations", ())
        with plainly(), running(request) as stopped:
            info = suite.diff(diff)
            wanted = asked_columns(suite, info, conditions or [], question)
            sampling: SamplingOptions = {
                "samples": samples,
                "temperature": temperature,
                "top_p": top_p,
                "max_new_tokens": max_new_tokens or suite.max_new_tokens,
                "seed": seed,
            }
            for table in follow(compare(suite, info, wanted, **sampling), stopped, frame=0):
                answers = table
        return answers.to_json()

    def stop(request: gr.Request | None = None) -> str:
        """Stops what this client is waiting for; `ask` then gives what was said so far, `oracle` what was read."""
        running = RUNNING.get(_client(request))
        if running is None:
            return "nothing is running"
        running.set()
        return "stopped"

    def reveal(diff: str, answer: str = "") -> dict:
        """Says what a diff was really trained on and its trigger, and grades an answer against it.

        Args:
            diff: a diff's id, such as 'topic-0326'.
            answer: what a condition said; empty for no grade.
        """
        with plainly():
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
        return cell_code(suite, word, settings, columns(task, settings.question, settings.condition))

    def _settings(diff: str, condition: str, question: str) -> Settings:
        parts = {"diff": diff, "condition": condition} | ({"question": question} if question else {})
        with plainly():
            return from_query(suite, urlencode(parts))

    reading = oracle_functions(suite, plainly, running, asked_columns)
    trust = trust_functions(suite, plainly, running)
    return [diffs, surprise, ask, stop, reveal, link, notebook_cell, *reading, *lens_functions(suite, plainly), *trust]


def _client(request: gr.Request | None) -> str:
    """What tells one client from another; "" for a client that does not say (it has nothing to stop)."""
    return getattr(request, "session_hash", None) or ""


def asked_columns(suite: Suite, info: DiffInfo, conditions: list[str], question: str) -> tuple[Column, ...]:
    """The columns for conditions in their written form; the standing comparison for none."""
    task = suite.task_of(info)
    if not conditions:
        return columns(task, question or None)
    parsed = [Condition.parse(condition) for condition in conditions]
    return tuple(Column("other", str(c), str(c), question.strip() or task.question) for c in parsed)


@contextmanager
def running(request: gr.Request | None) -> Iterator[threading.Event]:
    """The signal that stops what a client waits for while the context is open; its `stop` sets it."""
    client, stopped = _client(request), threading.Event()
    if client:
        RUNNING[client] = stopped
    try:
        yield stopped
    finally:
        if RUNNING.get(client) is stopped:
            del RUNNING[client]


def left(request: gr.Request) -> None:
    """A client's connection has ended: nothing goes on for it, unless it still listens for its answer."""
    stopped = RUNNING.get(_client(request))
    if stopped is not None:
        if public.listens(_client(request)):
            return
        stopped.set()
    public.forget(_client(request))


@contextmanager
def plainly() -> Iterator[None]:
    """A `DitError` becomes the message that a client sees."""
    try:
        yield
    except DitError as error:
        raise gr.Error(str(error), print_exception=False) from error
