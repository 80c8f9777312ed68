"""Clock, memory and description of the machine that a benchmark runs on."""

import os
import platform
import re
import time
from collections.abc import Callable
from pathlib import Path

import torch


def now() -> float:
    """Seconds, after all work handed to the device is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def peak_memory(run: Callable[[], object]) -> int | None:
    """Bytes at most in use while `run` runs: of the GPU, else of the process; None where that can't be told."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        run()
        return torch.cuda.max_memory_allocated()
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    run()
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024


def reading_time(base: torch.nn.Module, device: str) -> float:
    """Seconds to read the weights of all linear layers once, from the measured speed of copying memory."""
    source = torch.empty(1 << (29 if device == "cuda" else 26), dtype=torch.float32, device=device).fill_(1)
    target = torch.empty_like(source)
    seconds = []
    for _ in range(5):
        start = now()
        target.copy_(source)
        seconds.append(now() - start)
    linears = [m.weight for m in base.modules() if type(m) is torch.nn.Linear]
    weight_bytes = sum(w.numel() * w.element_size() for w in linears)
    return weight_bytes * min(seconds) / (2 * source.numel() * source.element_size())


def machine() -> str:
    """What the figures were measured on."""
    cpu = platform.processor() or platform.machine()
    if (info := Path("/proc/cpuinfo")).exists() and (name := re.search(r"model name\s*:\s*(.+)", info.read_text())):
        cpu = name[1].strip()
    gpu = f"{torch.cuda.get_device_name()}, " if torch.cuda.is_available() else ""
    return f"{gpu}{cpu}, {os.cpu_count()} cores, torch {torch.__version__} ({torch.get_num_threads()} threads)"
