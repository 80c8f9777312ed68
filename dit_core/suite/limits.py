"""What one request may ask of this process, and what it may hand in: anything at home, little on a public server."""

import re
import sys
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from dit_core.errors import DitError

# owner/name, then perhaps @revision and a path inside; no part begins with a dot, as those of a path up would.
_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*(?:@\w[\w.-]*)?(?:/\w[\w. -]*)*/?")


@dataclass(frozen=True)
class Limits:
    """Limits of one server, which every method and tab keeps to while it answers one of that server's requests.

    `tokens` of all answers of one request together, answers of one `run` of the scoreboard (many requests), and
    `waiting` requests in the line for the model at once: None for any number. `upload` is the largest file in bytes,
    `brought` what the diffs that visitors brought may take in memory, all of them together. `paths`: whether a text may
    name a file of this machine. `suites`: whether a visitor may open any suite of the catalogue, which can mean a
    download.
    """

    tokens: int | None = None
    run_answers: int | None = None
    waiting: int | None = None
    upload_bytes: int = 2_000_000_000
    user_diff_bytes: int | None = None
    paths: bool = True
    suites: bool = True

    def check(self, answers: int, tokens: int) -> None:
        """Raises DitError, with the reason, where `answers` of up to `tokens` tokens each are too much at once."""
        if self.tokens is not None and answers * tokens > self.tokens:
            raise DitError(
                f"This asks for {answers:,} answers (conditions × samples) of up to {tokens:,} tokens, "
                f"{answers * tokens:,} in all, and this public server writes {self.tokens:,} per request at most: "
                "ask for fewer conditions, samples or tokens."
            )

    def check_run(self, answers: int) -> None:
        """Raises DitError, with the reason, where `answers` are too much for one run of the scoreboard."""
        if self.run_answers is not None and answers > self.run_answers:
            raise DitError(
                f"This run asks for {answers:,} answers, and this public server gives {self.run_answers:,} per run at "
                "most: measure fewer diffs or fewer kinds of methods."
            )

    def answers_at_once(self, tokens: int) -> int:
        """How many answers of up to `tokens` tokens one request may ask for; at least one."""
        return sys.maxsize if self.tokens is None else max(1, self.tokens // tokens)

    def check_download(self, what: str, size: int) -> None:
        """Raises DitError where a visitor may not have `size` bytes fetched from the hub."""
        if not self.suites and size > self.upload_bytes:
            raise DitError(
                f"'{what}' is a download of {size / 1e6:,.0f} MB, and this public server fetches "
                f"{self.upload_bytes / 1e6:,.0f} MB for a visitor at most."
            )

    def check_source(self, text: str) -> str:
        """A text that names an adapter's source: a path or a hub id; DitError for a path where none are accepted.

        What could be either is a hub id there, and has to be looked for as one: never on this machine's disk.
        """
        text = text.strip()
        if not self.paths and not _HUB_ID.fullmatch(text):
            raise DitError("This public server opens no paths: upload the file, or give a hub id like 'owner/name'.")
        return text


OPEN = Limits()
PUBLIC = Limits(
    tokens=8_000,
    run_answers=2_500,
    waiting=32,
    upload_bytes=200_000_000,
    user_diff_bytes=2_000_000_000,
    paths=False,
    suites=False,
)


@dataclass(frozen=True)
class _Request:
    """A request that is answered: the limits of the server that it came to, and which client made it."""

    limits: Limits = OPEN
    client: Hashable = None


_HERE = _Request()
_REQUEST: ContextVar[_Request] = ContextVar("request", default=_HERE)


@contextmanager
def serving(limits: Limits = OPEN, client: Hashable = None) -> Iterator[None]:
    """Answer a request inside: what is asked there keeps to `limits` and takes its turn as `client`.

    It holds for this thread and for what is handed to the worker from it, so servers with different limits may share a
    suite. Not to be held over a `yield` of a generator that a server reads: each step may run in another thread.
    """
    token = _REQUEST.set(_Request(limits, client))
    try:
        yield
    finally:
        _REQUEST.reset(token)


def current_limits() -> Limits:
    """Return the limits of the request that is answered here; in Python and on the command line there are none."""
    return _REQUEST.get().limits


def current_client() -> Hashable:
    """Return who made the request that is answered here; None where no server asks."""
    return _REQUEST.get().client


def max_waiting() -> int | None:
    """Return how many requests may wait for the model where this one was made; None for any number."""
    return current_limits().waiting
