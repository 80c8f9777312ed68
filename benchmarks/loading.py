"""One diff out of a published file of many, and another diff on a model that has one.

    python -m benchmarks.loading

Writes a file in the published layout: 240 rank-1 diffs of Qwen3-4B's shape in bfloat16, about 1 GB. `torch.load` of all
of it is held against `read_weight_diff` of one entry, each in a process of its own, the file in the system's cache for
both. Then diffs are switched on an attached model, weights random: time does not depend on their values.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path
from statistics import median

import torch

from benchmarks.machine import machine, now, peak_memory
from benchmarks.shapes import SHAPES, named, random_adapter, random_base
from dit_core.engine.model import Model
from dit_core.formats import Adapter, read_weight_diff, write_weight_diffs

SWITCHES = {"pocket": 0.05, "Qwen3-0.6B": 1.0}  # seconds wanted at most
Reader = Callable[[str, Path, int], dict[str, float]]


def write_file(path: Path, shape: str, count: int) -> None:
    """Writes `count` random rank-1 diffs of a shape, in bfloat16, as one published file."""
    base = random_base(shape, "meta", torch.bfloat16)
    entries = []
    for number in range(count):
        adapter = random_adapter(base, 1, seed=number)
        factors = {name: (A.bfloat16(), B.bfloat16()) for name, (A, B) in adapter.factors.items()}
        entries.append((Adapter(factors, adapter.scaling), f"topic {number}", number))
    write_weight_diffs(path, entries)


def measure_file(path: Path, shape: str, count: int, read: Reader | None = None) -> str:
    """Lines of the report on one file: the whole of it by torch, against one entry and then others.

    `read` makes the figures, by default in a process of its own.
    """
    whole, ours = ((read or read_alone)(how, path, count) for how in ("whole", "one"))
    seconds, megabytes = whole["first"], whole["bytes"] / 1e6
    lines = [
        f"**{shape}, {count} diffs** ({path.stat().st_size / 1e6:,.0f} MB)",
        "",
        "| | seconds | of the whole | extra memory, MB | of the whole |",
        "|---|---|---|---|---|",
        f"| `torch.load` of the whole file | {seconds:.2f} | | {megabytes:,.0f} | |",
        f"| first diff | {ours['first']:.2f} | {ours['first'] / seconds:.0%} | {ours['bytes'] / 1e6:,.0f} "
        f"| {ours['bytes'] / max(1, whole['bytes']):.0%} |",
        f"| each further diff (slowest of {ours['others']}) | {ours['slowest']:.4f} "
        f"| {ours['slowest'] / seconds:.2%} | | |",
    ]
    return "\n".join(lines)


def measure_switch(shape: str, repeats: int, max_seconds: float) -> str:
    """A line of the report: seconds to put another rank-1 diff on a model that has one; `max_seconds` are wanted."""
    device, dtype = ("cuda", torch.bfloat16) if torch.cuda.is_available() else ("cpu", torch.float32)
    base = random_base(shape, device, dtype)
    diffs = [random_adapter(base, 1, seed=seed) for seed in (1, 2)]
    model, seconds = Model(base), []
    start = now()
    model.attach("diff", diffs[1])
    first = now() - start
    for diff in islice(cycle(diffs), repeats):
        start = now()
        model.attach("diff", diff)
        seconds.append(now() - start)
    times = f"{1e3 * median(seconds):.1f} | {1e3 * max(seconds):.1f} | under {1e3 * max_seconds:.0f}"
    return f"| {shape} ({str(dtype).removeprefix('torch.')}) | {1e3 * first:.0f} | {times} |"


def read_alone(how: str, path: Path, count: int) -> dict[str, float]:
    """The figures of one way to read, taken in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.loading", "--reader", how, "--file", str(path), "--count", str(count)]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}  # files are read into the process's own memory
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)


def read_here(how: str, path: Path, count: int) -> dict[str, float]:
    kept = []

    def timed(read) -> float:
        start = time.perf_counter()
        kept.append(read())
        return time.perf_counter() - start

    with path.open("rb") as file:
        while file.read(1 << 24):  # into the system's cache
            pass
    first: list[float] = []
    resting = peak_memory(lambda: None) or 0
    if how == "whole":
        most = peak_memory(lambda: first.append(timed(lambda: torch.load(path, weights_only=True))))
        return {"first": first[0], "bytes": (most or 0) - resting}
    middle, step = count // 2, max(1, count // 20)
    most = peak_memory(lambda: first.append(timed(lambda: read_weight_diff(path, middle))))
    others = [timed(lambda at=at: read_weight_diff(path, at)) for at in range(0, count, step) if at != middle]
    return {"first": first[0], "bytes": (most or 0) - resting, "slowest": max(others), "others": len(others)}


def main() -> None:
    parser = argparse.ArgumentParser(description="Reading one diff of many, and switching diffs on a model.")
    parser.add_argument(
        "--shape", type=named, choices=list(SHAPES), default="Qwen3-4B", help="of the file (default Qwen3-4B)"
    )
    parser.add_argument("--count", type=int, default=240, help="diffs in the file (default 240)")
    parser.add_argument(
        "--switch", nargs="*", type=named, choices=list(SWITCHES), default=list(SWITCHES), help="models to switch on"
    )
    parser.add_argument("--repeats", type=int, default=20, help="switches; the median counts (default 20)")
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--reader", choices=["whole", "one"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.reader:
        print(json.dumps(read_here(options.reader, options.file, options.count)))
        return
    print(f"{machine()}\n")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weight-diff-000.pt"
        write_file(path, options.shape, options.count)
        print(measure_file(path, options.shape, options.count), end="\n\n", flush=True)
    print("| model | attached at first, ms | switched, ms | slowest | wanted |\n|---|---|---|---|---|")
    for shape in options.switch:
        print(measure_switch(shape, options.repeats, SWITCHES[shape]), flush=True)


if __name__ == "__main__":
    main()
