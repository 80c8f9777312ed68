"""The scoreboard on many machines: Ray actors share the diffs, each with its own model.

The ledger stays in this process, and so does all that a run depends on: findings are those of a run in one process.
Ray is an optional extra, `requirements-ray.txt`.
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

START_SECONDS = 180.0  # the longest wait for the first actor
CONNECT_SECONDS = 5.0  # the longest wait for a cluster
STORE_BYTES = 100 * 2**20  # shared memory on one machine: actors only send text


@dataclass(frozen=True)
class OnRay:
    """An `Engine` of `actors` Ray actors.

    Where Ray already runs in this process, it is used. Else Ray is started on this machine, or, with an `address`
    (`auto`, `HOST:PORT` or `ray://HOST:PORT`), the cluster there does the work. Each of its machines needs this program
    and, where a suite was given by its path, the suite's files at the same path. The job of an actor that dies goes to
    another one.

    Raises:
        DitError: Ray is not installed, or `actors` is less than 1. While it runs: the cluster can't be reached or has
            no room, its files of the suite differ from those here, or all actors died.
    """

    actors: int = 2
    address: str | None = None

    def __post_init__(self) -> None:
        if self.actors < 1:
            raise DitError(f"The number of actors must be at least 1, not {self.actors}.")
        _ray()

    @property
    def workers(self) -> int:
        """The number of jobs that run at once."""
        return self.actors

    def run_jobs(
        self, suite: Suite, rows: Sequence[Row], jobs: deque[Job], on_start: Callable[[Job], None]
    ) -> Generator[tuple[Job, Any], None, None]:
        """Run the jobs on the actors and yield each with its result; see `Engine.run_jobs`."""
        if not jobs:
            return
        ray = _ray()
        with _connected(ray, self.address), _actors(ray, self.actors) as actors:
            yield from share_jobs(ray, actors, suite, rows, jobs, on_start)


class Actor:
    """A Ray actor: runs jobs, one at a time, with the suite as it is on its machine."""

    def open(self, packed: bytes) -> str:
        """Load the suite and the rows; return the suite's fingerprint on this machine."""
        self.suite, self.rows = pickle.loads(packed)
        return self.suite.fingerprint

    def run(self, job: Job) -> Any:
        """Return the result of a job."""
        return job.run(self.suite, self.rows)


def share_jobs(
    ray: Any,
    actors: Sequence[Any],
    suite: Suite,
    rows: Sequence[Row],
    jobs: deque[Job],
    on_start: Callable[[Job], None],
) -> Generator[tuple[Job, Any], None, None]:
    """Give each job to an idle actor, and yield jobs with their results; the job of an actor that died goes to another.

    Raises:
        DitError: no actor starts, all died, or an actor's files of the suite differ from those here.
    """
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
        any_job = any(job for _, job in running.values())
        done, _ = ray.wait(list(running), timeout=None if any_job else START_SECONDS)
        if not done:
            raise DitError(
                f"No actor could start within {START_SECONDS:.0f} s: the cluster has no room, ask for fewer."
            )
        actor, job = running.pop(done[0])
        try:
            result = ray.get(done[0])
        except ray.exceptions.RayActorError as error:
            lost = f"{rows[job.row].title}: {_first_line(error)}" if job else _first_line(error)
            jobs.extendleft([job] if job else [])
            continue
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None  # as if it had been raised here
        idle.append(actor)
        if job:
            yield job, result
        elif result != suite.fingerprint:
            raise DitError(f"An actor has other files of the suite '{suite.name}': give all machines the same ones.")


@contextmanager
def _connected(ray: Any, address: str | None) -> Iterator[None]:
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else Ray reports every start to its makers
    options: dict[str, Any] = (
        {"address": address} if address else {"address": "local", "object_store_memory": STORE_BYTES}
    )
    options |= {} if address else {"include_dashboard": False}
    try:
        _check_address(address)
        ray.init(**options, log_to_driver=False, logging_level="error")
    except Exception as error:  # Ray raises anything where a cluster does not answer
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


def _check_address(address: str | None) -> None:
    """Raise OSError or ValueError at once where nobody listens; Ray itself would try for minutes."""
    if address in (None, "auto"):
        return
    parts = urlsplit(address if "://" in address else f"//{address}")
    if not parts.port:
        raise ValueError("it has no port")
    socket.create_connection((parts.hostname, parts.port), CONNECT_SECONDS).close()


@contextmanager
def _actors(ray: Any, count: int) -> Iterator[list[Any]]:
    """Start so many actors, which share the cluster's processors evenly; they end when the context closes."""
    resources = ray.cluster_resources()
    share = {f"num_{kind.lower()}s": _share(resources.get(kind, 0), count) for kind in ("CPU", "GPU")}
    actor_class = ray.remote(Actor).options(**share)
    actors = [actor_class.remote() for _ in range(count)]
    try:
        yield actors
    finally:
        for actor in actors:
            ray.kill(actor)


def _share(total: float, count: int) -> float:
    """Return one actor's part of the processors: a whole number of them, or a fraction of one."""
    return total // count or int(1000 * total / count) / 1000


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
