"""How much of every adapter acts on each row and position: PEFT's `scaling` as a tensor, for a while.

A context manager over PEFT layers. `Model.strengths` makes it; generation moves it along the positions.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dit_core.engine.full_weights import FinetunedModule, mixing_hook
from dit_core.errors import DitError

_LAYER = re.compile(r"(?:^|\.)(\d+)\.")


class MaskedLinear(nn.Linear):
    """`lora_A` of a slot: its output is multiplied by `mask` where one is set ([rows, 1 or positions, rank])."""

    # A class attribute, so that a mask is never saved or moved with the weights.
    mask: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(x)
        return out if self.mask is None else out * self.mask


@dataclass(frozen=True)
class Slot:
    """One attached slot: its PEFT layers by name and, for each, the (rank, scaling) of every block.

    A slot of one block is scaled by PEFT itself; the blocks of a larger one by a mask behind `lora_A`. Where adapters
    have whole weights, `twins` are those of the modules that they change.
    """

    blocks: int
    layers: dict[str, Any]
    parts: dict[str, tuple[tuple[int, float], ...]]
    twins: tuple[FinetunedModule, ...] = ()


class Strengths:
    """Adapters acting with the given strengths while the context is open; all as before when it closes.

    `tensors[slot]` is [rows, 1 or positions, blocks], or has a last dimension of layers. Slots whose strengths are
    all zero are not computed. `held` is a list of one place, shared by all contexts of a model, for the one that acts
    now: a context opened inside another takes its place until it closes.
    """

    def __init__(self, slots: dict[str, Slot], tensors: dict[str, Tensor], dtype: torch.dtype, held: list):
        self._slots = slots
        # Kept in host memory: which slots act is decided at every window, without waiting for a device.
        self._tensors = {slot: tensor.detach().float().cpu() for slot, tensor in tensors.items()}
        self._dtype = dtype
        self._held = held
        self._outer: list[Strengths | None] = []
        self._undo: list[tuple[dict, dict]] = []
        self._handles: list[Any] = []
        self._window: tuple[int, int] | None = None
        self._make_plan()

    @property
    def by_position(self) -> bool:
        """Whether any strength differs by position, so that `at` matters."""
        return any(tensor.shape[1] > 1 for tensor in self._tensors.values())

    def at(self, start: int, stop: int) -> None:
        """Makes the context stand for positions start..stop-1; the last position given goes on for ever."""
        if self.by_position and self._window != (start, stop):
            self._window = (start, stop)
            self._make_plan()

    def keep(self, rows: Sequence[int]) -> None:
        """Drops all rows but these, in this order."""
        self._tensors = {slot: tensor[list(rows)] for slot, tensor in self._tensors.items()}
        self._make_plan()

    def __enter__(self) -> "Strengths":
        outer = self._held[0]
        if outer is not None:
            outer._off()
        self._outer.append(outer)
        self._held[0] = self
        try:
            self._on()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._off()
        outer = self._held[0] = self._outer.pop()
        if outer is not None:
            outer._on()

    def _make_plan(self) -> None:
        self._plan, self._hooks = self._planned(), self._hooked()

    def _hooked(self) -> list[tuple[nn.Module, Callable]]:
        """The modules that whole weights change for some row, with what mixes those in."""
        found = []
        for name, slot in self._slots.items():
            tensor = self._current(self._tensors[name]) if slot.twins else None
            hooks = ((twin, mixing_hook(twin, tensor[:, :, twin.block, None])) for twin in slot.twins)
            found += [(twin.module, mix) for twin, mix in hooks if mix]
        return found

    def _planned(self) -> list[tuple[Any, list[str], dict[str, Tensor], list[tuple[MaskedLinear, Tensor]]]]:
        """What to set on each layer: the acting slots, PEFT's scalings and the blocks' masks."""
        plan: dict[int, tuple[Any, list, dict, list]] = {}
        made: dict[tuple, Tensor] = {}
        for name, slot in self._slots.items():
            tensor = self._current(self._tensors[name])
            if not tensor.any():
                continue
            for path, layer in slot.layers.items():
                parts, number = slot.parts[path], None if tensor.dim() == 3 else _checked_layer(path)
                here = tensor if number is None else tensor[..., number]
                if not here.any():
                    continue
                device = layer.lora_A[name].weight.device
                # Layers mostly share ranks and scalings, and then the tensor too.
                key = (name, number, parts if slot.blocks > 1 else parts[0][1], device)
                if key not in made:
                    made[key] = _spread(here, parts).to(device, self._dtype)
                _, active, scalings, masks = plan.setdefault(id(layer), (layer, [], {}, []))
                active.append(name)
                if slot.blocks > 1:
                    masks.append((layer.lora_A[name], made[key]))
                else:
                    scalings[name] = made[key]
        return list(plan.values())

    def _current(self, tensor: Tensor) -> Tensor:
        """The strengths of the window's positions."""
        if self._window is None or tensor.shape[1] == 1:
            return tensor
        positions = torch.arange(*self._window).clamp(max=tensor.shape[1] - 1)
        return tensor[:, positions]

    def _on(self) -> None:
        # Through the layers' dictionaries: this runs for every layer at every token, and PEFT's own setters
        # walk over `requires_grad` of all adapters, a module's over its registries.
        for layer, active, scalings, masks in self._plan:
            state = vars(layer)
            before = {key: state[key] for key in ("_active_adapter", "_disable_adapters")}
            scaling = layer.scaling
            self._undo.append((state, before))
            self._undo.append((scaling, {slot: scaling[slot] for slot in scalings}))
            state["_active_adapter"], state["_disable_adapters"] = active, False
            scaling.update(scalings)
            for linear, mask in masks:
                self._undo.append((vars(linear), {"mask": linear.mask}))
                vars(linear)["mask"] = mask
        self._handles = [module.register_forward_hook(mix) for module, mix in self._hooks]

    def _off(self) -> None:
        while self._handles:
            self._handles.pop().remove()
        while self._undo:
            state, before = self._undo.pop()
            state.update(before)


def layer_of(path: str) -> int | None:
    """The number of the layer that a module lies in, by its name; None for one outside of all layers."""
    found = _LAYER.search(path)
    return int(found[1]) if found else None


def _checked_layer(path: str) -> int:
    layer = layer_of(path)
    if layer is None:
        raise DitError(f"'{path}' lies in no layer, so this adapter can't act on some layers only.")
    return layer


def _spread(tensor: Tensor, parts: tuple[tuple[int, float], ...]) -> Tensor:
    """Strengths [rows, positions, blocks] times scalings: one column for one block, else one per rank."""
    if len(parts) == 1:
        return tensor * parts[0][1]
    columns = [block for block, (rank, _) in enumerate(parts) for _ in range(rank)]
    return tensor[..., columns] * torch.tensor([parts[block][1] for block in columns])
