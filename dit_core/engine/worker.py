"""A thread that owns a model: others hand in functions and wait for their results."""

import queue
import threading
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial
from typing import Any, TypeVar

from dit_core.errors import DitError

T = TypeVar("T")
Job = Callable[[], None]
_END = object()


class FairQueue:
    """A queue of jobs that serves its clients in turn, one job each. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: OrderedDict[Hashable, deque[Job]] = OrderedDict()  # the next client first
        self._running = False
        # One for each job and one for the end; the garbage collector may put one in at any moment.
        self._tickets: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def put(self, client: Hashable, job: Job, max_waiting: int | None = None) -> None:
        """Add a job behind its client's own; a client who has none comes after those who have.

        It runs in the context of this call: whose request it is, for what asks that on the way.

        Raises:
            DitError: `max_waiting` jobs wait already.
        """
        with self._lock:
            n_waiting = sum(map(len, self._waiting.values()))
            if max_waiting is not None and n_waiting >= max_waiting:
                raise DitError(f"{n_waiting} requests are waiting already: try again in a minute.")
            self._waiting.setdefault(client, deque()).append(partial(copy_context().run, job))
        self._tickets.put(True)

    def serve(self) -> None:
        """Run one job after another in this thread, until the queue is closed and all jobs are done."""
        while self._tickets.get():
            with self._lock:
                client, jobs = self._waiting.popitem(last=False)
                job = jobs.popleft()
                if jobs:
                    self._waiting[client] = jobs  # behind all others
                self._running = True
            job()
            del job  # not kept while waiting: it holds its generator and so its tensors
            self._running = False

    def close(self) -> None:
        """Let `serve` return once all jobs are done."""
        self._tickets.put(False)

    def jobs_ahead(self, client: Hashable) -> int:
        """Count the jobs before the last one of `client`, the running one included; 0 where the client has none."""
        with self._lock:
            own = len(self._waiting.get(client, ()))
            if not own:
                return 0
            before = list(self._waiting).index(client)
            # In each round everybody has a turn, and in the last one only those who stand before this client.
            others = (
                min(len(jobs), own if place < before else own - 1)
                for place, (other, jobs) in enumerate(self._waiting.items())
                if other != client
            )
            return sum(others) + own - 1 + self._running


def _one_client() -> Hashable:
    return None


def _any_number() -> int | None:
    return None


class Worker:
    """Runs functions and generators one after another in one thread: each client's in order, the clients in turn.

    The thread starts with the first job, and anew where the process was forked; it ends with the worker.

    Attributes:
        client_id: returns whose job it is that is handed in now; by default all are one client's.
        max_waiting: returns how many jobs may wait before one that is handed in now; None for any number.
        offload: runs a call in another process, see `dit_core.suite.offload`; None where the model is in this one.
    """

    def __init__(
        self,
        name: str = "model",
        client_id: Callable[[], Hashable] = _one_client,
        max_waiting: Callable[[], int | None] = _any_number,
        offload: Callable[[Any], Iterator[Any]] | None = None,
    ):
        self.client_id = client_id
        self.max_waiting = max_waiting
        self.offload = offload
        self._name = name
        self._lock = threading.Lock()
        self._queue = FairQueue()
        self._thread: threading.Thread | None = None

    def run(self, function: Callable[[], T]) -> T:
        """Run `function` in the worker's thread and return its result.

        Raises:
            DitError: too many jobs wait already.
            BaseException: whatever the function raises.
        """
        if threading.current_thread() is self._thread:
            return function()
        return self._begin(function, self.max_waiting()).result()

    def stream(self, function: Callable[[], Iterable[T]]) -> Generator[T, None, None]:
        """Run the generator that `function` returns in the worker's thread and yield its items.

        It is queued at once. Closing the iterator, or dropping it, stops the generator at its next item; a slow reader
        holds nothing up. Exceptions of the generator reach the reader.

        Raises:
            DitError: too many jobs wait already.
        """
        if threading.current_thread() is self._thread:
            return _each(function())
        stream = Stream[T]()
        self._live_queue().put(self.client_id(), stream.filler(function), self.max_waiting())
        return stream

    def submit(self, function: Callable[[], None]) -> None:
        """Queue `function` without waiting for it; no limit refuses it, and its exceptions are dropped."""
        if threading.current_thread() is self._thread:
            function()
        else:
            self._begin(function, max_waiting=None)

    def jobs_ahead(self, client: Hashable) -> int:
        """Count the jobs that come before the last one that waits for `client`; 0 where none waits."""
        return self._queue.jobs_ahead(client)

    @contextmanager
    def inline(self) -> Iterator[None]:
        """Make the calling thread the worker's, so that its jobs run at once. For a process of one job."""
        before, self._thread = self._thread, threading.current_thread()
        try:
            yield
        finally:
            self._thread = before

    def _begin(self, function: Callable[[], T], max_waiting: int | None) -> "Future[T]":
        future: Future[T] = Future()

        def job() -> None:
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)

        self._live_queue().put(self.client_id(), job, max_waiting)
        return future

    def _live_queue(self) -> FairQueue:
        """The queue, and a thread that serves it: a forked child has the object but not the thread."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._queue = FairQueue()  # the one of before may have been in use
                self._thread = threading.Thread(target=self._queue.serve, name=self._name, daemon=True)
                self._thread.start()
                weakref.finalize(self, self._queue.close)
            return self._queue


class Stream(Generator[T, None, None]):
    """Items of a generator that runs in another thread, as they come; nobody waits for its reader."""

    def __init__(self) -> None:
        self._items: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._end: BaseException | None = None  # what is raised behind the last item

    def filler(self, function: Callable[[], Iterable[T]]) -> Job:
        """Return the job that runs the generator. It does not hold the stream, so that dropping that stops it."""
        return partial(_fill, self._items, self._closed, function)

    def __next__(self) -> T:
        if self._end is None and not self._closed.is_set():
            item, end = self._items.get()
            if item is not _END:
                value: T = item
                return value
            self._end = end
        raise self._ending()

    def latest(self, seconds: float) -> T | None:
        """Return the newest item that is there within `seconds`, and drop those before it; None where none has come.

        Raises as `next` does.
        """
        newest: T | None = None
        while self._end is None and not self._closed.is_set():
            try:
                item, end = self._items.get(timeout=seconds if newest is None else 0)
            except queue.Empty:
                return newest
            if item is _END:
                self._end = end
            else:
                newest = item
        if newest is None:
            raise self._ending()
        return newest

    @property
    def ended(self) -> bool:
        """Whether the last item has been taken."""
        return self._end is not None

    def _ending(self) -> BaseException:
        """What is raised in place of an item; what the generator raised only once."""
        end, self._end = self._end, StopIteration()
        return self._end if end is None or self._closed.is_set() else end

    def send(self, value: None) -> T:
        """Return the next item, as `next` does: the generator takes nothing."""
        return next(self)

    def throw(self, *error: Any) -> T:
        """Stop the generator at its next item, and raise the error here."""
        self.close()
        raise error[0]

    def close(self) -> None:
        """Stop the generator at its next item."""
        self._closed.set()

    def __enter__(self) -> "Stream[T]":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


def in_thread(items: Iterable[T]) -> Stream[T]:
    """Return the items of a generator that runs in a thread of its own, as one does that makes several requests."""
    stream = Stream[T]()
    fill = stream.filler(lambda: items)
    threading.Thread(target=copy_context().run, args=[fill], daemon=True, name="dit-steps").start()
    return stream


def _fill(
    items: "queue.SimpleQueue[tuple[Any, BaseException | None]]",
    closed: threading.Event,
    function: Callable[[], Iterable[T]],
) -> None:
    """Put the items of a generator into a stream until it ends or the stream is closed."""
    source: Iterable[T] = ()
    try:
        source = () if closed.is_set() else function()
        for item in source:
            items.put((item, None))
            if closed.is_set():
                break
        items.put((_END, StopIteration()))
    except BaseException as error:  # whatever it is, it belongs to the reader
        items.put((_END, error))
    finally:
        if isinstance(source, Generator):
            source.close()


def _each(items: Iterable[T]) -> Generator[T, None, None]:
    yield from items
