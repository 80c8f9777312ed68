"""A line of jobs in which clients take turns: who hands in many waits for his own, and nobody for all of them."""

import queue
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable

Job = Callable[[], None]


class Line:
    """Each client's jobs in the order in which they came, one of each client's at a time. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: OrderedDict[Hashable, deque[Job]] = OrderedDict()  # the next client first
        self._running = False
        # One for each job and one for the end; the garbage collector may put one in at any moment.
        self._tickets: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def put(self, client: Hashable, job: Job) -> None:
        """Puts a job at the end of its client's own; a client who has none comes after those who have."""
        with self._lock:
            self._waiting.setdefault(client, deque()).append(job)
        self._tickets.put(True)

    def get(self) -> Job | None:
        """Waits for the next job; None when the line was closed. The one taken before counts as done."""
        self._running = False
        if not self._tickets.get():
            return None
        with self._lock:
            client, jobs = self._waiting.popitem(last=False)
            job = jobs.popleft()
            if jobs:
                self._waiting[client] = jobs  # behind all others
            self._running = True
            return job

    def close(self) -> None:
        """No more comes: `get` gives None once all are taken."""
        self._tickets.put(False)

    def ahead(self, client: Hashable) -> int:
        """How many jobs come before the last one that waits for `client`, the running one too; 0 where none waits."""
        with self._lock:
            own = len(self._waiting.get(client, ()))
            if not own:
                return 0
            before = list(self._waiting).index(client)
            # In each round everybody has a turn, and in the last one only those who stand before this client.
            others = (
                min(len(jobs), own if at < before else own - 1)
                for at, (other, jobs) in enumerate(self._waiting.items())
                if other != client
            )
            return sum(others) + own - 1 + self._running

    def __len__(self) -> int:
        """How many jobs wait."""
        with self._lock:
            return sum(map(len, self._waiting.values()))
