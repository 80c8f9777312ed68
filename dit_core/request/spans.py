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
    rf"(?P<each>each:)?(?:(?P<all>prompt)|last:(?P<last>{_N})|(?P<start>{_N}):(?P<stop>{_N})|(?P<one>{_N})"
    rf"|answer(?::(?P<first>{_N}))?)",
    re.ASCII,
)
_HINT = "write 'prompt', 'last:10', '7', '3:9', 'answer', 'answer:3', or 'each:' and one of these"


@dataclass(frozen=True)
class Span:
    """A span as written, checked for form: `positions` gives its positions in a prompt and answer of known lengths."""

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
        """The positions of each reading, for a prompt and an answer of so many tokens.

        Raises DitError where the span reaches outside, or holds nothing.
        """
        positions = self._positions(prompt, answer)
        return [(position,) for position in positions] if self.per_token else [tuple(positions)]

    def _positions(self, prompt: int, answer: int) -> range:
        found = _FORM.fullmatch(self.text)
        parts = {name: int(value) for name, value in found.groupdict().items() if value and value.isdigit()}
        whole = prompt + answer
        if found["all"]:
            return self._checked(range(prompt), prompt, "prompt", prompt)
        if self.needs_answer:
            return self._checked(range(prompt, prompt + parts.get("first", answer)), whole, "answer", answer)
        if "last" in parts:
            return self._checked(range(prompt - parts["last"], prompt), prompt, "prompt", prompt)
        # One token, and spans between two numbers, may also lie in the answer, where there is one.
        start = parts.get("start", parts.get("one", 0))
        what = "prompt and answer" if answer else "prompt"
        return self._checked(range(start, parts.get("stop", start + 1)), whole, what, whole)

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
