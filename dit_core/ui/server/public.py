"""A server for everybody: when it is one, for whom a request is, and what a visitor is told when something breaks."""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.context import LocalContext

from dit_core.errors import DitError
from dit_core.session.messages import sentence
from dit_core.suite.limits import OPEN, PUBLIC, Limits


def on_space() -> bool:
    """Whether this process runs on a Hugging Face Space."""
    return bool(os.environ.get("SPACE_ID"))


def limits(public: bool, upload_mb: int | None = None) -> Limits:
    """What may be asked of this server, and the largest upload where another is wanted; a Space is public by itself."""
    found = PUBLIC if public or on_space() else OPEN
    if upload_mb is None:
        return found
    if upload_mb < 1:
        raise DitError(f"Uploads of {upload_mb} MB can't be taken: give 1 or more as --upload-mb or DIT_UPLOAD.")
    return replace(found, upload=upload_mb * 1_000_000)


def client() -> Hashable:
    """Whose event runs in this context: Gradio's visit hash; None outside of events and for who has none."""
    return getattr(LocalContext.request.get(None), "session_hash", None)


def listens(client: Hashable, wait: float = 1.0) -> bool:
    """Whether a client still has the connection on which its answers come, `wait` seconds after its other one ended.

    The other one, by which Gradio knows that somebody is there, also ends when a busy machine is late with a beat.
    """
    waiting = LocalContext.blocks.get()._queue.pending_messages_per_session
    end = time.monotonic() + wait
    while client in waiting and time.monotonic() < end:
        time.sleep(0.05)
    return client in waiting


def forget(client: Hashable) -> None:
    """Drops Gradio's copy of the page for a client who has gone and never had one: it would keep thousands of them."""
    kept = LocalContext.blocks.get().state_holder.session_data
    if client in kept and not kept[client].state_data:
        del kept[client]


def tell(demo: gr.Blocks) -> None:
    """Makes every event and endpoint of a page say what went wrong in a sentence, and never how it is built.

    A `DitError` is its own sentence; anything else goes to the log under an id, which the visitor is given.
    """
    for event in demo.fns.values():
        if event.fn is not None and event.renderable is None:
            event.fn = _told(event.fn)


def _told(function: Callable) -> Callable:
    if inspect.isgeneratorfunction(function):

        @wraps(function)
        def stream(*args: Any, **options: Any) -> Iterator[Any]:
            try:
                yield from function(*args, **options)
            except gr.Error:
                raise
            except Exception as error:
                raise gr.Error(sentence(error), print_exception=False) from error

        return stream

    @wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        try:
            return function(*args, **options)
        except gr.Error:
            raise
        except Exception as error:
            raise gr.Error(sentence(error), print_exception=False) from error

    return call


MOST_SECONDS = 3600
UPLOAD_CHECKS = 600, MOST_SECONDS
"""Gradio's `delete_cache`: how often it looks for old files, and how old a file may get."""


class Uploads:
    """One visitor's files."""

    def __init__(self) -> None:
        self._files: set[Path] = set()

    def keep(self, files: Iterable[str]) -> None:
        """Takes these in, and deletes all others."""
        kept = {Path(file) for file in files}
        gone, self._files = self._files - kept, kept
        for file in gone:
            file.unlink(missing_ok=True)

    def clear(self) -> None:
        """Deletes all."""
        self.keep(())
