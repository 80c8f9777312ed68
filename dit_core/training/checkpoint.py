"""The state of a long training on disk, written every few minutes, so that a stopped one goes on where it was."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

SAVE_SECONDS = 180


class HasState(Protocol):
    def state_dict(self) -> dict: ...

    def load_state_dict(self, state: dict) -> Any: ...


class Checkpoint:
    """Named parts (modules, optimizers, schedules) and the number of steps done, in one file."""

    def __init__(self, path: Path, parts: Mapping[str, HasState]) -> None:
        self.path, self.parts = path, parts
        self._saved_at = time.monotonic()
        self.extra: dict[str, Any] = {}

    def restore(self, device: torch.device) -> int:
        """Put back what was saved, if anything; returns the steps done."""
        if not self.path.exists():
            return 0
        state = torch.load(self.path, map_location=device, weights_only=True)
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        self.extra = state["extra"]
        return state["steps"]

    def save_now_and_then(self, steps: int) -> None:
        """Save where the last time is some minutes ago."""
        if time.monotonic() - self._saved_at >= SAVE_SECONDS:
            self.save(steps)

    def save(self, steps: int) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        state = {name: part.state_dict() for name, part in self.parts.items()}
        unfinished = self.path.with_suffix(".new")
        torch.save({**state, "steps": steps, "extra": self.extra}, unfinished)
        unfinished.replace(self.path)
        self._saved_at = time.monotonic()

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
