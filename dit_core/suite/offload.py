"""Calls of a suite's functions in the process that has its model.

A decorated function takes a suite and otherwise plain data, and returns plain data, so that call and result can be
pickled. Where `suite.worker.offload` is None, nothing changes. Only a server that lends its GPU to one process at a
time sets it.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

from dit_core.suite.limits import OPEN, Limits, current_limits, serving

if TYPE_CHECKING:
    from dit_core.suite import Suite
    from dit_core.suite.diffs import UserDiff

F = TypeVar("F", bound=Callable[..., Any])
_IN_MODEL_PROCESS: ContextVar[bool] = ContextVar("in_model_process", default=False)


@dataclass(frozen=True)
class RemoteCall:
    """A call as it is sent: `function` with a suite, positional `arguments` and keyword `options`.

    `user_diffs` are the users' own diffs that the arguments name; the other process has none of them. It does not know
    the `limits` of the request either.
    """

    function: Callable[..., Any]
    suite: "Suite"
    arguments: tuple = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    user_diffs: "tuple[UserDiff, ...]" = ()
    limits: Limits = OPEN

    def run(self) -> Iterator[Any]:
        """Yield what the call returns: one item, or the items of its iterator. Runs in the model's process."""
        with inside_model_process(self.suite), self.suite.with_user_diffs(self.user_diffs), serving(self.limits):
            result = self.function(self.suite, *self.arguments, **self.options)
            if isinstance(result, Iterator):
                yield from result
            else:
                yield result


Offload = Callable[[RemoteCall], Iterator[Any]]
"""What runs a call in another process, and yields what it returns."""


def at_model(function: F) -> F:
    """Decorate a function that returns one table, so that it runs where the suite's model is."""

    def send(call: RemoteCall, offload: Offload) -> Any:
        def result() -> Any:
            [table] = offload(call)  # read to its end, which frees the other process
            return table

        return call.suite.worker.run(result)

    return _sent(function, send)


def streamed_at_model(function: F) -> F:
    """Decorate a function that returns an iterator of tables, so that it runs where the suite's model is."""
    return _sent(function, lambda call, offload: call.suite.worker.stream(lambda: offload(call)))


def _sent(function: F, send: Callable[[RemoteCall, Offload], Any]) -> F:
    """Decorate a function so that calls of it are sent, where something else than this process has the model."""

    @wraps(function)
    def wrapper(suite: "Suite", *arguments: Any, **options: Any) -> Any:
        offload = None if _IN_MODEL_PROCESS.get() else suite.worker.offload
        if offload is None:
            return function(suite, *arguments, **options)
        user_diffs = suite.user_diffs_in((arguments, options))
        return send(RemoteCall(wrapper, suite, arguments, options, user_diffs, current_limits()), offload)

    return cast(F, wrapper)


@contextmanager
def inside_model_process(suite: "Suite") -> Iterator[None]:
    """Run every decorated function in this thread while the context is open: the suite's model is here."""
    token = _IN_MODEL_PROCESS.set(True)
    try:
        with suite.worker.inline():
            yield
    finally:
        _IN_MODEL_PROCESS.reset(token)
