"""The choices that controls offer: diffs, DIT adapters, and for a diff's task its conditions and questions."""

from __future__ import annotations

from collections.abc import Iterable

from dit_core.methods.comparison import columns
from dit_core.records.condition import VECTOR
from dit_core.suite import Suite, Task

PICKER = "Weight diff"
"""The label of every list of diffs: a diff that a visitor brings joins them all."""
# Measures of a reading, label to name; those of the second line need to know the reference.
MEASURES = {"confidence": "confidence"}
REVEALED = {"log-probability of the reference": "log_prob_reference", "grade": "grade"}


def diff_choices(suite: Suite, own: Iterable[tuple[str, str]] = ()) -> list[tuple[str, str]]:
    """Return the diffs as (label, id): the visitor's `own`, then held-out ones, then those seen in training."""
    ordered = sorted(suite.diffs, key=lambda d: d.split == "train")
    listed = [(f"{d.id}  (seen in training)" if d.split == "train" else d.id, d.id) for d in ordered]
    return [*((f"{title}  (your own)", id) for title, id in own), *listed]


def adapter_choices(suite: Suite) -> list[tuple[str, str]]:
    """Return the DIT adapters as (label, name), the task's own first; then all of them as vectors."""
    own = ("the task's own", "")
    named = [own, *((f"{name}: {info.title}" if info.title else name, name) for name, info in suite.adapters.items())]
    return [*named, *((f"{label}, as a vector", name + VECTOR) for label, name in named)]


def condition_choices(task: Task) -> list[tuple[str, str]]:
    """Return the conditions of the standing comparison as (label, written form), diff + DIT last."""
    titles = {column.condition: column.title for column in columns(task, task.question)[::-1]}
    return [(title, written) for written, title in reversed(titles.items())]


def question_choices(task: Task) -> list[str]:
    """Return questions to the model, the task's own first."""
    return list(dict.fromkeys(q for q in (task.question, task.behaviour, *task.questions) if q))


def everyday_choices(task: Task) -> list[str]:
    """Return prompts that do not ask what a diff was trained on; the task's question where a suite has none."""
    return [q for q in task.questions if q != task.behaviour] or [task.question]


def measures(open_now: bool) -> list[tuple[str, str]]:
    """Return what the y axis of readings may show, as (label, name)."""
    return list((MEASURES | (REVEALED if open_now else {})).items())


def measure(y: str, open_now: bool) -> str:
    """Return `y` where it may be shown, else the first measure that may."""
    offered = [written for _, written in measures(open_now)]
    return y if y in offered else offered[0]
