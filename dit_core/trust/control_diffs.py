"""Controls of a diff: diffs of the same shape without its meaning. What an adapter says about them is its habit.

They depend on the diff's id alone, so that a control is the same in every process.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dit_core.engine.generation import row_seed
from dit_core.engine.model import Model
from dit_core.formats import Adapter, low_rank_norm
from dit_core.records import DiffInfo
from dit_core.suite import Suite
from dit_core.suite.diffs import DerivedDiff

NONE, RANDOM, PERMUTED, OTHER = "no diff", "random diff", "permuted diff", "another diff"
KINDS = (NONE, RANDOM, PERMUTED, OTHER)


@dataclass(frozen=True, kw_only=True)
class Control(DerivedDiff):
    """A diff made of another, `of`: `kind` is RANDOM, PERMUTED, or OTHER for its own weights under another id."""

    kind: str
    of: DiffInfo

    def weights(self, load: Callable[[DiffInfo], Adapter], model: Callable[[], Model]) -> Adapter:
        """Return low-rank factors as those of `of`, drawn anew or permuted; its whole weights are left out."""
        if self.kind == OTHER:
            return load(self.of)
        generator = torch.Generator().manual_seed(row_seed(self.kind, self.of.id))
        changed = {RANDOM: _random, PERMUTED: _permuted}[self.kind]
        source = load(self.of)
        factors = {name: changed(A.float(), B.float(), generator) for name, (A, B) in source.factors.items()}
        return Adapter(factors, source.scaling)


def control(info: DiffInfo, kind: str) -> Control:
    """Return the RANDOM or PERMUTED control of a low-rank diff; trained on nothing, it has no right answer."""
    return Control(f"{info.id}~{kind.split()[0]}", info.task, "control", info.rank, "", None, kind=kind, of=info)


def controls(suite: Suite, info: DiffInfo, task: str) -> dict[str, DiffInfo | None]:
    """Return the controls of a diff by kind; another diff is one of `task`, which the adapter was made for.

    A full finetune has neither a random nor a permuted copy, and a suite may have no other diff: such are left out.
    """
    found: dict[str, DiffInfo | None] = {NONE: None}
    if info.rank:
        found |= {kind: control(info, kind) for kind in (RANDOM, PERMUTED)}
    source = info.of if isinstance(info, Control) else info
    others = [other for other in suite.diffs if other.task == task and other.rank and other.id != source.id]
    # Of its own split, so that none is fitted with another's diffs; else one that no adapter has seen.
    same = [other for other in others if other.split == source.split]
    others = same or [other for other in others if other.split != "train"] or others
    if others:
        found[OTHER] = others[row_seed(OTHER, info.id) % len(others)]
    return found


def control_target(info: DiffInfo, kind: str, other: DiffInfo) -> DiffInfo:
    """Return what is read in the place of `info`: a control made of it, or another diff under an id of its own."""
    if kind != OTHER:
        return replace(other, trigger=info.trigger)
    same_task = other.task == info.task
    trigger = other.trigger if same_task else info.trigger
    return Control(f"{info.id}~{other.id}", info.task, "control", other.rank, "", trigger, kind=OTHER, of=other)


def _random(A: Tensor, B: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw factors of the same shapes whose product has the same Frobenius norm."""
    drawn = torch.randn(A.shape, generator=generator), torch.randn(B.shape, generator=generator)
    factor = (low_rank_norm(A, B) / low_rank_norm(*drawn)) ** 0.5
    return drawn[0] * factor, drawn[1] * factor


def _permuted(A: Tensor, B: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Shuffle the inputs of A and the outputs of B."""
    return (
        A[:, torch.randperm(A.shape[1], generator=generator)],
        B[torch.randperm(B.shape[0], generator=generator)],
    )
