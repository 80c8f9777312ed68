"""Whole finetuned weights acting on some rows of a batch: a twin of each changed module, mixed in behind it.

A twin shares everything with its module but the weights. Where a module is linear in them (linear layers, embeddings)
the twin holds ΔW and its output is what the finetune adds; where it is not quite (norms: some multiply by 1 + w) the
twin holds the finetuned weights, and the difference of both outputs is added. Either way s times it is exactly what the
weights w + s ΔW would add, for any real s and for each row and position its own.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dit_core.engine.compatibility import BaseModules, FittedAdapter

_CHUNK = 1 << 24  # numbers that are held in float32 at once while a difference is taken


@dataclass(frozen=True)
class FinetunedModule:
    """One changed module. `adds` says that the twin's output is what is added; else it takes the module's place."""

    block: int
    module: nn.Module
    twin: nn.Module
    adds: bool


def weight_difference(finetuned: Tensor, own: Tensor) -> Tensor:
    """`finetuned - own` as `own` is stored: taken in float32, a part at a time."""
    found = torch.empty_like(own)
    step = max(1, _CHUNK // max(1, own[:1].numel()))
    for start in range(0, len(own), step):
        part = slice(start, start + step)
        found[part] = finetuned[part].to(own.device, torch.float32) - own[part].float()
    return found


def weight_differences(parts: BaseModules, fit: FittedAdapter, tied: bool) -> Iterator[tuple[str, Tensor]]:
    """Each of the base's parameters that an adapter's whole weights change, by name, with ΔW; one at a time.

    `tied`: new embeddings are the new unembedding too, where the base has one for both.
    """
    for name, finetuned in fit.full_weights.items():
        change = weight_difference(finetuned, parts.parameter(name))
        if change.any():
            others = [other for other in parts.tied_names(name) if other not in fit.full_weights] if tied else []
            for place in (name, *others):
                yield place, change


@torch.no_grad()
def finetuned_modules(parts: BaseModules, fit: FittedAdapter, tied: bool, block: int) -> list[FinetunedModule]:
    """The twins of all modules that an adapter's whole weights change; `block` is the adapter's place in its slot."""
    changed: dict[nn.Module, dict[str, Tensor]] = {}
    for name, change in weight_differences(parts, fit, tied):
        module, leaf = parts.owners[name]
        changed.setdefault(module, {})[leaf] = change
    return [_twin(block, module, own) for module, own in changed.items()]


def _twin(block: int, module: nn.Module, change: dict[str, Tensor]) -> FinetunedModule:
    own = {leaf: parameter for leaf, parameter in module._parameters.items() if parameter is not None}
    adds = isinstance(module, nn.Linear | nn.Embedding)
    if adds:
        new = {leaf: change.get(leaf, torch.zeros_like(parameter)) for leaf, parameter in own.items()}
    else:
        new = {leaf: parameter + change[leaf] if leaf in change else parameter for leaf, parameter in own.items()}
    twin = copy.copy(module)
    # Hooks are the module's own, and so is a `forward` that a library put on it; neither is for its twin.
    fresh = vars(nn.Module())
    state = {key: copy.copy(fresh[key]) for key in fresh if "hooks" in key}
    vars(twin).update(state, _parameters={**module._parameters, **_frozen(new)})
    vars(twin).pop("forward", None)
    return FinetunedModule(block, module, twin, adds)


def _frozen(tensors: dict[str, Tensor]) -> dict[str, nn.Parameter]:
    return {leaf: nn.Parameter(tensor.detach(), requires_grad=False) for leaf, tensor in tensors.items()}


def mixing_hook(twin: FinetunedModule, strengths: Tensor) -> Callable[..., Tensor] | None:
    """A forward hook for `twin.module` that mixes the twin in; None where no row needs it.

    `strengths` is [rows, 1 or positions, 1], in host memory.
    """
    acting = strengths.flatten(1).any(1)
    if not acting.any():
        return None
    device = next(twin.twin.parameters()).device
    rows = None if acting.all() else acting.nonzero()[:, 0].to(device)
    shares = strengths[acting].to(device)

    def mix(_module: nn.Module, inputs: tuple, out: Tensor) -> Tensor:
        x = inputs[0].to(device)
        # A few modules see one row for all (positions' embeddings): then all rows are made of it.
        if rows is None or len(x) != len(acting):
            some, before = (shares if rows is None else strengths.to(device)), out
        else:
            x, some, before = x[rows], shares, out[rows.to(out.device)]
        added = twin.twin(x, *inputs[1:]).to(out.device)
        if not twin.adds:
            added = added - before
        added = added * _over(some, x, added).to(out.device, out.dtype)
        if before is out:
            return out + added
        return out.index_add(0, rows.to(out.device), added)

    return mix


def _over(strengths: Tensor, x: Any, out: Tensor) -> Tensor:
    """Strengths [rows, 1 or positions, 1] shaped to multiply a module's output."""
    ones = (1,) * (out.dim() - 2)
    if strengths.shape[1] == 1:
        return strengths.reshape(-1, 1, *ones)
    axis = 1
    # Some families norm each head with heads before positions; positions are the outer of the two in memory.
    if out.dim() == 4 and x.stride(2) > x.stride(1):
        axis = 2
    # The unembedding may see the last positions alone.
    strengths = strengths[:, -out.shape[axis] :, 0]
    return strengths.reshape(len(strengths), *(strengths.shape[1] if at == axis else 1 for at in range(1, out.dim())))
