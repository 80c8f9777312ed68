"""The scoreboard on many machines: Ray actors share the diffs, each with a model of its own.

The ledger stays here, and so does all that a run depends on: what is found is what one process would find. Ray is an
optional extra, `requirements-ray.txt`.
"""

import os
import pickle
import socket
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from dit_core.errors import DitError
from dit_core.scoreboard.jobs import Job
from dit_core.scoreboard.rows import Row
from dit_core.suite import Suite

STARTING = 180.0  # seconds until the first actor has to be there
KNOCKING = 5.0  # seconds until a cluster has to answer
STORE = 100 * 2**20  # bytes of shared memory on one machine: actors send each other words


@dataclass(frozen=True)
class OnRay:
    """An `Engine` of `actors` Ray actors.

    Where Ray runs already in this process, these are its actors. Else it is started on this machine; or, with an
    `address` (`auto`, `HOST:PORT` or `ray://HOST:PORT`), the cluster there does the work: each of its machines needs
    this program and, where a suite was given by its path, the suite's files at the same path.

    Raises:
        DitError: Ray is not installed, or `actors` is less than 1. At work: the cluster can't be reached or has no
            room, its files of the suite are others, or all actors died. What one that dies was given gets another.
    """

    actors: int = 2
    address: str | None = None

    def __post_init__(self) -> None:
        if self.actors < 1:
            raise DitError(f"The number of actors must be at least 1, not {self.actors}.")
        _ray()

    @property
    def workers(self) -> int:
        """How many jobs are done at once."""
        return self.actors

    def run_jobs(
        self, suite: Suite, rows: Sequence[Row], jobs: deque[Job], on_start: Callable[[Job], None]
    ) -> Generator[tuple[Job, Any], None, None]:
        """As `Engine` says."""
        if not jobs:
            return
        ray = _ray()
        with _connected(ray, self.address), _actors(ray, self.actors) as actors:
            yield from share_jobs(ray, actors, suite, rows, jobs, on_start)


class Actor:
    """A Ray actor: does jobs, one at a time, with the suite as it is on its machine."""

    def open(self, packed: bytes) -> str:
        """Takes the suite and the rows; returns the suite's fingerprint as it is here."""
        self.suite, self.rows = pickle.loads(packed)
        return self.suite.fingerprint

    def run(self, job: Job) -> Any:
        """What comes of a job."""
        return job.run(self.suite, self.rows)


def share_jobs(
    ray: Any,
    actors: Sequence[Any],
    suite: Suite,
    rows: Sequence[Row],
    jobs: deque[Job],
    on_start: Callable[[Job], None],
) -> Generator[tuple[Job, Any], None, None]:
    """Gives each job to an actor that is idle, and what comes of it; the job of one that died goes to another."""
    packed = pickle.dumps((suite, rows))
    running: dict[Any, tuple[Any, Job | None]] = {actor.open.remote(packed): (actor, None) for actor in actors}
    idle: list[Any] = []
    lost = ""
    while jobs or any(job for _, job in running.values()):
        while jobs and idle:
            actor, next_job = idle.pop(), jobs.popleft()
            on_start(next_job)
            running[actor.run.remote(next_job)] = actor, next_job
        if not running:
            raise DitError(f"All {len(actors)} actors died ({lost}). What was found is kept: give them more memory.")
        at_work = any(job for _, job in running.values())
        done, _ = ray.wait(list(running), timeout=None if at_work else STARTING)
        if not done:
            raise DitError(f"No actor could start within {STARTING:.0f} s: the cluster has no room, ask for fewer.")
        actor, job = running.pop(done[0])
        try:
            found = ray.get(done[0])
        except ray.exceptions.RayActorError as error:
            lost = f"{rows[job.row].title}: {_first_line(error)}" if job else _first_line(error)
            jobs.extendleft([job] if job else [])
            continue
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None  # as if it had been raised here
        idle.append(actor)
        if job:
            yield job, found
        elif found != suite.fingerprint:
            raise DitError(f"An actor has other files of the suite '{suite.name}': give all machines the same ones.")


@contextmanager
def _connected(ray: Any, address: str | None) -> Iterator[None]:
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else Ray tells its makers of every start
    where: dict[str, Any] = {"address": address} if address else {"address": "local", "object_store_memory": STORE}
    where |= {} if address else {"include_dashboard": False}
    try:
        _knock(address)
        ray.init(**where, log_to_driver=False, logging_level="error")
    except Exception as error:  # whatever Ray raises of a cluster that does not answer
        if address is None:
            raise DitError(f"Ray could not be started ({_first_line(error)}): do without it.") from error
        raise DitError(
            f"No Ray cluster could be reached at '{address}' ({_first_line(error)}): check the address, and set "
            "RAY_AUTH_MODE=token where the cluster asks for a token."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str | None) -> None:
    """Raises OSError or ValueError at once where nobody listens; Ray itself would try for minutes."""
    if address in (None, "auto"):
        return
    where = urlsplit(address if "://" in address else f"//{address}")
    if not where.port:
        raise ValueError("it has no port")
    socket.create_connection((where.hostname, where.port), KNOCKING).close()


@contextmanager
def _actors(ray: Any, count: int) -> Iterator[list[Any]]:
    """So many actors, which share the cluster's processors evenly; they are gone afterwards."""
    there = ray.cluster_resources()
    share = {f"num_{what.lower()}s": _share(there.get(what, 0), count) for what in ("CPU", "GPU")}
    make = ray.remote(Actor).options(**share)
    actors = [make.remote() for _ in range(count)]
    try:
        yield actors
    finally:
        for actor in actors:
            ray.kill(actor)


def _share(all_of_it: float, count: int) -> float:
    """What each of so many gets: whole ones, or of fewer a part."""
    return all_of_it // count or int(1000 * all_of_it / count) / 1000


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise DitError("The engine 'ray' needs Ray: `pip install -r requirements-ray.txt`, or do without it.") from (
            error
        )
    return ray


def _first_line(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".")
