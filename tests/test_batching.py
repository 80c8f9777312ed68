"""Batches shrink until they fit, stay that size, and come to a sentence where nothing fits."""

import gc
import weakref

import pytest
import torch

from dit_core.engine.batching import _SIZES, BatchSize, batch_size, split_batches
from dit_core.errors import DitError


class Owner:
    """Anything that can be held."""


class Memory:
    """Work that fits `room` rows at a time; `sizes` are those tried."""

    def __init__(self, room, error=torch.OutOfMemoryError):
        self.room, self.error, self.sizes = room, error, []

    def __call__(self, part):
        self.sizes.append(len(part))
        if len(part) > self.room:
            raise self.error
        return [item * 10 for item in part]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried ..."),
        MemoryError(),
    ],
)
def test_a_batch_that_does_not_fit_is_halved_and_the_size_is_remembered(error):
    size, work = BatchSize(16), Memory(5, error)
    done = list(size.map(range(20), work))
    assert work.sizes == [16, 8, 4, 4, 4, 4, 4] and size.rows == 4
    assert [item for part, _ in done for item in part] == list(range(20))
    assert [found for _, founds in done for found in founds] == [item * 10 for item in range(20)]
    work.sizes.clear()
    list(size.map(range(6), work))
    assert work.sizes == [4, 2]


def test_batches_are_no_larger_than_asked_for():
    size, work = BatchSize(16), Memory(100)
    list(size.map(range(7), work, max_rows=3))
    assert work.sizes == [3, 3, 1] and size.rows == 16
    list(size.map(range(20), work, max_rows=99))
    assert work.sizes[3:] == [16, 4]
    # Less than the known size may be too much too, when rows are longer.
    work.room = 1
    list(size.map(range(2), work, max_rows=2))
    assert work.sizes[5:] == [2, 1, 1] and size.rows == 1
    assert not list(size.map([], work))


def test_a_row_that_does_not_fit_alone_is_said_in_a_sentence():
    size, work = BatchSize(4), Memory(0)
    with pytest.raises(DitError, match="single row: ask for a shorter span"):
        list(size.map(range(4), work))
    assert work.sizes == [4, 2, 1]


@pytest.mark.parametrize("error", [RuntimeError("shapes do not match"), ValueError("no"), DitError("no such layer")])
def test_other_errors_are_not_taken_for_a_lack_of_memory(error):
    size, work = BatchSize(4), Memory(0, error)
    with pytest.raises(type(error), match=str(error)):
        list(size.map(range(4), work))
    assert work.sizes == [4] and size.rows == 4


def test_the_tensors_of_a_failed_batch_are_let_go_before_the_next():
    made, alive = [], []

    def work(part):
        tensor = Owner()
        alive.append(sum(ref() is not None for ref in made))
        made.append(weakref.ref(tensor))
        if len(part) > 1:
            raise torch.OutOfMemoryError

    list(BatchSize(4).map(range(4), work))
    assert alive == [0] * 6


def test_sizes_are_kept_per_model_and_kind_of_work_as_long_as_the_model_lives():
    one, other = Owner(), Owner()
    batch_size(one, "readings", 64).rows = 8
    assert batch_size(one, "readings", 64).rows == 8
    assert batch_size(one, "targets", 32).rows == 32 and batch_size(other, "readings", 64).rows == 64
    before = len(_SIZES)
    del one
    gc.collect()
    assert len(_SIZES) == before - 1


def test_batches_hold_so_many_items_and_need_so_many_things_at_most():
    items = ["a1", "a2", "b1", "_1", "c1", "a3", "c2"]

    def letter(item):
        return () if item[0] == "_" else (item[0],)

    assert list(split_batches(items, letter, max_items=10, max_diffs=2)) == [
        ["a1", "a2", "b1", "_1"],
        ["c1", "a3", "c2"],
    ]
    assert list(split_batches(items, letter, max_items=3, max_diffs=2)) == [
        ["a1", "a2", "b1"],
        ["_1", "c1", "a3"],
        ["c2"],
    ]
    assert list(split_batches(items, letter, max_items=10, max_diffs=9)) == [items]
    assert list(split_batches([], letter, max_items=10)) == []
