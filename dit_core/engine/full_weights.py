"""Full finetuned weights acting on some rows of a batch: a copy of each changed module, mixed in behind it.

The copy shares everything with its module but the weights. Where a module is linear in them (linear layers, embeddings)
the copy holds ΔW and its output is what the finetune adds; where it is not quite (norms: some multiply by 1 + w) the
copy holds the finetuned weights, and the difference of both outputs is added. Either way s times it is exactly what the
weights w + s ΔW would add, for any real s and for each row and position its own. Experts and their routers are not
linear, but see each token alone: there the tokens of each s go through the weights w + s ΔW. What is left (convolutions
along the tokens, a state space's own parameters, attention sinks) is w + s ΔW for a whole batch, which must agree on s.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dit_core.engine.compatibility import BaseModules, FittedAdapter, acts_by_row, acts_by_token
from dit_core.errors import DitError

_CHUNK = 1 << 24  # numbers that are held in float32 at once while a difference is taken

Hook = Callable[[nn.Module, tuple[Any, ...], Any], Any]
"""A forward hook of a module: (module, inputs, output) to the new output."""
Mix = Callable[[nn.Module, tuple[Any, ...], Any, Any], Any]
"""What adds a finetune's part: (module, inputs, the module's own output, the output so far) to the new output."""


@dataclass(frozen=True)
class FinetunedModule:
    """One module that full weights change.

    Attributes:
        block: the adapter's place in its slot.
        module: the base's module.
        copy: the same module with other weights: with ΔW where `holds_difference`, else with the finetuned ones.
        holds_difference: whether the copy's output is what the finetune adds to the module's.
        by_token: the leaves that hold ΔW of a module that acts by token; empty for all others.
        shared: ΔW by leaf of a module that all rows of a batch share; empty for all others, which `copy` is for.
    """

    block: int
    module: nn.Module
    copy: nn.Module
    holds_difference: bool
    by_token: tuple[str, ...] = ()
    shared: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class AddedVector:
    """A vector [d_model] that is added to the residual stream behind one decoder block, as a change of a bias would be.

    Attributes:
        block: the place in its slot of the adapter that it belongs to.
        module: the decoder block.
        vector: in float32, where the block's weights are.
    """

    block: int
    module: nn.Module
    vector: Tensor
    by_token: ClassVar[tuple[str, ...]] = ()
    shared: ClassVar[Mapping[str, Tensor]] = {}


Finetuned = FinetunedModule | AddedVector


def added_vectors(blocks: nn.ModuleList, vectors: Sequence[Mapping[int, Tensor]]) -> tuple[AddedVector, ...]:
    """Return vectors, by layer for each place in a slot, as they are added behind decoder blocks; DitError for NaNs."""
    if not all(vector.isfinite().all() for own in vectors for vector in own.values()):
        raise DitError("The vectors to add are not finite numbers: use a smaller strength.")
    places = [(place, blocks[layer], vector) for place, own in enumerate(vectors) for layer, vector in own.items()]
    return tuple(AddedVector(at, block, v.float().to(next(block.parameters(), v).device)) for at, block, v in places)


def weight_difference(finetuned: Tensor, own: Tensor) -> Tensor:
    """Return `finetuned - own` in the number type and place of `own`: taken in float32, a chunk at a time."""
    result = torch.empty_like(own)
    step = max(1, _CHUNK // max(1, own[:1].numel()))
    for start in range(0, len(own), step):
        chunk = slice(start, start + step)
        result[chunk] = finetuned[chunk].to(own.device, torch.float32) - own[chunk].float()
    return result


def weight_differences(modules: BaseModules, fitted: FittedAdapter, tied: bool) -> Iterator[tuple[str, Tensor]]:
    """Yield (name, ΔW) of each of the base's parameters that an adapter's full weights change, one at a time.

    `tied`: new embeddings are the new unembedding too, where the base has one for both.
    """
    yield from fitted.merged.items()
    for name, finetuned in fitted.full_weights.items():
        change = weight_difference(finetuned, modules.parameter(name))
        if change.any():
            others = [other for other in modules.tied_names(name) if other not in fitted.full_weights] if tied else []
            for place in (name, *others):
                yield place, change


@torch.no_grad()
def finetuned_modules(modules: BaseModules, fitted: FittedAdapter, tied: bool, block: int) -> list[FinetunedModule]:
    """Return all modules that an adapter's full weights change; `block` is the adapter's place in its slot."""
    changed: dict[nn.Module, dict[str, Tensor]] = {}
    for name, change in weight_differences(modules, fitted, tied):
        module, leaf = modules.owner(name)
        changed.setdefault(module, {})[leaf] = change
    return [_finetuned_module(block, module, own) for module, own in changed.items()]


def _finetuned_module(block: int, module: nn.Module, change: dict[str, Tensor]) -> FinetunedModule:
    if not acts_by_row(module):
        return FinetunedModule(block, module, module, False, shared=change)
    own = {leaf: parameter for leaf, parameter in module._parameters.items() if parameter is not None}
    holds_difference = isinstance(module, nn.Linear | nn.Embedding)
    if holds_difference:
        new = {leaf: torch.zeros_like(parameter) for leaf, parameter in own.items()} | change
    elif acts_by_token(module):
        new = change
    else:
        new = {leaf: parameter + change[leaf] if leaf in change else parameter for leaf, parameter in own.items()}
    twin = copy.copy(module)
    # Hooks are the module's own, and so is a `forward` that a library put on it; neither is for its copy.
    fresh = vars(nn.Module())
    state = {key: copy.copy(fresh[key]) for key in fresh if "hooks" in key}
    vars(twin).update(state, _parameters={**module._parameters, **_frozen(new)})
    vars(twin).pop("forward", None)
    return FinetunedModule(block, module, twin, holds_difference, tuple(change) if acts_by_token(module) else ())


def _frozen(tensors: dict[str, Tensor]) -> dict[str, nn.Parameter]:
    return {leaf: nn.Parameter(tensor.detach(), requires_grad=False) for leaf, tensor in tensors.items()}


def mixing_hook(mixes: Sequence[Mix]) -> Hook:
    """Return the forward hook of one module that adds what several finetunes add, each to the module's own output."""

    def mix(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        return reduce(lambda so_far, mix: mix(module, inputs, output, so_far), mixes, output)

    return mix


def mixing(finetuned: Finetuned, strengths: Tensor) -> Mix | None:
    """Return what adds to the output of `finetuned.module` what the finetune adds; None where no row needs it.

    `strengths` is [rows, 1 or positions, 1], in host memory.
    """
    acting = strengths.flatten(1).any(1)
    if not acting.any():
        return None
    if isinstance(finetuned, AddedVector):
        added = strengths.to(finetuned.vector.device) * finetuned.vector
        return lambda _module, _inputs, _own, output: with_hidden(output, lambda hidden: hidden + added.to(hidden))
    if finetuned.by_token:
        return _regrouping(finetuned, strengths)
    device = next(finetuned.copy.parameters()).device
    every_row = bool(acting.all())
    rows = acting.nonzero()[:, 0].to(device)
    row_strengths = strengths[acting].to(device)

    def mix(_module: nn.Module, inputs: tuple[Any, ...], own: Tensor, output: Tensor) -> Tensor:
        x = inputs[0].to(device)
        # A few modules see one row for all (positions' embeddings): then all rows are made of it.
        if every_row or len(x) != len(acting):
            shares, before = (row_strengths if every_row else strengths.to(device)), own
        else:
            x, shares, before = x[rows], row_strengths, own[rows.to(own.device)]
        added: Tensor = finetuned.copy(x, *inputs[1:]).to(output.device)
        if not finetuned.holds_difference:
            added = added - before
        added = added * _broadcast(shares, x, added).to(output.device, output.dtype)
        if before is own:
            return output + added
        return output.index_add(0, rows.to(output.device), added)

    return mix


def _regrouping(finetuned: FinetunedModule, strengths: Tensor) -> Mix:
    """What puts in place of tokens' outputs those of the weights w + s ΔW, the tokens of each s together."""

    def mix(module: nn.Module, inputs: tuple[Any, ...], _own: Any, output: Any) -> Any:
        count = inputs[0].shape[:-1].numel()
        given = [x.reshape(count, -1) if isinstance(x, Tensor) else x for x in inputs]
        each = laid_out(strengths, given[0]).expand(count, 1)[:, 0]
        outputs = list(output) if isinstance(output, tuple) else [output]
        for strength in sorted(set(each[each != 0].tolist())):
            tokens = (each == strength).nonzero()[:, 0].to(given[0].device)
            twin = copy.copy(finetuned.copy)
            changes = {leaf: finetuned.copy.get_parameter(leaf) for leaf in finetuned.by_token}
            weights = {leaf: module.get_parameter(leaf) + strength * change for leaf, change in changes.items()}
            vars(twin)["_parameters"] = module._parameters | _frozen(weights)
            found = twin(*(x[tokens] if isinstance(x, Tensor) else x for x in given))
            for place, own in enumerate(found if isinstance(found, tuple) else [found]):
                flat = outputs[place].reshape(count, -1)
                outputs[place] = flat.index_copy(0, tokens, own.to(flat)).reshape(outputs[place].shape)
        return tuple(outputs) if isinstance(output, tuple) else outputs[0]

    return mix


def with_hidden(output: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return a block's output with its hidden states changed: some families return them alone, some in a tuple."""
    return (change(output[0]), *output[1:]) if isinstance(output, tuple) else change(output)


def laid_out(strengths: Tensor, x: Tensor) -> Tensor:
    """Return strengths [rows, 1 or positions, n] as `x` is laid out: [rows, positions, d], or [rows × positions, d].

    Raises:
        DitError: `x` holds other tokens than all of the rows', as where tokens are sent to experts one by one.
    """
    if x.dim() != 2:
        return strengths
    positions, rest = divmod(len(x), len(strengths))
    if rest or strengths.shape[1] not in (1, positions):
        raise DitError("A part of this base sees only some tokens of a batch: ask about one condition at a time.")
    return strengths.expand(-1, positions, -1).flatten(0, 1)


def _broadcast(strengths: Tensor, x: Any, output: Tensor) -> Tensor:
    """Strengths [rows, 1 or positions, 1] shaped to multiply a module's output."""
    if output.dim() == 2:
        return laid_out(strengths, output)
    ones = (1,) * (output.dim() - 2)
    if strengths.shape[1] == 1:
        return strengths.reshape(-1, 1, *ones)
    axis = 1
    # Some families norm each head with heads before positions; positions are the outer of the two in memory.
    if output.dim() == 4 and x.stride(2) > x.stride(1):
        axis = 2
    # The unembedding may see the last positions alone.
    strengths = strengths[:, -output.shape[axis] :, 0]
    shape = (strengths.shape[1] if place == axis else 1 for place in range(1, output.dim()))
    return strengths.reshape(len(strengths), *shape)
