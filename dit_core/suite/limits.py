"""Limits of what one request may ask for and upload: none on one's own machine, tight ones on a public server."""

import re
import sys
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from dit_core.errors import DitError

# owner/name, optionally @revision and a path inside; no part begins with a dot, as in a path to a parent folder.
_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*(?:@\w[\w.-]*)?(?:/\w[\w. -]*)*/?")


@dataclass(frozen=True)
class Limits:
    """Limits of one server, which every method and tab keeps to while it answers that server's requests.

    Attributes:
        tokens: tokens of all answers of one request together; None for any number.
        run_answers: answers of one run of the scoreboard, which is many requests; None for any number.
        waiting: requests that may wait for the model at once; None for any number.
        upload_bytes: size of the largest file.
        user_diff_bytes: memory for all users' own diffs together; None for any amount.
        paths: whether a text may name a file of this machine.
        suites: whether a visitor may open any suite of the catalogue, which can mean a download.
    """

    tokens: int | None = None
    run_answers: int | None = None
    waiting: int | None = None
    upload_bytes: int = 2_000_000_000
    user_diff_bytes: int | None = None
    paths: bool = True
    suites: bool = True

    def check(self, answers: int, tokens: int) -> None:
        """Check that one request may ask for `answers` answers of up to `tokens` tokens each.

        Raises:
            DitError: that is more than the server gives.
        """
        if self.tokens is not None and answers * tokens > self.tokens:
            raise DitError(
                f"This asks for {answers:,} answers (conditions × samples) of up to {tokens:,} tokens, "
                f"{answers * tokens:,} in all, and this public server writes {self.tokens:,} per request at most: "
                "ask for fewer conditions, samples or tokens."
            )

    def check_run(self, answers: int) -> None:
        """Check that one run of the scoreboard may ask for `answers` answers.

        Raises:
            DitError: that is more than the server gives.
        """
        if self.run_answers is not None and answers > self.run_answers:
            raise DitError(
                f"This run asks for {answers:,} answers, and this public server gives {self.run_answers:,} per run at "
                "most: measure fewer diffs or fewer kinds of methods."
            )

    def answers_at_once(self, tokens: int) -> int:
        """Return how many answers of up to `tokens` tokens one request may ask for; at least one."""
        return sys.maxsize if self.tokens is None else max(1, self.tokens // tokens)

    def check_download(self, source: str, size: int) -> None:
        """Check that a visitor may have `size` bytes fetched from the hub; `source` names them in the error.

        Raises:
            DitError: that is more than the server fetches for a visitor.
        """
        if not self.suites and size > self.upload_bytes:
            raise DitError(
                f"'{source}' is a download of {size / 1e6:,.0f} MB, and this public server fetches "
                f"{self.upload_bytes / 1e6:,.0f} MB for a visitor at most."
            )

    def check_source(self, text: str) -> str:
        """Return a text that names an adapter's source, a path or a hub id, without white space around it.

        Where no paths are accepted, a text that could be either is a hub id, and must never be looked up on this disk.

        Raises:
            DitError: it is a path, and the server accepts none.
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
    """A request that is being answered: the limits of its server, and the client that made it."""

    limits: Limits = OPEN
    client: Hashable = None


_LOCAL = _Request()
_REQUEST: ContextVar[_Request] = ContextVar("request", default=_LOCAL)


@contextmanager
def serving(limits: Limits = OPEN, client: Hashable = None) -> Iterator[None]:
    """Apply a server's limits, and serve `client` in its turn, while the context is open.

    It holds for this thread and for what is handed to the worker from it, so servers with different limits may share a
    suite. Do not hold it over a `yield` of a generator that a server reads: each step may run in another thread.
    """
    token = _REQUEST.set(_Request(limits, client))
    try:
        yield
    finally:
        _REQUEST.reset(token)


def current_limits() -> Limits:
    """Return the limits of the request that is being answered; in Python and on the command line there are none."""
    return _REQUEST.get().limits


def current_client() -> Hashable:
    """Return the client of the request that is being answered; None where no server asks."""
    return _REQUEST.get().client


def max_waiting() -> int | None:
    """Return how many requests may wait for the model, by the limits of this request; None for any number."""
    return current_limits().waiting
