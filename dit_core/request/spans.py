"""Spans: which tokens of a prompt, and of the answer to it, are read. Written the same everywhere.

`prompt` (all of it), `last:10`, `7` (one token), `3:9` (from 3 up to and without 9), `answer`, `answer:3` (its first
three tokens); `each:` in front of any of these reads every token on its own. Positions count from 0 at the prompt's
first token, the chat template's own tokens included; the answer follows the prompt.
"""

import re
from dataclasses import dataclass

from dit_core.errors import DitError

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
