"""Parts of every long training: a progress bar with the time left, and checkpoints to go on from."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, Protocol

import torch
from tqdm import tqdm

SAVE_SECONDS = 180.0
"""The time between two writings of a training's state."""


def progress_bar(title: str, steps: int, done: int = 0) -> tqdm[NoReturn]:
    """Return a bar of training steps, of which `done` were taken before; a context manager."""
    return tqdm(total=steps, initial=done, desc=title, mininterval=2, dynamic_ncols=True)


class HasState(Protocol):
    """A module, an optimizer or a schedule."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state, by name."""

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any:
        """Set the state that `state_dict` returned."""


class Checkpoint:
    """Named parts (modules, optimizers, schedules) and the number of steps done, in one file.

    `extra` is what else is to be kept, such as the losses so far. The file is written at most every `save_seconds`.
    """

    def __init__(self, path: Path, parts: Mapping[str, HasState], save_seconds: float = SAVE_SECONDS) -> None:
        self.path, self.parts, self.save_seconds = path, parts, save_seconds
        self._saved_at = time.monotonic()
        self.extra: dict[str, Any] = {}

    def restore(self, device: torch.device) -> int:
        """Put back what was saved, if anything, and return the steps done."""
        if not self.path.exists():
            return 0
        state = torch.load(self.path, map_location=device, weights_only=True)
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        self.extra = state["extra"]
        return state["steps"]

    def save_if_due(self, steps: int) -> None:
        """Save where the last time is long enough ago."""
        if time.monotonic() - self._saved_at >= self.save_seconds:
            self.save(steps)

    def save(self, steps: int) -> None:
        """Write the state after `steps` steps, in one piece or not at all."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        state = {name: part.state_dict() for name, part in self.parts.items()}
        unfinished = self.path.with_suffix(".new")
        torch.save({**state, "steps": steps, "extra": self.extra}, unfinished)
        unfinished.replace(self.path)
        self._saved_at = time.monotonic()

    def remove(self) -> None:
        """Delete the file: the training is over."""
        self.path.unlink(missing_ok=True)
