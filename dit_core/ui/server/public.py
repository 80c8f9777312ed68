"""A server: what may be asked of it and who asks, what visitors are told of errors, and which hosts its pages ask."""

from __future__ import annotations

import inspect
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.context import LocalContext
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dit_core.errors import DitError
from dit_core.session.tab import error_sentence
from dit_core.suite.limits import OPEN, PUBLIC, Limits, serving

HEARTBEAT = 1.0  # seconds that a busy machine may be late with a beat of a client's connection
UPLOAD_CHECKS = 600, 3600


def on_space() -> bool:
    """Return whether this process runs on a Hugging Face Space."""
    return bool(os.environ.get("SPACE_ID"))


def limits(public: bool, upload_mb: int | None = None) -> Limits:
    """Return what may be asked of a server, with the largest upload where another is wanted; a Space is always public.

    Raises:
        DitError: an upload of less than 1 MB.
    """
    found = PUBLIC if public or on_space() else OPEN
    if upload_mb is None:
        return found
    if upload_mb < 1:
        raise DitError(f"Uploads of {upload_mb} MB can't be taken: give 1 or more as --upload-mb or DIT_UPLOAD.")
    return replace(found, upload_bytes=upload_mb * 1_000_000)


class Server:
    """What all pages of one server have in common: its limits, and what each client of the endpoints waits for.

    `upload_checks` says how often uploads are looked at, and how old one may get, in seconds.
    """

    def __init__(self, limits: Limits = OPEN, upload_checks: tuple[int, int] = UPLOAD_CHECKS) -> None:
        self.limits, self.upload_checks = limits, upload_checks
        self._running: dict[str, threading.Event] = {}

    def guard(self, page: gr.Blocks) -> None:
        """Let every event and endpoint of a page keep to the limits, and say what went wrong in one sentence.

        A `DitError` is its own sentence; anything else goes to the log under an id, which the visitor is given, so that
        nobody reads how the server is built.
        """
        for event in page.fns.values():
            if event.fn is not None and event.renderable is None:
                event.fn = self._guarded(event.fn)

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Answer a request inside: within this server's limits, in the turn of the client whose event runs here."""
        with serving(self.limits, client_of(LocalContext.request.get(None)) or None):
            yield

    def _guarded(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def call(*args: Any, **options: Any) -> Any:
            with self.answering(), in_a_sentence():
                return function(*args, **options)

        @wraps(function)
        def stream(*args: Any, **options: Any) -> Iterator[Any]:
            steps = function(*args, **options)
            try:
                while True:
                    with self.answering(), in_a_sentence():  # anew for each step: it may run in another thread
                        try:
                            step = next(steps)
                        except StopIteration:
                            return
                    yield step
            finally:
                steps.close()

        return stream if inspect.isgeneratorfunction(function) else call

    @contextmanager
    def running(self, request: gr.Request | None) -> Iterator[threading.Event]:
        """Give the signal that stops what a client waits for while the context is open; its `stop` sets it."""
        client, stopped = client_of(request), threading.Event()
        if client:
            self._running[client] = stopped
        try:
            yield stopped
        finally:
            if self._running.get(client) is stopped:
                del self._running[client]

    def stop(self, request: gr.Request | None) -> bool:
        """Stop what a client waits for; False where it waits for nothing."""
        stopped = self._running.get(client_of(request))
        if stopped is not None:
            stopped.set()
        return stopped is not None

    def left(self, request: gr.Request) -> None:
        """End what goes on for a client whose connection has ended, unless it still listens for its answer.

        Gradio's copy of the page is dropped for a client who never had one: it would keep thousands of them.
        """
        client, page = client_of(request), LocalContext.blocks.get()
        if page is None or (client in self._running and _listens(page, client)):
            return
        self.stop(request)
        copies = page.state_holder.session_data
        if client in copies and not copies[client].state_data:
            del copies[client]


def client_of(request: gr.Request | None) -> str:
    """Return what tells one client from another: Gradio's visit hash; "" for a client who has none."""
    return getattr(request, "session_hash", None) or ""


@contextmanager
def in_a_sentence() -> Iterator[None]:
    """Turn any error into the `gr.Error` that a client may see: the sentence of a `DitError`, else the log's id."""
    try:
        yield
    except gr.Error:
        raise
    except Exception as error:
        raise gr.Error(error_sentence(error), print_exception=False) from error


def _listens(page: gr.Blocks, client: str) -> bool:
    """Whether a client still has the connection on which its answers come, a heartbeat after its other one ended.

    The other one, by which Gradio knows that somebody is there, also ends when a busy machine is late with a beat.
    """
    waiting = page._queue.pending_messages_per_session
    end = time.monotonic() + HEARTBEAT
    while client in waiting and time.monotonic() < end:
        time.sleep(0.05)
    return client in waiting


class Uploads:
    """One visitor's files."""

    def __init__(self) -> None:
        self._files: set[Path] = set()

    def keep(self, files: Iterable[str]) -> None:
        """Take these in, and delete all others."""
        kept = {Path(file) for file in files}
        gone, self._files = self._files - kept, kept
        for file in gone:
            file.unlink(missing_ok=True)

    def clear(self) -> None:
        """Delete all."""
        self.keep(())


# Gradio's front end compiles its HTML templates in the browser, hence 'unsafe-eval'.
POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; "
    "connect-src 'self' data: blob:; form-action 'self'; base-uri 'self'"
)
_OUTER = r"""["'](?:https?:)?//[^"']*["']"""
_TAGS = re.compile(
    rf"<script\b[^>]*\bsrc\s*=\s*{_OUTER}[^>]*>\s*</script>"
    rf"|<link\b[^>]*\bhref\s*=\s*{_OUTER}[^>]*>"
    rf"|<meta\b[^>]*\bcontent\s*=\s*{_OUTER}[^>]*>",
    re.IGNORECASE,
)


def without_outer_hosts(page: str) -> str:
    """Return the page without script, link and meta tags that name another host."""
    return _TAGS.sub("", page)


class OwnHostOnly:
    """ASGI middleware: HTML pages are cleaned, and every answer carries the policy."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on as it is but whole HTML pages, which are gathered, cleaned and sent at once."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        start: Message | None = None
        body = b""

        async def answer(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message["headers"])
                headers["content-security-policy"] = POLICY
                headers["referrer-policy"] = "no-referrer"
                if headers.get("content-type", "").startswith("text/html") and "content-encoding" not in headers:
                    start = message
                    return
            elif start is not None:
                body += message.get("body", b"")
                if message.get("more_body", False):
                    return
                page = without_outer_hosts(body.decode("utf-8")).encode("utf-8")
                MutableHeaders(raw=start["headers"])["content-length"] = str(len(page))
                await send(start)
                message = {**message, "body": page}
            await send(message)

        await self.app(scope, receive, answer)
