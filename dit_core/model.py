"""A base with adapters attached through PEFT, and how much of each acts on each row of a batch.

PEFT multiplies an adapter's output by `scaling[name]`. A tensor of shape [rows, 1, 1] there gives every
row its own strength, [rows, positions, 1] every token its own. Several low-rank diffs share one slot by
standing side by side along the rank, each row masked to its own blocks between `lora_A` and `lora_B`.
"""

import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dit_core.errors import DitError, did_you_mean
from dit_core.formats import Adapter
from dit_core.strengths import MaskedLinear, Slot, Strengths

# What may stand before the blocks in a text model's module names, whatever the wrapper and its version.
_TEXT_PREFIXES = {"model", "language_model"}


class Model:
    """A base (a transformers causal LM, never changed) with named slots for adapters.

    Outside `strengths(...)` no adapter acts: logits are the plain base's, bit for bit.
    Not safe for several threads at once: let one `Worker` own it.
    """

    def __init__(self, base: nn.Module, tokenizer: Any = None):
        self.base = base.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.layers_path, self.layers = _decoder_blocks(base)
        self._linears = {name: m for name, m in base.named_modules() if isinstance(m, nn.Linear)}
        self._slots: dict[str, Slot] = {}
        self._held: list[Strengths | None] = [None]

    @property
    def device(self) -> torch.device:
        """Where the base's embeddings are, and so the tokens go."""
        return self.base.get_input_embeddings().weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The base's number type; adapters are cast to it."""
        return self.base.get_input_embeddings().weight.dtype

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the slots attached so far."""
        return tuple(self._slots)

    @property
    def end_tokens(self) -> frozenset[int]:
        """Ids that end a turn: the generation config's and the tokenizer's."""
        config = getattr(self.base, "generation_config", None) or self.base.config
        found = getattr(config, "eos_token_id", None)
        ids = set(found if isinstance(found, list | tuple) else [found])
        ids.add(getattr(self.tokenizer, "eos_token_id", None))
        return frozenset(ids - {None})

    def attach(self, slot: str, adapter: Adapter) -> None:
        """Puts `adapter` into `slot`. What was there is overwritten; the base's layers are wrapped only once.

        Raises DitError, and leaves the model as it was, where the adapter does not fit the base.
        """
        self.attach_block(slot, [adapter])

    def attach_block(self, slot: str, adapters: Sequence[Adapter]) -> None:
        """Puts several adapters into one slot, side by side along the rank; `strengths` takes a column for each.

        Raises DitError, and leaves the model as it was, where one does not fit the base.
        """
        if self._held[0] is not None:
            raise DitError("Adapters can't be attached while strengths act: leave their context first.")
        if not adapters:
            raise DitError(f"There is nothing to attach to '{slot}': give at least one adapter.")
        if not slot or "." in slot:
            raise DitError(f"'{slot}' can't name a slot: use letters, digits and dashes, and no dots.")
        located = [self._locate(adapter) for adapter in adapters]
        names = list(dict.fromkeys(name for one in located for name in one))
        layers = self._wrapped(slot, names)
        parts = {}
        for name, layer in layers.items():
            present = [one.get(name) for one in located]
            found = [part for part in present if part]
            _place(layer, slot, torch.cat([A for A, _, _ in found]), torch.cat([B for _, B, _ in found], dim=1))
            parts[name] = tuple((part[0].shape[0], part[2]) if part else (0, 0.0) for part in present)
            # One adapter's scaling is PEFT's own; the blocks' scalings differ and go into their masks.
            scaling = found[0][2] if len(adapters) == 1 else 1.0
            layer.scaling[slot] = scaling
            layer.lora_alpha[slot] = scaling * layer.r[slot]
        self._slots[slot] = Slot(len(adapters), layers, parts)

    def strengths(self, strengths: Mapping[str, Tensor]) -> Strengths:
        """A context in which adapters act: `{slot: tensor}`, slots that are not named act with 0.

        A tensor is [rows, 1, 1] or [rows, positions, 1]; for a slot of several blocks [rows, 1 or positions,
        blocks]. Leaving the context, also by an exception, puts everything back. It can be entered again.
        """
        rows = {tensor.shape[0] for tensor in strengths.values()}
        if len(rows) > 1:
            raise DitError(f"Strengths must agree on the number of rows, and have {sorted(rows)}.")
        for slot, tensor in strengths.items():
            if slot not in self._slots:
                raise DitError(f"No adapter is attached to '{slot}'.{did_you_mean(slot, self._slots)}")
            blocks = self._slots[slot].blocks
            if tensor.dim() != 3 or tensor.shape[2] != blocks:
                shape = f"[rows, 1 or positions, {blocks}]"
                raise DitError(f"Strengths of '{slot}' must have the shape {shape}, not {list(tensor.shape)}.")
            if not tensor.isfinite().all():
                raise DitError(f"Strengths of '{slot}' must be finite numbers.")
        return Strengths({slot: self._slots[slot] for slot in strengths}, dict(strengths), self.dtype, self._held)

    def _locate(self, adapter: Adapter) -> dict[str, tuple[Tensor, Tensor, float]]:
        """The adapter's factors and scaling by the base's own module names, or the first misfit."""
        found = {}
        for name, (A, B) in adapter.factors.items():
            own = self._own_name(name)
            layer = self._linears.get(own)
            if layer is None:
                raise DitError(f"The adapter does not fit the base, which has no linear layer '{name}': pick another.")
            fits = (layer.in_features, layer.out_features)
            if (A.shape[1], B.shape[0]) != fits:
                raise DitError(
                    f"The adapter does not fit the base: '{name}' maps {fits[0]} to {fits[1]} numbers, "
                    f"the adapter {A.shape[1]} to {B.shape[0]}; pick an adapter made for this base."
                )
            found[own] = (A, B, adapter.scaling[name])
        return found

    def _own_name(self, name: str) -> str:
        """A canonical module name as this base calls it: multimodal wrappers put more before the blocks."""
        if name in self._linears:
            return name
        blocks = self.layers_path.rsplit(".", 1)[-1]
        match = re.match(rf"(?:(?P<prefix>.*)\.)?{re.escape(blocks)}\.(?P<rest>\d+\..+)$", name)
        # A vision tower has blocks of its own: only names that can mean the text model are moved.
        if match and set((match["prefix"] or "model").split(".")) <= _TEXT_PREFIXES:
            return f"{self.layers_path}.{match['rest']}"
        return name

    def _wrapped(self, slot: str, names: list[str]) -> dict[str, Any]:
        """PEFT's layers for `names`, each with a place for `slot`; makes those that are not there yet."""
        from peft import LoraConfig, inject_adapter_in_model
        from peft.tuners.lora import LoraLayer

        def missing() -> list[str]:
            modules = ((name, self.base.get_submodule(name)) for name in names)
            return [name for name, m in modules if not (isinstance(m, LoraLayer) and slot in m.lora_A)]

        if lacking := missing():
            # Created without memory ("meta"): `_place` gives every one its real factors.
            config = LoraConfig(r=1, lora_alpha=1, target_modules=lacking, inference_mode=True)
            with warnings.catch_warnings():
                # PEFT warns of a second adapter on a model, which is the point here.
                warnings.filterwarnings("ignore", message="Already found a `peft_config`")
                inject_adapter_in_model(config, self.base, adapter_name=slot, low_cpu_mem_usage=True)
            self.base.eval()
            # Injection switches its adapter on everywhere; at rest all of them are off.
            for module in self.base.modules():
                if isinstance(module, LoraLayer):
                    module.set_adapter([], inference_mode=True)
                    module.enable_adapters(False)
        return {name: self.base.get_submodule(name) for name in names}


def _place(layer: Any, slot: str, A: Tensor, B: Tensor) -> None:
    """Puts factors into a PEFT layer's slot: copied where the shapes are those already there."""
    for factors, kind, factor in ((layer.lora_A, MaskedLinear, A), (layer.lora_B, nn.Linear, B)):
        there = factors[slot].weight
        if there.shape == factor.shape and there.device.type != "meta":
            there.copy_(factor)
            continue
        linear = kind(factor.shape[1], factor.shape[0], bias=False, device="meta")
        near = layer.get_base_layer().weight
        dtype = near.dtype if near.dtype.is_floating_point else torch.get_default_dtype()
        # A copy of its own, so that later overwriting never reaches the caller's adapter.
        linear.weight = nn.Parameter(factor.detach().clone().to(near.device, dtype), requires_grad=False)
        factors[slot] = linear.eval()
    layer.r[slot] = A.shape[0]


def _decoder_blocks(base: nn.Module) -> tuple[str, nn.ModuleList]:
    """The path and the list of the text decoder's blocks, found by structure: the longest list of modules in it."""
    decoder = base.get_decoder() if hasattr(base, "get_decoder") else base
    lists = [m for m in (decoder or base).modules() if isinstance(m, nn.ModuleList) and len(m)]
    if not lists:
        raise DitError("The base has no list of decoder blocks: choose a causal language model.")
    blocks = max(lists, key=len)
    return next(name for name, m in base.named_modules() if m is blocks), blocks
