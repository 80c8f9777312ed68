"""One thread, clients in turn, and nobody waits for a slow reader."""

import gc
import threading
import time
from contextlib import contextmanager
from contextvars import ContextVar

import pytest

from dit_core.engine.worker import Worker, in_thread
from dit_core.errors import DitError


def wait_for(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    assert condition()


def test_everything_runs_in_one_thread_in_order():
    worker, seen = Worker(), []

    def note(i):
        seen.append(i)
        return i, threading.current_thread()

    results = [worker.run(lambda i=i: note(i)) for i in range(5)]
    assert seen == list(range(5)) and {thread for _, thread in results} != {threading.current_thread()}
    assert len({thread for _, thread in results}) == 1
    # From inside of the worker's own thread a job runs at once, as it would wait for itself for ever.
    assert worker.run(lambda: worker.run(lambda: 3) + sum(worker.stream(lambda: iter([1, 2])))) == 6


def test_exceptions_reach_the_caller_and_the_worker_goes_on():
    worker = Worker()
    with pytest.raises(ZeroDivisionError):
        worker.run(lambda: 1 / 0)

    def broken():
        yield 1
        raise KeyError("gone")

    stream = worker.stream(broken)
    assert next(stream) == 1
    with pytest.raises(KeyError):
        next(stream)
    assert list(stream) == []
    with pytest.raises(TypeError):
        next(worker.stream(lambda: 5))
    assert worker.run(lambda: 7) == 7


@contextmanager
def held(worker):
    """Keeps the worker busy while the context is open, so that a queue forms."""
    gate, begun = threading.Event(), threading.Event()
    stream = worker.stream(lambda: iter([begun.set() or gate.wait(60)]))
    assert begun.wait(60)
    try:
        yield
    finally:
        gate.set()
        assert list(stream) == [True]


def test_clients_take_turns_and_know_their_place():
    client_id, done = ContextVar("client_id", default="nobody"), []
    worker = Worker(client_id=client_id.get)
    with held(worker):
        streams = []
        for client in "aaabca":
            client_id.set(client)
            streams.append(worker.stream(lambda client=client: iter([done.append(client)])))
        # One runs and is ahead of everybody; then a b c, a, a, a.
        assert [worker.jobs_ahead(client) for client in "abcd"] == [6, 2, 3, 0]
    client_id.set("d")
    worker.run(lambda: None)
    assert done == list("abcaaa") and len(streams) == 6 and worker.jobs_ahead("a") == 0


def test_a_full_queue_is_a_sentence():
    worker = Worker(max_waiting=lambda: 2)
    with held(worker):
        waiting = [worker.stream(lambda: iter([1])) for _ in range(2)]
        for hand_in in (worker.run, worker.stream):
            with pytest.raises(DitError, match="2 requests are waiting already"):
                hand_in(lambda: iter([2]))
    assert [list(stream) for stream in waiting] == [[1], [1]] and worker.run(lambda: 3) == 3


def test_a_job_sees_the_context_in_which_it_was_handed_in():
    worker, whose = Worker(), ContextVar("whose")
    whose.set("mine")
    assert worker.run(whose.get) == "mine" and list(worker.stream(lambda: iter([whose.get()]))) == ["mine"]


def test_a_thread_can_be_the_workers_own_for_a_while():
    worker = Worker()
    with worker.inline():
        assert worker.run(threading.current_thread) is threading.current_thread()
    assert worker.run(threading.current_thread) is not threading.current_thread()


def test_a_slow_reader_holds_nothing_up():
    worker = Worker()
    stream = worker.stream(lambda: iter(range(100)))
    assert next(stream) == 0
    assert worker.run(lambda: "free") == "free"
    assert list(stream) == list(range(1, 100))


def test_the_latest_item_is_given_or_none_in_time():
    worker, gate = Worker(), threading.Semaphore(0)

    def three_then_broken():
        yield from (1, 2, 3)
        gate.acquire()
        yield 4
        raise KeyError("gone")

    stream = worker.stream(three_then_broken)
    wait_for(lambda: stream._items.qsize() == 3)
    assert stream.latest(60) == 3, "those before the newest are dropped"
    assert stream.latest(0.01) is None and not stream.ended, "the model still works on the next"
    gate.release()
    wait_for(lambda: stream._items.qsize() == 2)
    assert stream.latest(60) == 4 and stream.ended, "an item that came before an error is given"
    with pytest.raises(KeyError):
        stream.latest(60)
    with pytest.raises(StopIteration):
        stream.latest(60)


def test_a_generator_in_a_thread_of_its_own_is_such_a_stream_too():
    whose, closed, gate = ContextVar("whose"), threading.Event(), threading.Semaphore(0)
    whose.set("mine")

    def several_requests():
        try:
            while True:
                yield whose.get(), threading.current_thread()
                gate.acquire()
        finally:
            closed.set()

    stream = in_thread(several_requests())
    name, thread = next(stream)
    assert name == "mine" and thread is not threading.current_thread()
    stream.close()
    gate.release()
    assert closed.wait(60) and list(stream) == []


@pytest.mark.parametrize("leave", ["close", "drop", "with"])
def test_a_reader_that_leaves_stops_the_generator_at_its_next_item(leave):
    worker, made, closed, gate = Worker(), [], threading.Event(), threading.Semaphore(0)

    def endless():
        try:
            for i in range(1_000_000):
                made.append(i)
                yield i
                gate.acquire()
        finally:
            closed.set()

    stream = worker.stream(endless)
    assert next(stream) == 0
    if leave == "close":
        stream.close()
        assert list(stream) == []
    elif leave == "with":
        with stream:
            pass
    else:
        del stream
        gc.collect()
    gate.release()
    assert closed.wait(60) and made in ([0], [0, 1])
    assert worker.run(lambda: 1) == 1


def test_a_stream_closed_before_its_turn_never_starts():
    worker, started, gate = Worker(), [], threading.Event()

    def job():
        started.append(1)
        yield 1

    blocker = worker.stream(lambda: iter([gate.wait(60)]))
    waiting = worker.stream(job)
    waiting.close()
    gate.set()
    assert list(blocker) == [True]
    worker.run(lambda: None)
    assert not started


def test_the_thread_ends_with_its_worker():
    worker = Worker("to-be-dropped")
    thread = worker.run(threading.current_thread)
    del worker
    gc.collect()
    wait_for(lambda: not thread.is_alive())


def test_what_is_submitted_is_waited_for_by_nobody_and_never_refused():
    worker, gate, done = Worker(max_waiting=lambda: 1), threading.Event(), []
    busy = worker.stream(lambda: iter([gate.wait(60)]))
    worker.submit(lambda: 1 / 0)
    worker.submit(lambda: done.append(threading.current_thread().name))
    assert not done
    gate.set()
    assert list(busy) == [True]
    wait_for(lambda: done)
    assert worker.run(lambda: len(done)) == 1 and done == ["model"]
