"""One piece of a visitor's job: what is found is kept, ends as done or stopped, and an error takes nothing away."""

import threading
import time
from dataclasses import dataclass, replace

import pytest

from dit_core.engine.worker import Worker
from dit_core.errors import DitError
from dit_core.hub.progress import progress_bar_class
from dit_core.present.cards import DONE, RUNNING, STOPPED
from dit_core.session.job import Failed, Job, downloads_until, follow, run_job


@dataclass(frozen=True)
class Count:
    at: int = 0
    mark: str = ""
    state: str = RUNNING


@pytest.fixture
def worker():
    return Worker()


def counting(upto, fails=False):
    for at in range(upto):
        yield Count(at)
        time.sleep(0.1)  # longer than a frame, so that every item is seen
    if fails:
        raise DitError("It broke.")


def test_every_find_is_kept_and_the_last_comes_once_more(worker):
    job = Job()
    seen = [(found, job.result) for found in run_job(job, lambda: counting(3), worker, frame=0)]
    assert all(found is kept for found, kept in seen)
    assert [found for found, _ in seen] == [Count(0), Count(1), Count(2), Count(2, state=DONE)]


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


def test_a_stop_ends_at_once_and_keeps_what_was_found(worker):
    job = Job()
    for found in run_job(job, lambda: counting(1000), worker, frame=0):
        if found.at == 1:
            job.stop.set()
    assert found == job.result == Count(1, state=STOPPED)


@pytest.mark.parametrize("upto", [0, 2])
def test_after_an_error_there_is_what_was_there_before(worker, upto):
    job = Job()
    job.result = before = Count(7, state=DONE)
    *_, last = run_job(job, lambda: counting(upto, fails=True), worker, frame=0)
    assert isinstance(last, Failed) and str(last) == "It broke." and job.result is before


def test_who_begins_anew_hears_nothing_of_the_old(worker):
    job, seen = Job(), []
    for found in run_job(job, lambda: counting(3), worker, frame=0):
        seen.append(found)
        if found.at == 1:
            job.begin()
            job.result = "the next"
    assert seen == [Count(0), Count(1)] and job.result == "the next"


def test_what_changed_meanwhile_can_be_kept(worker):
    job = Job()
    for found in run_job(
        job, lambda: counting(3), worker, frame=0, kept=lambda before, found: replace(found, mark=before.mark)
    ):
        if found.at == 0:
            job.result = replace(job.result, mark="clicked")
    assert found == Count(2, "clicked", DONE)


def test_a_stop_ends_the_download_that_a_question_needs():
    stop = threading.Event()
    with downloads_until(stop), progress_bar_class("some/diff") as Bar:
        bar = Bar(total=100, unit="B")
        bar.update(10)
        stop.set()
        with pytest.raises(DitError, match="Stopped while 'some/diff' was downloaded"):
            bar.update(10)
        stop.clear()
