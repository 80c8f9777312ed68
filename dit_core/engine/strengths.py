"""How much of every adapter acts on each row and position: what leaves `lora_A` times a tensor, for a while.

A context manager over PEFT layers, whose `forward` it replaces: PEFT's own checks, casts and scalings cost more than
a small model's products. `Model.strengths` makes it; generation moves it along the positions.
"""

import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dit_core.engine.full_weights import Finetuned, Hook, Mix, laid_out, mixing, mixing_hook
from dit_core.errors import DitError, MixedRowsError

_LAYER = re.compile(r"(?:^|\.)(\d+)\.")
_ABSENT = object()
# `lora_A`, `lora_B` and strengths times scaling of one slot on one layer: [rows, 1 or positions, 1 or rank].
_Acting = tuple[nn.Linear, nn.Linear, Tensor]


@dataclass(frozen=True)
class Slot:
    """One attached slot, of one adapter or of several side by side along the rank.

    Attributes:
        blocks: how many adapters stand side by side in it.
        layers: PEFT's layers by name.
        ranks: (rank, scaling) of every adapter, by the layer's name.
        finetuned: the modules that full weights of its adapters change, or the vectors that they add.
    """

    blocks: int
    layers: dict[str, Any]
    ranks: dict[str, tuple[tuple[int, float], ...]]
    finetuned: tuple[Finetuned, ...] = ()


class Strengths:
    """Adapters acting with the given strengths while the context is open; all as before when it closes.

    `tensors[slot]` is [rows, 1 or positions, blocks], or has a last dimension of layers. Slots whose strengths are
    all zero are not computed. `active` is a list of one place, shared by all contexts of a model, for the one that acts
    now: a context opened inside another takes its place until it closes.
    """

    def __init__(
        self,
        slots: dict[str, Slot],
        tensors: dict[str, Tensor],
        dtype: torch.dtype,
        active: "list[Strengths | None]",
    ):
        self._slots = slots
        # Kept in host memory: which slots act is decided at every window, without waiting for a device.
        self._tensors = {slot: tensor.detach().float().cpu() for slot, tensor in tensors.items()}
        self._dtype = dtype
        self._active = active
        self._outer: list[Strengths | None] = []
        self._undo: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self._handles: list[Any] = []
        self._window: tuple[int, int] | None = None
        self._make_plan()

    @property
    def by_position(self) -> bool:
        """Whether any strength differs by position, so that `at` matters."""
        return any(tensor.shape[1] > 1 for tensor in self._tensors.values())

    def at(self, start: int, stop: int) -> None:
        """Move the context to positions start..stop-1; the strengths of the last position given go on for ever."""
        if self.by_position and self._window != (start, stop):
            self._window = (start, stop)
            self._make_plan()

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all rows but these, in this order."""
        self._tensors = {slot: tensor[list(rows)] for slot, tensor in self._tensors.items()}
        self._make_plan()

    def __enter__(self) -> "Strengths":
        outer = self._active[0]
        if outer is not None:
            outer._off()
        self._outer.append(outer)
        self._active[0] = self
        try:
            self._on()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._off()
        outer = self._active[0] = self._outer.pop()
        if outer is not None:
            outer._on()

    def _make_plan(self) -> None:
        self._plan, self._hooks = self._layer_plans(), self._mixing_hooks()
        self._shared = self._shared_weights()

    def _mixing_hooks(self) -> list[tuple[nn.Module, Hook]]:
        """The modules that full weights change for some row, with the hooks that mix those in."""
        mixes: dict[nn.Module, list[Mix]] = {}
        regrouped: dict[nn.Module, Tensor] = {}
        for name, slot in self._slots.items():
            for changed in slot.finetuned:
                if changed.shared:
                    continue
                strengths = self._current(self._tensors[name])[:, :, changed.block, None]
                if changed.by_token:  # each puts its output in place of the others', and does not add to them
                    acting, others = strengths != 0, regrouped.get(changed.module, torch.tensor(False))
                    if (acting & others).any():
                        raise DitError(
                            "Two diffs change the same experts: leave one out of the condition, or merge them."
                        )
                    regrouped[changed.module] = acting | others
                if mix := mixing(changed, strengths):
                    mixes.setdefault(changed.module, []).append(mix)
        return [(module, mixing_hook(own)) for module, own in mixes.items()]

    def _shared_weights(self) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Parameters of modules that all rows share, with those that take their places: w + s ΔW."""
        found: dict[int, tuple[dict[str, Any], dict[str, Any]]] = {}
        for name, slot in self._slots.items():
            for changed in slot.finetuned:
                if not changed.shared:
                    continue
                strengths = self._current(self._tensors[name][:, :, changed.block : changed.block + 1])
                if not strengths.any():
                    continue
                if strengths.numel() > 1:
                    raise MixedRowsError(
                        f"A diff changes a {type(changed.module).__name__}, which all rows of a batch share: give all "
                        "rows, and all of their tokens, the same strength of it."
                    )
                own = changed.module._parameters
                _, new = found.setdefault(id(own), (own, {}))
                for leaf, change in changed.shared.items():
                    before, part = new.get(leaf, own.get(leaf)), strengths.item() * change
                    new[leaf] = nn.Parameter(part if before is None else before + part, requires_grad=False)
        return list(found.values())

    def _layer_plans(self) -> list[tuple[Any, Callable[..., Tensor]]]:
        """The layers where some slot acts, each with the forward that it has for a while."""
        plan: dict[int, tuple[Any, list[_Acting]]] = {}
        made: dict[Hashable, Tensor] = {}
        for name, slot in self._slots.items():
            tensor = self._current(self._tensors[name])
            if not tensor.any():
                continue
            for path, layer in slot.layers.items():
                ranks, number = slot.ranks[path], None if tensor.dim() == 3 else _checked_layer(path)
                here = tensor if number is None else tensor[..., number]
                if not here.any():
                    continue
                A, B = layer.lora_A[name], layer.lora_B[name]
                # Layers mostly share ranks and scalings, and then the tensor too.
                key = (name, number, ranks, A.weight.device)
                if key not in made:
                    made[key] = _scaled(here, ranks).to(A.weight.device, self._dtype)
                plan.setdefault(id(layer), (layer, []))[1].append((A, B, made[key]))
        return [(layer, _forward(layer.base_layer, acting)) for layer, acting in plan.values()]

    def _current(self, tensor: Tensor) -> Tensor:
        """The strengths of the window's positions; one row and position where all are alike, whatever a layer sees."""
        if self._window is not None and tensor.shape[1] > 1:
            tensor = tensor[:, torch.arange(*self._window).clamp(max=tensor.shape[1] - 1)]
        first = tensor[:1, :1]
        return first if torch.equal(tensor, first.expand_as(tensor)) else tensor

    def _on(self) -> None:
        # Through the layers' dictionaries: this runs for every layer at every token, and a module's own setter walks
        # over its registries.
        for layer, forward in self._plan:
            self._put(layer.__dict__, {"forward": forward})
        for own, new in self._shared:
            self._put(own, new)
        self._handles = [module.register_forward_hook(mix) for module, mix in self._hooks]

    def _put(self, attributes: dict[str, Any], new: dict[str, Any]) -> None:
        self._undo.append((attributes, {name: attributes.get(name, _ABSENT) for name in new}))
        attributes.update(new)

    def _off(self) -> None:
        while self._handles:
            self._handles.pop().remove()
        while self._undo:
            attributes, before = self._undo.pop()
            attributes.update(before)
            for name in [name for name, value in before.items() if value is _ABSENT]:
                del attributes[name]


def _forward(base: nn.Module, acting: Sequence[_Acting]) -> Callable[..., Tensor]:
    """Return the forward of a PEFT layer over `base` to which each acting adapter adds B(A(x) * strengths)."""

    def forward(x: Tensor, *args: Any, **options: Any) -> Tensor:
        result: Tensor = base(x, *args, **options)
        for A, B, strengths in acting:
            low = A(x.to(A.weight.dtype))
            result = result + B(low * laid_out(strengths, low)).to(result.dtype)
        return result

    return forward


def layer_of(path: str) -> int | None:
    """Return the number of the layer that a module lies in, by its name; None for one outside of all layers."""
    match = _LAYER.search(path)
    return int(match[1]) if match else None


def _checked_layer(path: str) -> int:
    layer = layer_of(path)
    if layer is None:
        raise DitError(f"'{path}' lies in no layer, so this adapter can't act on some layers only.")
    return layer


def _scaled(tensor: Tensor, ranks: tuple[tuple[int, float], ...]) -> Tensor:
    """Strengths [rows, positions, blocks] times their adapters' scalings; several have a column per rank."""
    if len(ranks) == 1:
        return tensor * ranks[0][1]
    columns = [block for block, (rank, _) in enumerate(ranks) for _ in range(rank)]
    return tensor[..., columns] * torch.tensor([ranks[block][1] for block in columns])
