"""A base with adapters attached through PEFT, and how much of each acts on each row of a batch.

PEFT multiplies an adapter's output by `scaling[name]`. A tensor of shape [rows, 1, 1] there gives every
row its own strength, [rows, positions, 1] every token its own. Several low-rank diffs share one slot by
standing side by side along the rank, each row masked to its own blocks between `lora_A` and `lora_B`. Whole
finetuned weights act by row too, as twins of the modules that they change.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from dit_core.engine.compatibility import BaseModules
from dit_core.engine.full_weights import finetuned_modules, weight_differences
from dit_core.engine.strengths import MaskedLinear, Slot, Strengths
from dit_core.errors import DitError, did_you_mean
from dit_core.formats import Adapter


class Model:
    """A base (a transformers causal LM, never changed) with named slots for adapters.

    Outside `strengths(...)` no adapter acts: logits are the plain base's, bit for bit.
    Not safe for several threads at once: let one `Worker` own it.
    """

    def __init__(self, base: nn.Module, tokenizer: Any = None):
        self.base = base.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.layers_path, self.layers = _decoder_blocks(base)
        self.base_modules = BaseModules(base)
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

    def encode(self, text: str) -> list[int]:
        """Token ids of one user message through the chat template, without thinking."""
        ids = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": text}],
            add_generation_prompt=True,
            enable_thinking=False,
            tokenize=True,
            return_dict=False,
        )
        return list(ids)

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Each token as text of its own, as near to how it reads in place as the tokenizer can say."""
        return [self.tokenizer.decode([token], clean_up_tokenization_spaces=False) for token in ids]

    def unembed(self, hidden: Tensor) -> Tensor:
        """What the base would say next if `hidden` [..., d_model] were its last layer's output: [..., vocabulary].

        The logit lens: final norm, unembedding and, where a family has one, its cap on logits.
        """
        with torch.inference_mode():
            logits = self.base.get_output_embeddings()(self._final_norm(hidden.to(self.device, self.dtype))).float()
        cap = getattr(self.base.config.get_text_config(), "final_logit_softcapping", None)
        return cap * torch.tanh(logits / cap) if cap else logits

    @property
    def _final_norm(self) -> nn.Module:
        """The norm behind the last block: the last of the blocks' neighbours with one weight per hidden number."""
        around = self.base.get_submodule(self.layers_path.rpartition(".")[0])
        width = self.base.config.get_text_config().hidden_size
        norms = [m for m in around.children() if getattr(getattr(m, "weight", None), "shape", None) == (width,)]
        if not norms:
            raise DitError("The base has no final norm beside its blocks, which the logit lens needs: choose another.")
        return norms[-1]

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
        fits = [self.base_modules.fit(adapter) for adapter in adapters]
        names = list(dict.fromkeys(name for fit in fits for name in fit.low_rank))
        layers = self._wrapped(slot, names)
        parts = {}
        for name, layer in layers.items():
            present = [fit.low_rank.get(name) for fit in fits]
            found = [part for part in present if part]
            _place(layer, slot, torch.cat([A for A, _, _ in found]), torch.cat([B for _, B, _ in found], dim=1))
            parts[name] = tuple((part[0].shape[0], part[2]) if part else (0, 0.0) for part in present)
            # One adapter's scaling is PEFT's own; the blocks' scalings differ and go into their masks.
            scaling = found[0][2] if len(adapters) == 1 else 1.0
            layer.scaling[slot] = scaling
            layer.lora_alpha[slot] = scaling * layer.r[slot]
        if slot in self._slots:  # the twins of before go first: two sets of whole weights may not fit into memory
            self._slots[slot] = replace(self._slots[slot], twins=())
        whole = [
            finetuned_modules(self.base_modules, fit, adapter.tied, at)
            for at, (fit, adapter) in enumerate(zip(fits, adapters, strict=True))
        ]
        self._slots[slot] = Slot(len(adapters), layers, parts, tuple(twin for one in whole for twin in one))

    def detach(self, slot: str) -> None:
        """Takes a slot's tensors off the model; PEFT's wrappers stay on its layers, for other slots.

        Raises DitError while strengths act.
        """
        from peft.tuners.lora import LoraLayer

        if self._held[0] is not None:
            raise DitError("Adapters can't be detached while strengths act: leave their context first.")
        self._slots.pop(slot, None)
        getattr(self.base, "peft_config", {}).pop(slot, None)
        for module in self.base.modules():
            if isinstance(module, LoraLayer):
                module.delete_adapter(slot)

    def differences(self, adapter: Adapter) -> Iterator[tuple[str, Tensor]]:
        """Each parameter of the base that an adapter's whole weights change, by name, with its ΔW; one at a time."""
        return weight_differences(self.base_modules, self.base_modules.fit(adapter), tied=False)

    def strengths(self, strengths: Mapping[str, Tensor]) -> Strengths:
        """A context in which adapters act: `{slot: tensor}`, slots that are not named act with 0.

        A tensor is [rows, 1, 1] or [rows, positions, 1]; for a slot of several blocks [rows, 1 or positions,
        blocks]. With a last dimension more, of the base's layers, every layer has strengths of its own, which neither
        whole weights nor modules outside of the layers can have. Leaving the context, also by an exception, puts
        everything back. It can be entered again.
        """
        rows = {tensor.shape[0] for tensor in strengths.values()}
        if len(rows) > 1:
            raise DitError(f"Strengths must agree on the number of rows, and have {sorted(rows)}.")
        for slot, tensor in strengths.items():
            if slot not in self._slots:
                raise DitError(f"No adapter is attached to '{slot}'.{did_you_mean(slot, self._slots)}")
            blocks, by_layer = self._slots[slot].blocks, (len(self.layers),) * (not self._slots[slot].twins)
            if tensor.dim() < 3 or tensor.shape[2] != blocks or tensor.shape[3:] not in ((), by_layer):
                shape = f"[rows, 1 or positions, {blocks}]"
                raise DitError(f"Strengths of '{slot}' must have the shape {shape}, not {list(tensor.shape)}.")
            if not tensor.isfinite().all():
                raise DitError(f"Strengths of '{slot}' must be finite numbers.")
        return Strengths({slot: self._slots[slot] for slot in strengths}, dict(strengths), self.dtype, self._held)

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
