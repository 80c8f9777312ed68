"""Watches what a suite's base model is made to compute."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from dit_core.suite import Suite


def forward_passes(suite: Suite) -> AbstractContextManager[list[int]]:
    """Collect the number of rows of every forward pass of the base within the context."""
    return before_each_pass(suite, lambda rows: None)


@contextmanager
def before_each_pass(suite: Suite, act: Callable[[list[int]], object]) -> Iterator[list[int]]:
    """Within the context, call `act` before each forward pass with the rows of all passes so far, this one included."""
    rows: list[int] = []

    def before(_, positional, named):
        rows.append(len(next(value for value in (*positional, *named.values()) if hasattr(value, "shape"))))
        act(rows)

    hook = suite.model.base.register_forward_pre_hook(before, with_kwargs=True)
    try:
        yield rows
    finally:
        hook.remove()


@contextmanager
def stopped_in_its_first_pass(suite: Suite, stop: Callable[[], object]) -> Iterator[list[int]]:
    """`stop` is called while the model is at work for the first time; gives the rows of each pass."""
    begun, over = threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: (begun.wait(30), stop(), over.set()))
    thread.start()
    with before_each_pass(suite, lambda rows: begun.set() or over.wait(30)) as passes:
        yield passes
        suite.worker.run(lambda: None)  # whose turn comes when the model has nothing left to do
    thread.join(30)
