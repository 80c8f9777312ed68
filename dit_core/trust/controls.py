"""Controls of a diff: what has its shape and none of its meaning. What an adapter says there is its habit.

Made of the diff's id alone, so that a control is the same in every process.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dit_core.engine.generation import row_seed
from dit_core.formats import Adapter, low_rank_norm
from dit_core.records import DiffInfo
from dit_core.suite import Suite
from dit_core.suite.diffs import DerivedDiff

NONE, RANDOM, PERMUTED, OTHER = "no diff", "random diff", "permuted diff", "another diff"
KINDS = (NONE, RANDOM, PERMUTED, OTHER)


@dataclass(frozen=True, kw_only=True)
class Control(DerivedDiff):
    """A diff made of another, `of`: `kind` is RANDOM, PERMUTED, or OTHER for its own weights in another place."""

    kind: str
    of: DiffInfo

    def weights(self, load: Callable[[DiffInfo], Adapter]) -> Adapter:
        """Low-rank factors as the other's, drawn anew or permuted; what it has of whole weights is left out."""
        if self.kind == OTHER:
            return load(self.of)
        generator = torch.Generator().manual_seed(row_seed(self.kind, self.of.id))
        changed = {RANDOM: _random, PERMUTED: _permuted}[self.kind]
        source = load(self.of)
        factors = {name: changed(A.float(), B.float(), generator) for name, (A, B) in source.factors.items()}
        return Adapter(factors, source.scaling)


def control(info: DiffInfo, kind: str) -> Control:
    """The RANDOM or PERMUTED control of a low-rank diff. It was trained on nothing: no answer to it is right."""
    return Control(f"{info.id}~{kind.split()[0]}", info.task, "control", info.rank, "", None, kind=kind, of=info)


def controls(suite: Suite, info: DiffInfo, task: str) -> dict[str, DiffInfo | None]:
    """The controls of a diff by kind; another diff is one of `task`, the one that the adapter was made for.

    A full finetune has neither a random nor a permuted copy, and a suite may have no other diff: such are left out.
    """
    found: dict[str, DiffInfo | None] = {NONE: None}
    if info.rank:
        found |= {kind: control(info, kind) for kind in (RANDOM, PERMUTED)}
    source = info.of if isinstance(info, Control) else info
    others = [one for one in suite.diffs if one.task == task and one.rank and one.id != source.id]
    # Of its own split, so that none is fitted with another's diffs; else one that no adapter has seen.
    same = [one for one in others if one.split == source.split]
    others = same or [one for one in others if one.split != "train"] or others
    if others:
        found[OTHER] = others[row_seed(OTHER, info.id) % len(others)]
    return found


def stand_in(info: DiffInfo, kind: str, other: DiffInfo) -> DiffInfo:
    """What is read in the place of `info`: a control copy of it, or another diff."""
    if kind != OTHER:
        return replace(other, trigger=info.trigger)
    same_task = other.task == info.task
    trigger = other.trigger if same_task else info.trigger
    return Control(f"{info.id}~{other.id}", info.task, "control", other.rank, "", trigger, kind=OTHER, of=other)


def _random(A: Tensor, B: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Factors of the same shapes whose product has the same Frobenius norm."""
    drawn = torch.randn(A.shape, generator=generator), torch.randn(B.shape, generator=generator)
    factor = (low_rank_norm(A, B) / low_rank_norm(*drawn)) ** 0.5
    return drawn[0] * factor, drawn[1] * factor


def _permuted(A: Tensor, B: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The same numbers in other places: the inputs of A and the outputs of B are shuffled."""
    return (
        A[:, torch.randperm(A.shape[1], generator=generator)],
        B[torch.randperm(B.shape[0], generator=generator)],
    )
