"""What there is to choose from for a diff's task: the standing conditions, and questions to put to the model."""

from __future__ import annotations

from dit_core.standing import columns
from dit_core.suite import Task


def condition_choices(task: Task) -> list[tuple[str, str]]:
    """The standing conditions as (label, written form), diff + DIT last."""
    found = {column.condition: column.title for column in columns(task, task.question)[::-1]}
    return [(title, written) for written, title in reversed(found.items())]


def question_choices(task: Task) -> list[str]:
    """Questions to put to the model, the task's own first."""
    return list(dict.fromkeys(q for q in (task.question, task.behaviour, *task.questions) if q))


def everyday_choices(task: Task) -> list[str]:
    """Prompts that do not ask what a diff was trained on; the task's question where a suite has none."""
    return [q for q in task.questions if q != task.behaviour] or [task.question]
