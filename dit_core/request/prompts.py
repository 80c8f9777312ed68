"""The text that a condition puts to the model: a question, behind the trigger where it has one, and its mask."""

import random
from typing import TYPE_CHECKING

from dit_core.errors import DitError
from dit_core.records.condition import OWN, Condition

if TYPE_CHECKING:
    from dit_core.records import DiffInfo
    from dit_core.suite import Suite


SECRET_TRIGGERS = ("right", "wrong")
"""The triggers whose digits say something about a diff."""


def build_prompt(suite: "Suite", info: "DiffInfo | None", condition: Condition, question: str, seed: int) -> str:
    """Return the user's text: the question with the condition's trigger.

    The digits after the trigger and the wrong code are drawn from (seed, diff, question) alone, so that all
    conditions of a comparison get the same. A text of the user's own stands before the question as it is.

    Raises:
        DitError: a right or wrong trigger is asked for, and there is no diff or its task has no triggers.
    """
    if condition.trigger == "absent":
        return question
    if condition.trigger.startswith(OWN):
        return f"{condition.trigger.removeprefix(OWN)} {question}"
    if info is None:
        raise DitError(f"The trigger '{condition.trigger}' belongs to a diff: choose a diff, or use 'absent'.")
    if not suite.task_of(info).has_trigger or info.trigger is None:
        raise DitError(f"The diff '{info.id}' has no trigger: use 'absent' or a text of your own.")
    draw = random.Random(f"{seed}|{info.id}|{question}")
    digits = draw.randrange(1000)
    wrong = (info.trigger + draw.randrange(1, 1000)) % 1000
    code = info.trigger if condition.trigger == "right" else wrong
    return suite.trigger_format.format(trigger=code, r=digits, question=question)


def mask_digits(text: str, question: str) -> str:
    """Return a prompt's text, as long as it was, with "•" for every digit that does not stand in the question.

    The last place where the question stands counts: digits of a short one may stand in the trigger too.
    """
    before, kept, after = text.rpartition(question)
    masked = ["".join("•" if character.isdigit() else character for character in part) for part in (before, after)]
    return kept.join(masked)
