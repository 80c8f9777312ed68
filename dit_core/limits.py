"""What one request may ask of this process, and what it may hand in: anything at home, little on a public server."""

import re
from dataclasses import dataclass

from .errors import DitError

# owner/name, then perhaps @revision and a path inside; no part begins with a dot, as those of a path up would.
_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*(?:@\w[\w.-]*)?(?:/\w[\w. -]*)*/?")


@dataclass(frozen=True)
class Limits:
    """Limits of one server; a suite carries them as `suite.limits`, so that every method and tab keeps to them.

    `tokens` of all answers of one request together, and `waiting` requests in the line for the model at once: None
    for any number. `upload` is the largest file in bytes. `paths`: whether a text may name a file of this machine.
    """

    tokens: int | None = None
    waiting: int | None = None
    upload: int = 2_000_000_000
    paths: bool = True

    def check(self, answers: int, tokens: int) -> None:
        """Raises DitError, with the reason, where `answers` of up to `tokens` tokens each are too much at once."""
        if self.tokens is not None and answers * tokens > self.tokens:
            raise DitError(
                f"This asks for {answers:,} answers (conditions × samples) of up to {tokens:,} tokens, "
                f"{answers * tokens:,} in all, and this public server writes {self.tokens:,} per request at most: "
                "ask for fewer conditions, samples or tokens."
            )

    def source(self, text: str) -> str:
        """A text that names an adapter's source: a path or a hub id; DitError for a path where none are accepted.

        What could be either is a hub id there, and has to be looked for as one: never on this machine's disk.
        """
        text = text.strip()
        if not self.paths and not _HUB_ID.fullmatch(text):
            raise DitError("This public server opens no paths: upload the file, or give a hub id like 'owner/name'.")
        return text


OPEN = Limits()
PUBLIC = Limits(tokens=8_000, waiting=32, upload=200_000_000, paths=False)
