"""The text that a condition puts to the model (a question, behind the trigger where it has one), and spans of it."""

import random
import re
from dataclasses import dataclass
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


_N = r"\d{1,9}"
_FORM = re.compile(
    rf"(?P<each>each:)?(?:(?P<all>prompt)|last:(?P<last>{_N})|(?P<start>{_N}):(?P<stop>{_N})|(?P<token>{_N})"
    rf"|answer(?::(?P<first>{_N}))?)",
    re.ASCII,
)
_HINT = "write 'prompt', 'last:10', '7', '3:9', 'answer', 'answer:3', or 'each:' and one of these"


@dataclass(frozen=True)
class Span:
    """A span as it is written, checked for form; `positions` finds it in a prompt and answer of known lengths.

    Raises:
        DitError: the text is no span.
    """

    text: str

    def __post_init__(self) -> None:
        text = str(self.text).strip()
        if not _FORM.fullmatch(text):
            raise DitError(f"The span '{text[:40]}' is not understood: {_HINT}.")
        object.__setattr__(self, "text", text)

    def __str__(self) -> str:
        return self.text

    @property
    def per_token(self) -> bool:
        """Whether every token is read on its own."""
        return self.text.startswith("each:")

    @property
    def needs_answer(self) -> bool:
        """Whether the target has to answer first."""
        return "answer" in self.text

    def positions(self, prompt: int, answer: int = 0) -> list[tuple[int, ...]]:
        """Return the positions of each reading, for a prompt and an answer of so many tokens.

        Raises:
            DitError: the span reaches outside, or holds no token.
        """
        span = self._range(prompt, answer)
        return [(position,) for position in span] if self.per_token else [tuple(span)]

    def _range(self, prompt: int, answer: int) -> range:
        match = _FORM.fullmatch(self.text)
        given = match.groupdict() if match else {}
        numbers = {name: int(value) for name, value in given.items() if value and value.isdigit()}
        if given.get("all"):
            return self._checked(range(prompt), prompt, "prompt", prompt)
        if self.needs_answer:
            stop = prompt + numbers.get("first", answer)
            return self._checked(range(prompt, stop), prompt + answer, "answer", answer)
        if "last" in numbers:
            return self._checked(range(prompt - numbers["last"], prompt), prompt, "prompt", prompt)
        # One token, and spans between two numbers, may also lie in the answer, where there is one.
        start = numbers.get("start", numbers.get("token", 0))
        what = "prompt and answer" if answer else "prompt"
        return self._checked(range(start, numbers.get("stop", start + 1)), prompt + answer, what, prompt + answer)

    def _checked(self, positions: range, stop: int, what: str, length: int) -> range:
        if not positions:
            reason = f"the {what} is empty" if not length else "it holds no token"
            raise DitError(f"The span '{self.text}' can't be read, for {reason}: {_HINT}.")
        if positions.start < 0 or positions.stop > stop:
            raise DitError(
                f"The span '{self.text}' reaches outside of the {what}, which has {length} tokens, counted from 0: "
                "choose fewer, or others."
            )
        return positions
