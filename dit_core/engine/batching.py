"""As many rows at once as memory allows: a batch that does not fit is tried again at half its size.

What was found is remembered per model, so that the next request starts where this one got to.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch

from dit_core.errors import DitError

MAX_DIFFS = 64  # side by side in one batch: each costs memory for its tensors, and work for every row

T = TypeVar("T")
R = TypeVar("R")


@dataclass
class BatchSize:
    """The largest batch that is known (or, at first, hoped) to fit: `rows` of them."""

    rows: int

    def over(
        self, items: Sequence[T], work: Callable[[Sequence[T]], R], at_most: int | None = None
    ) -> Iterator[tuple[Sequence[T], R]]:
        """Yields (items of a batch, `work` of them) until all items are done, `at_most` so many at a time.

        Raises DitError where one row alone does not fit.
        """
        return self.streamed(items, lambda part: (work(one) for one in [part]), at_most)

    def streamed(
        self, items: Sequence[T], work: Callable[[Sequence[T]], Iterator[R]], at_most: int | None = None
    ) -> Iterator[tuple[Sequence[T], R]]:
        """As `over` for work that yields: (items of a batch, each thing it yields).

        Where a batch does not fit after all, its first half begins anew.
        """
        start = 0
        while start < len(items):
            part = items[start : start + min(self.rows, at_most or self.rows)]
            try:
                for found in work(part):
                    yield part, found
            except (MemoryError, RuntimeError) as error:
                if not _out_of_memory(error):
                    raise
                if len(part) == 1:
                    raise DitError(
                        "Memory does not suffice for a single row: ask for a shorter span, or use a smaller base."
                    ) from error
                self.rows = len(part) // 2
            else:
                start += len(part)
                continue
            # Outside the handler, where the failed batch's tensors are no longer held by its traceback.
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


_SIZES: WeakKeyDictionary[Any, dict[str, BatchSize]] = WeakKeyDictionary()


def batch_size(model: Any, work: str, rows: int) -> BatchSize:
    """The size that is remembered for a kind of work on a model; `rows` to begin with."""
    return _SIZES.setdefault(model, {}).setdefault(work, BatchSize(rows))


def batches(
    items: Sequence[T], need: Callable[[T], Hashable], rows: int, needs: int = MAX_DIFFS
) -> Iterator[Sequence[T]]:
    """Consecutive items, at most `rows` at a time, that together need at most `needs` things (None: nothing)."""
    start, held = 0, set()
    for at, item in enumerate(items):
        needed = {need(item)} - {None}
        if at - start == rows or len(held | needed) > needs:
            yield items[start:at]
            start, held = at, set()
        held |= needed
    if items:
        yield items[start:]


def _out_of_memory(error: BaseException) -> bool:
    """Torch has a class of its own for a GPU's memory; on a CPU it only says so in words."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "allocate memory" in str(error)
