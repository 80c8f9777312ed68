"""Functions of a suite that run where its model is, be that another process.

What is decorated takes a suite and otherwise plain data, and gives plain data, so that call and result can be pickled.
Where `suite.worker.elsewhere` is None, which is everywhere but on a server that lends its GPU to one process at a time,
nothing changes.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial, wraps
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])
_ARRIVED: ContextVar[bool] = ContextVar("arrived", default=False)


def at_model(function: F) -> F:
    """For a function that gives a table."""

    @wraps(function)
    def called(suite: Any, *args: Any, **options: Any) -> Any:
        elsewhere = _way(suite)
        if elsewhere is None:
            return function(suite, *args, **options)

        def only() -> Any:
            [given] = elsewhere(partial(called, suite, *args, **options))  # to its end, which frees the other process
            return given

        return suite.worker.run(only)

    return called


def streamed_at_model(function: F) -> F:
    """For a function that gives an iterator of tables."""

    @wraps(function)
    def called(suite: Any, *args: Any, **options: Any) -> Any:
        elsewhere = _way(suite)
        if elsewhere is None:
            return function(suite, *args, **options)
        return suite.worker.stream(lambda: elsewhere(partial(called, suite, *args, **options)))

    return called


def answers(call: Callable[[], Any]) -> Iterator[Any]:
    """What a call gives, in the process where the model is: one item, or those of its iterator."""
    with arrived(call.args[0]):
        given = call()
        if isinstance(given, Iterator):
            yield from given
        else:
            yield given


@contextmanager
def arrived(suite: Any) -> Iterator[None]:
    """Inside, this thread is where the suite's model is: nothing is sent on."""
    token = _ARRIVED.set(True)
    try:
        with suite.worker.here():
            yield
    finally:
        _ARRIVED.reset(token)


def _way(suite: Any) -> Callable[[Callable[[], Any]], Iterator[Any]] | None:
    return None if _ARRIVED.get() else suite.worker.elsewhere
