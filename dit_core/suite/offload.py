"""Functions of a suite that run where its model is, be that another process.

What is decorated takes a suite and otherwise plain data, and gives plain data, so that call and result can be pickled.
Where `suite.worker.offload` is None, which is everywhere but on a server that lends its GPU to one process at a time,
nothing changes.
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
_ARRIVED: ContextVar[bool] = ContextVar("arrived", default=False)


@dataclass(frozen=True)
class Errand:
    """A call as it is sent: `function` with a suite, what it is `given` and its `options`.

    `brought` are the diffs of somebody's own that the arguments name: the other process has none of them, nor does it
    know the `limits` of the request.
    """

    function: Callable[..., Any]
    suite: "Suite"
    given: tuple = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    brought: "tuple[UserDiff, ...]" = ()
    limits: Limits = OPEN

    def run(self) -> Iterator[Any]:
        """What the call gives, in the process where the model is: one item, or those of its iterator."""
        with arrived(self.suite), self.suite.with_brought(self.brought), serving(self.limits):
            found = self.function(self.suite, *self.given, **self.options)
            if isinstance(found, Iterator):
                yield from found
            else:
                yield found


def _errand(function: Callable[..., Any], suite: "Suite", given: tuple, options: Mapping[str, Any]) -> Errand:
    return Errand(function, suite, given, options, suite.brought((given, options)), current_limits())


def at_model(function: F) -> F:
    """For a function that gives a table."""

    @wraps(function)
    def called(suite: "Suite", *given: Any, **options: Any) -> Any:
        elsewhere = _way(suite)
        if elsewhere is None:
            return function(suite, *given, **options)
        errand = _errand(called, suite, given, options)

        def only() -> Any:
            [found] = elsewhere(errand)  # to its end, which frees the other process
            return found

        return suite.worker.run(only)

    return cast(F, called)


def streamed_at_model(function: F) -> F:
    """For a function that gives an iterator of tables."""

    @wraps(function)
    def called(suite: "Suite", *given: Any, **options: Any) -> Any:
        elsewhere = _way(suite)
        if elsewhere is None:
            return function(suite, *given, **options)
        errand = _errand(called, suite, given, options)
        return suite.worker.stream(lambda: elsewhere(errand))

    return cast(F, called)


@contextmanager
def arrived(suite: "Suite") -> Iterator[None]:
    """Inside, this thread is where the suite's model is: nothing is sent on."""
    token = _ARRIVED.set(True)
    try:
        with suite.worker.inline():
            yield
    finally:
        _ARRIVED.reset(token)


def _way(suite: "Suite") -> Callable[[Errand], Iterator[Any]] | None:
    return None if _ARRIVED.get() else suite.worker.offload
