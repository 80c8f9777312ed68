"""Jobs of a visitor: the stream is followed as it comes, and a stop counts at once."""

import threading

import pytest

from dit_core.engine.worker import Worker
from dit_core.errors import DitError
from dit_core.hub.progress import progress_bar_class
from dit_core.session.job import downloads_until, follow


@pytest.fixture
def worker():
    return Worker()


def test_what_the_model_says_is_followed_without_another_thread(worker):
    stop, gate, seen = threading.Event(), threading.Semaphore(0), []
    worker.run(lambda: None)
    before = set(threading.enumerate())

    def slow():
        for at in range(3):
            yield at
            gate.acquire()

    for item in follow(worker.stream(slow), stop, frame=0, worker=worker):
        seen.append(item)
        assert set(threading.enumerate()) <= before
        gate.release()
    assert seen == [0, 1, 2]


def test_a_stop_counts_while_the_model_is_at_work(worker):
    stop, gate, made = threading.Event(), threading.Semaphore(0), []

    def endless():
        while True:
            made.append(1)
            yield len(made)
            gate.acquire()

    items = follow(worker.stream(endless), stop, frame=0, worker=worker)
    assert next(items) == 1
    threading.Timer(0.05, stop.set).start()
    assert list(items) == [], "ended though no item came"
    gate.release()
    assert worker.run(lambda: len(made)) == 2, "and the generator is closed at its next item"


def test_a_stop_ends_the_download_that_a_question_needs():
    stop = threading.Event()
    with downloads_until(stop), progress_bar_class("some/diff") as Bar:
        bar = Bar(total=100, unit="B")
        bar.update(10)
        stop.set()
        with pytest.raises(DitError, match="Stopped while 'some/diff' was downloaded"):
            bar.update(10)
        stop.clear()
