"""What the page can do, as named endpoints: for `gradio_client`, for other programs, and for MCP.

Same functions as the page, the command line and Python; answers in the same JSON.
"""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import gradio as gr

from dit_core.grading import grade
from dit_core.methods import describe_methods
from dit_core.methods.comparison import columns
from dit_core.records import as_dict
from dit_core.session.notebook_cells import cell_code
from dit_core.session.settings import Settings, from_query, to_query
from dit_core.suite import Suite
from dit_core.ui.api.methods import Api, method_functions, trust_functions
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
        """Pick a diff at random that no DIT adapter has seen in training, and gives its id.

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
        """Say what a diff was really trained on and its trigger, and grades an answer against it.

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
