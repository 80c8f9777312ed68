"""One thread that owns a model: whoever wants something of it hands in a function and waits for the answer.

No lock is held while a reader thinks: a stream's items lie in a queue without bound.
"""

import queue
import threading
import weakref
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")
_END = object()


class Worker:
    """Runs functions and generators one after another, in the order in which they came, in one thread.

    The thread starts with the first job, and anew where the process was forked; it ends with the worker.
    """

    def __init__(self, name: str = "model"):
        self._name = name
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def run(self, function: Callable[[], T]) -> T:
        """Runs `function` in the worker's thread and returns its result or raises its exception."""
        if threading.current_thread() is self._thread:
            return function()
        future: Future[T] = Future()

        def job() -> None:
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)

        self._submit(job)
        return future.result()

    def stream(self, function: Callable[[], Generator[T, None, None] | Iterator[T]]) -> Iterator[T]:
        """Runs the generator that `function` returns in the worker's thread and hands on its items.

        Its place in the line is taken at once. Closing the iterator, or dropping it, stops the generator at
        its next item; a slow reader holds nothing up. Exceptions of the generator reach the reader.
        """
        if threading.current_thread() is self._thread:
            return iter(function())
        items: queue.SimpleQueue = queue.SimpleQueue()
        gone = threading.Event()

        def job() -> None:
            source = None
            try:
                source = None if gone.is_set() else function()
                for item in source or ():
                    items.put((item, None))
                    if gone.is_set():
                        break
                items.put((_END, None))
            except BaseException as error:
                items.put((_END, error))
            finally:
                if hasattr(source, "close"):
                    source.close()

        self._submit(job)
        return Stream(items, gone)

    def _submit(self, job: Callable[[], None]) -> None:
        with self._lock:
            # A forked child has the object but not the thread, and a queue that may have been in use.
            if self._thread is None or not self._thread.is_alive():
                self._jobs = queue.SimpleQueue()
                self._thread = threading.Thread(target=_work, args=(self._jobs,), name=self._name, daemon=True)
                self._thread.start()
                weakref.finalize(self, self._jobs.put, None)
            self._jobs.put(job)


class Stream(Iterator[T]):
    """Items of a generator that runs in a worker's thread."""

    def __init__(self, items: queue.SimpleQueue, gone: threading.Event):
        self._items = items
        self._gone = gone
        self._done = False

    def __next__(self) -> T:
        if self._done or self._gone.is_set():
            raise StopIteration
        item, error = self._items.get()
        if item is not _END:
            return item
        self._done = True
        if error is not None:
            raise error
        raise StopIteration

    def close(self) -> None:
        """Stops the generator at its next item."""
        self._gone.set()

    def __enter__(self) -> "Stream[T]":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


def _work(jobs: queue.SimpleQueue) -> None:
    while (job := jobs.get()) is not None:
        job()
        # Not kept while waiting: a job holds its generator and so its tensors.
        del job
