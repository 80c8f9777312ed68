"""One thread that owns a model: whoever wants something of it hands in a function and waits for the answer.

No lock is held while a reader thinks: a stream's items lie in a queue without bound. Who asks much waits for his own:
clients take turns.
"""

import queue
import threading
import weakref
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any, TypeVar

from dit_core.engine.fair_queue import Line
from dit_core.errors import DitError

T = TypeVar("T")
_END = object()


def _nobody() -> Hashable:
    return None


class Worker:
    """Runs functions and generators one after another in one thread: each client's in order, the clients in turn.

    The thread starts with the first job, and anew where the process was forked; it ends with the worker.

    Attributes:
        client: says for whom a job is that is handed in now; by default all are for one.
        at_most: how many jobs may wait at once; None for any number.
        elsewhere: has an errand run in another process, see `dit_core.suite.offload`; None where
            the model is in this one.
    """

    def __init__(self, name: str = "model"):
        self.client: Callable[[], Hashable] = _nobody
        self.at_most: int | None = None
        self.elsewhere: Callable[[Any], Iterator[Any]] | None = None
        self._name = name
        self._lock = threading.Lock()
        self._line = Line()
        self._thread: threading.Thread | None = None

    def run(self, function: Callable[[], T]) -> T:
        """Runs `function` in the worker's thread and returns its result or raises its exception.

        Raises DitError where too many wait already.
        """
        if threading.current_thread() is self._thread:
            return function()
        return self._begin(function, self.at_most).result()

    def stream(self, function: Callable[[], Iterable[T]]) -> Generator[T, None, None]:
        """Runs the generator that `function` returns in the worker's thread and hands on its items.

        Its place in the line is taken at once. Closing the iterator, or dropping it, stops the generator at
        its next item; a slow reader holds nothing up. Exceptions of the generator reach the reader.
        Raises DitError where too many wait already.
        """
        if threading.current_thread() is self._thread:
            return _each(function())
        items: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
        gone = threading.Event()

        def job() -> None:
            source: Iterable[T] = ()
            try:
                source = () if gone.is_set() else function()
                for item in source:
                    items.put((item, None))
                    if gone.is_set():
                        break
                items.put((_END, None))
            except BaseException as error:
                items.put((_END, error))
            finally:
                if isinstance(source, Generator):
                    source.close()

        self._submit(job, self.at_most)
        return Stream(items, gone)

    def later(self, function: Callable[[], None]) -> None:
        """Has `function` run in the worker's thread when its turn comes; nobody waits for it, no limit refuses it."""
        if threading.current_thread() is self._thread:
            function()
        else:
            self._begin(function, at_most=None)

    def ahead(self, client: Hashable) -> int:
        """How many jobs come before the last one that waits for `client`; 0 where none waits."""
        return self._line.ahead(client)

    @contextmanager
    def here(self) -> Iterator[None]:
        """Inside, the calling thread is the worker's: what it hands in runs at once. For a process of one job."""
        before, self._thread = self._thread, threading.current_thread()
        try:
            yield
        finally:
            self._thread = before

    def _begin(self, function: Callable[[], T], at_most: int | None) -> "Future[T]":
        future: Future[T] = Future()

        def job() -> None:
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)

        self._submit(job, at_most)
        return future

    def _submit(self, job: Callable[[], None], at_most: int | None) -> None:
        context = copy_context()  # whose request it is, for what asks that on the way
        with self._lock:
            # A forked child has the object but not the thread, and a line that may have been in use.
            if self._thread is None or not self._thread.is_alive():
                self._line = Line()
                self._thread = threading.Thread(target=_work, args=(self._line,), name=self._name, daemon=True)
                self._thread.start()
                weakref.finalize(self, self._line.close)
            if at_most is not None and len(self._line) >= at_most:
                raise DitError(f"{len(self._line)} requests are waiting already: try again in a minute.")
            self._line.put(self.client(), lambda: context.run(job))


class Stream(Generator[T, None, None]):
    """Items of a generator that runs in a worker's thread."""

    def __init__(self, items: "queue.SimpleQueue[tuple[Any, BaseException | None]]", gone: threading.Event) -> None:
        self._items = items
        self._gone = gone
        self._done = False

    def __next__(self) -> T:
        if self._done or self._gone.is_set():
            raise StopIteration
        item, error = self._items.get()
        if item is not _END:
            value: T = item
            return value
        self._done = True
        if error is not None:
            raise error
        raise StopIteration

    def send(self, value: None) -> T:
        """As `next`: the generator takes nothing."""
        return next(self)

    def throw(self, *error: Any) -> T:
        """Stops the generator at its next item, and raises the error here."""
        self.close()
        raise error[0]

    def close(self) -> None:
        """Stops the generator at its next item."""
        self._gone.set()

    def __enter__(self) -> "Stream[T]":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


def _each(items: Iterable[T]) -> Generator[T, None, None]:
    yield from items


def _work(line: Line) -> None:
    while (job := line.get()) is not None:
        job()
        # Not kept while waiting: a job holds its generator and so its tensors.
        del job
