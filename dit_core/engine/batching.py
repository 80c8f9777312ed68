"""Batches as large as memory allows: one that does not fit is tried again at half its size."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

import torch

from dit_core.errors import DitError, MixedRowsError

MAX_DIFFS = 64  # side by side in one batch: each costs memory for its tensors, and work for every row

T = TypeVar("T")
R = TypeVar("R")


@dataclass
class Attempt(Generic[T]):
    """Items tried as one batch, inside its context, which swallows a lack of memory and rows that can't mix."""

    items: Sequence[T]
    fitted: bool = True
    mixed: bool = False

    def __enter__(self) -> Sequence[T]:
        return self.items

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        self.mixed = isinstance(error, MixedRowsError) and len(self.items) > 1
        if error is None or not (self.mixed or _out_of_memory(error)):
            return False
        if len(self.items) == 1:
            raise DitError(
                "Memory does not suffice for a single row: ask for a shorter span, or use a smaller base."
            ) from error
        self.fitted = False
        return True


@dataclass
class BatchSize:
    """The largest batch, in rows, that is known (or, at first, hoped) to fit into memory."""

    rows: int

    def map(
        self, items: Sequence[T], function: Callable[[Sequence[T]], R], max_rows: int | None = None
    ) -> Iterator[tuple[Sequence[T], R]]:
        """Yield (batch, `function(batch)`) until all items are done, a batch being at most `max_rows` items.

        Raises:
            DitError: one row alone does not fit into memory.
        """
        for attempt in self.attempts(items, max_rows):
            with attempt as batch:
                yield batch, function(batch)

    def attempts(self, items: Sequence[T], max_rows: int | None = None) -> Iterator[Attempt[T]]:
        """Yield batches until all items are done, each to be worked on in its context: `with attempt as batch:`.

        Where a batch does not fit, its first half comes next, and no larger one after that; where its rows can't be
        mixed, its first half too, for this once.

        Raises:
            DitError: one row alone does not fit into memory.
        """
        start, most = 0, len(items)
        while start < len(items):
            attempt = Attempt(items[start : start + min(self.rows, max_rows or self.rows, most)])
            yield attempt
            most = len(attempt.items) // 2 if attempt.mixed else len(items)
            if attempt.fitted:
                start += len(attempt.items)
            if attempt.fitted or attempt.mixed:
                continue
            self.rows = len(attempt.items) // 2
            # Here, where the failed batch's tensors are no longer held by its traceback.
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


_SIZES: WeakKeyDictionary[Any, dict[str, BatchSize]] = WeakKeyDictionary()


def batch_size(model: Any, work: str, rows: int) -> BatchSize:
    """Return the size that is remembered for a kind of work on a model; `rows` to begin with."""
    return _SIZES.setdefault(model, {}).setdefault(work, BatchSize(rows))


def split_batches(
    items: Sequence[T], diffs_of: Callable[[T], Iterable[Hashable]], max_items: int, max_diffs: int = MAX_DIFFS
) -> Iterator[Sequence[T]]:
    """Yield consecutive items, at most `max_items` at a time, that need at most `max_diffs` diffs together.

    `diffs_of(item)` are the diffs that an item needs on the model, at most `max_diffs`.
    """
    start = 0
    diffs: set[Hashable] = set()
    for at, item in enumerate(items):
        needed = set(diffs_of(item))
        if at - start == max_items or len(diffs | needed) > max_diffs:
            yield items[start:at]
            start, diffs = at, set()
        diffs |= needed
    if items:
        yield items[start:]


def _out_of_memory(error: BaseException) -> bool:
    """Torch has a class of its own for a GPU's memory; on a CPU it only says so in words."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "allocate memory" in str(error)
