"""Presets of sweeps, and the copies, strengths and layers that they vary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import TypedDict

from dit_core.errors import DitError
from dit_core.records import DiffInfo
from dit_core.suite import Suite

MAX_SETTINGS = 200  # of one sweep
STEP = 0.5  # of copies, unless another is asked for

LayerRange = tuple[int, int] | None
"""The first and the last layer that an adapter acts on; None for all."""


@dataclass(frozen=True)
class Plan:
    """What a preset varies: lists of values, and whether there is a diff. Adapters are named by the user."""

    copies: tuple[float, ...] = (1.0,)
    strengths: tuple[float, ...] = (1.0,)
    with_diff: bool = True
    by_layers: bool = False


def steps(first: float, last: float, step: float) -> tuple[float, ...]:
    """Return `first`, `first + step`, … as far as `last`; DitError where that is not 1 to 200 numbers."""
    if not (0 < step < inf and first <= last and (last - first) / step < MAX_SETTINGS):
        raise DitError(
            f"{first} to {last} in steps of {step} is no range of 1 to {MAX_SETTINGS} values: change one of them."
        )
    count = int((last - first) / step + 1e-9) + 1
    return tuple(round(first + step * index, 6) for index in range(count))


PRESETS = {
    "copies without a diff": Plan(copies=steps(0, 5, STEP), with_diff=False),
    "copies with the diff": Plan(copies=steps(0, 5, STEP)),
    "strength of the diff": Plan(strengths=steps(-1, 3, 0.25)),
    "copies and strength": Plan(copies=steps(0, 5, STEP), strengths=steps(-1, 3, 0.5)),
    "layers of the adapter": Plan(by_layers=True),
}
"""The first is the published experiment: an adapter without anything to tell, in 0 to 5 copies (arXiv 2510.05092)."""


def windows(n_layers: int, width: int | None = None) -> list[LayerRange]:
    """Return ranges of layers from the bottom up, each of `width` of them (a quarter by default); then all layers."""
    width = width or max(1, n_layers // 4)
    return [*((first, first + width - 1) for first in range(n_layers - width + 1)), None]


class PlannedSweep(TypedDict):
    """Arguments of `sweep`."""

    diff: str | DiffInfo | None
    adapter: list[str] | None
    copies: Sequence[float]
    strength: float | Sequence[float]
    layers: Sequence[LayerRange] | None


def planned(
    suite: Suite,
    preset: str,
    diff: str | DiffInfo | None,
    adapters: Sequence[str],
    step: float = STEP,
    copies: Sequence[float] | None = None,
    strength: Sequence[float] | None = None,
) -> PlannedSweep:
    """Return what `sweep` takes for a preset, without sampling.

    Args:
        suite: what `load_suite` gave.
        preset: its name, or a beginning that no other has.
        diff: an id or reference, where the preset needs one.
        adapters: names of DIT adapters; without any, a sweep without a diff takes that of every task.
        step: of the preset's copies.
        copies: in place of the preset's own.
        strength: in place of the preset's own.

    Raises:
        DitError: an unknown preset, a step that `steps` does not take, or a missing diff.
    """
    wanted = preset.strip().lower()
    names = [name for name in PRESETS if wanted and name.startswith(wanted)]
    if len(names) != 1:
        raise DitError(f"There is no one sweep '{preset}': choose one of {', '.join(PRESETS)}.")
    name, plan = names[0], PRESETS[names[0]]
    with_diff = plan.with_diff or any(strength or ())
    if with_diff and not diff:
        raise DitError(f"The sweep '{name}' needs a diff: choose one.")
    every = list(dict.fromkeys(suite.default_adapter(task) for task in suite.tasks))
    return {
        "diff": diff if with_diff else None,
        "adapter": list(adapters) or (None if with_diff else every),
        "copies": copies or steps(plan.copies[0], plan.copies[-1], step),
        "strength": strength or (plan.strengths if with_diff else 0.0),
        "layers": windows(suite.worker.run(lambda: len(suite.model.layers))) if plan.by_layers else None,
    }
