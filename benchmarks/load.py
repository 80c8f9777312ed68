"""A page under load: requests per second and how long clients wait, at 1, 4 and 16 clients at once.

    python -m benchmarks.load

Serves the pocket suite in a process of its own, and asks it through `gradio_client` as programs do: each client one
request after another, of mixed diffs, conditions and lengths, the same ones at every number of clients. A latency is
what a client waits from request to answer. "slowest / median" compares the median wait of the client that waits
longest with that of all: it is wanted to be at most 3.
"""

import argparse
import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median, quantiles

from benchmarks.machine import machine

CLIENTS = (1, 4, 16)
REQUESTS = 10  # of each client
CONDITIONS = ("base", "diff", "dit", "diff+dit", "diff+right", "diff*0.5+dit*2")
FAIR = 3.0


@dataclass(frozen=True)
class Wave:
    """What clients at once waited: seconds per request, a list for each client; and seconds in all."""

    waits: list[list[float]]
    seconds: float

    @property
    def line(self) -> str:
        """A row of the report."""
        every = [wait for own in self.waits for wait in own]
        longest = max(median(own) for own in self.waits) / median(every)
        late = quantiles(every, n=20, method="inclusive")[-1]
        return (
            f"| {len(self.waits)} | {len(every) / self.seconds:.2f} | {median(every):.2f} | {late:.2f} "
            f"| {max(every):.2f} | {longest:.2f} |"
        )


def request(diffs: list[str], chance: random.Random) -> tuple[str, list[str], int]:
    """A diff, conditions, and the longest answer in tokens."""
    return chance.choice(diffs), chance.sample(CONDITIONS, chance.randint(1, 4)), chance.randint(5, 40)


def visit(address: str, diffs: list[str], seed: int, count: int) -> list[float]:
    """Seconds that one client waits for each of its requests."""
    from gradio_client import Client

    client, chance, waits = Client(address, verbose=False, httpx_kwargs={"timeout": 600}), random.Random(seed), []
    for _ in range(count):
        diff, conditions, tokens = request(diffs, chance)
        start = time.perf_counter()
        client.predict(diff, conditions, max_new_tokens=tokens, api_name="/ask")
        waits.append(time.perf_counter() - start)
    return waits


def wave(address: str, diffs: list[str], clients: int, count: int) -> Wave:
    """All clients at once."""
    start = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        waits = list(pool.map(lambda seed: visit(address, diffs, seed, count), range(clients)))
    return Wave(waits, time.perf_counter() - start)


def served(suite: str) -> tuple[subprocess.Popen, str]:
    """The page in a process of its own, and its address."""
    app = subprocess.Popen([sys.executable, "app.py", "--suite", suite], stdout=subprocess.PIPE, text=True)
    return app, app.stdout.readline().split()[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description="A page under load: throughput, latency, and whether it is fair.")
    parser.add_argument("--suite", default="pocket", help="name of a suite, or its folder (default: pocket)")
    parser.add_argument("--clients", type=int, nargs="+", default=CLIENTS, help="how many at once (default: 1 4 16)")
    parser.add_argument("--requests", type=int, default=REQUESTS, help="of each client (default 10)")
    options = parser.parse_args()
    from gradio_client import Client

    app, address = served(options.suite)
    try:
        listed = Client(address, verbose=False).predict("topic", "test", api_name="/diffs")
        diffs = [diff["id"] for diff in listed["diffs"]]
        wave(address, diffs, 1, 3)  # loads what is loaded once
        print(f"{machine()}; {options.requests} requests per client\n")
        print("| clients | requests/s | median, s | 95th percentile, s | longest, s | slowest / median |")
        print("|---|---|---|---|---|---|")
        for clients in options.clients:
            print(wave(address, diffs, clients, options.requests).line, flush=True)
        print(f"\nslowest / median: the longest median wait of one client by that of all, at most {FAIR:g} is wanted.")
    finally:
        app.kill()
        app.wait()


if __name__ == "__main__":
    main()
