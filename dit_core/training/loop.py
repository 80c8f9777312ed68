"""The loop that every training shares: a bar with the time left, a state to go on from, a stop between two steps."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn
from tqdm import tqdm

from dit_core.errors import DitError

SAVE_SECONDS = 60.0
"""The time between two writings of a training's state."""
SHOWN_LOSSES = 20
"""How many of the last steps a shown loss is the mean of."""
OnProgress = Callable[[float, float, str], None]
"""Hears of what is done, of how much, and what it is."""

_listener: ContextVar[OnProgress | None] = ContextVar("listener", default=None)


def multiplies_bfloat16(device: torch.device) -> bool:
    """Return whether a device multiplies bfloat16 by itself; elsewhere float32 is the faster."""
    return device.type == "cuda" or torch.cpu._is_avx512_bf16_supported()


# ---------------------------------------------------------------- how far it is


@contextmanager
def watch_progress(listener: OnProgress | None) -> Iterator[None]:
    """Call `listener(done, total, what)` in the place of every bar that is shown in this context; None shows the bars.

    What it raises ends a training between two steps, with its state saved.
    """
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


@contextmanager
def progress_bar(title: str, total: float, done: float = 0) -> Iterator[OnProgress]:
    """Show how far work is and how long it may still take; yield a function of what is done, the total, and a note."""
    if listener := _listener.get():
        listener(done, total, title)
        yield lambda done, total, note: listener(done, total, f"{title}, {note}" if note else title)
        return
    with tqdm(total=total or None, initial=done, desc=title, mininterval=2, dynamic_ncols=True) as bar:

        def show(done: float, total: float, note: str) -> None:
            bar.total = total or None
            bar.set_postfix_str(note, refresh=False)
            bar.update(done - bar.n)

        yield show


# ---------------------------------------------------------------- what is kept of a training


class HasState(Protocol):
    """A module, an optimizer or a schedule."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state, by name."""

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any:
        """Set the state that `state_dict` returned."""


@dataclass
class Losses:
    """The loss of each step so far, and the seconds that the steps took, in all runs together."""

    values: list[float] = field(default_factory=list)
    seconds: float = 0.0

    def last(self, count: int = SHOWN_LOSSES) -> float:
        """Return the mean of the last losses."""
        return sum(self.values[-count:]) / len(self.values[-count:])

    def figures(self) -> dict[str, Any]:
        """Return the losses in short, and the seconds, as a report keeps them."""
        every = max(1, len(self.values) // 40)
        curve = [round(loss, 3) for loss in self.values[::every]]
        return {"final_loss": round(self.last(100), 4), "losses": curve, "seconds": round(self.seconds)}


class Checkpoint:
    """Named parts (modules, optimizers, schedules), torch's noise, losses and the number of steps, in one file.

    The file is written at most every `save_seconds`.
    """

    def __init__(self, path: Path, parts: Mapping[str, HasState], save_seconds: float = SAVE_SECONDS) -> None:
        self.path, self.parts, self.save_seconds = path, parts, save_seconds
        self.losses = Losses()
        self._saved_at = time.monotonic()

    def restore(self, device: torch.device) -> int:
        """Put back what was saved, if anything, and return the steps done.

        Raises:
            DitError: the file is not of this training.
        """
        if not self.path.exists():
            return 0
        try:
            state = torch.load(self.path, map_location=device, weights_only=True)
            for name, part in self.parts.items():
                part.load_state_dict(state[name])
            torch.set_rng_state(state["noise"].cpu())
            if device.type == "cuda":
                torch.cuda.set_rng_state(state["device noise"].cpu(), device)
        except (KeyError, RuntimeError, ValueError) as error:
            raise DitError(f"'{self.path}' is the state of another training: delete it to begin anew.") from error
        self.losses = Losses(state["losses"], state["seconds"])
        return len(self.losses.values)

    def save_if_due(self) -> None:
        """Save where the last time is long enough ago."""
        if time.monotonic() - self._saved_at >= self.save_seconds:
            self.save()

    def save(self) -> None:
        """Write the state, in one piece or not at all."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        state: dict[str, Any] = {name: part.state_dict() for name, part in self.parts.items()}
        state |= {"losses": self.losses.values, "seconds": self.losses.seconds, "noise": torch.get_rng_state()}
        if torch.cuda.is_available():
            state["device noise"] = torch.cuda.get_rng_state()
        unfinished = self.path.with_suffix(".new")
        torch.save(state, unfinished)
        unfinished.replace(self.path)
        self._saved_at = time.monotonic()


# ---------------------------------------------------------------- the loop


@dataclass(frozen=True)
class Optimization:
    """What is trained, and how.

    Attributes:
        module: what learns.
        optimizers: each for its own parameters of the module.
        rate: the share of the optimizers' learning rates at a step.
        steps: how many there are.
        max_norm: of the gradient, which is cut there; None for no cut.
        beside: what else belongs to the state, by name.
    """

    module: nn.Module
    optimizers: Sequence[torch.optim.Optimizer]
    rate: Callable[[int], float]
    steps: int
    max_norm: float | None = None
    beside: Mapping[str, HasState] = field(default_factory=dict)


def warm_up_and_decay(steps: int, warm_up: int, decay: float) -> Callable[[int], float]:
    """Return a rate that rises for `warm_up` steps, stays, and falls linearly over the last share `decay` of all."""
    return lambda step: min(1.0, (step + 1) / warm_up, (steps - step) / (decay * steps))


def train(
    title: str,
    own: Optimization,
    gradient: Callable[[int], float],
    state_file: Path,
    save_seconds: float = SAVE_SECONDS,
    on_step: Callable[[int], None] = lambda steps: None,
) -> Losses:
    """Train a module, or go on training it as if it had never been stopped, and return the losses of all its steps.

    Ctrl-C ends it after the step, and an exception of a listener or `on_step` between two steps, with the state saved.

    Args:
        title: what stands beside the progress bar.
        own: what is trained, and how.
        gradient: leaves the gradient of a step's loss on the module and returns the loss. Its noise comes of the number
            of the step, or of torch's own generators.
        state_file: where the state is kept; whoever has written what came out may delete it.
        save_seconds: the time between two writings of the state.
        on_step: called after each step with the number of steps done.

    Raises:
        DitError: the state file is not of this training.
    """
    schedules = [torch.optim.lr_scheduler.LambdaLR(optimizer, own.rate) for optimizer in own.optimizers]
    parts: dict[str, HasState] = {"module": own.module, **own.beside}
    parts |= {f"optimizer {place}": optimizer for place, optimizer in enumerate(own.optimizers)}
    parts |= {f"rate {place}": schedule for place, schedule in enumerate(schedules)}
    checkpoint = Checkpoint(state_file, parts, save_seconds)
    start, losses = checkpoint.restore(next(own.module.parameters()).device), checkpoint.losses
    before, started = losses.seconds, time.monotonic()
    with progress_bar(title, own.steps, start) as show, _interrupts_wait() as interrupted:
        for step in range(start, own.steps):
            loss = gradient(step)
            if own.max_norm is not None:
                nn.utils.clip_grad_norm_(own.module.parameters(), own.max_norm)
            for optimizer, schedule in zip(own.optimizers, schedules, strict=True):
                optimizer.step()
                schedule.step()
            own.module.zero_grad()
            losses.values.append(loss)
            losses.seconds = before + time.monotonic() - started
            try:
                show(step + 1, own.steps, f"loss {losses.last():.3f}")
                on_step(step + 1)
                if interrupted.is_set():
                    raise KeyboardInterrupt
            except BaseException:
                checkpoint.save()
                raise
            checkpoint.save_if_due()
    checkpoint.save()
    return losses


@contextmanager
def _interrupts_wait() -> Iterator[threading.Event]:
    """Have the first Ctrl-C set an event, and the second one act at once; only the main thread can."""
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield interrupted
        return
    before = signal.getsignal(signal.SIGINT) or signal.SIG_DFL

    def wait(number: int, frame: Any) -> None:
        interrupted.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, wait)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)
