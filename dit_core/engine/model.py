"""A base with adapters attached through PEFT, and how much of each acts on each row of a batch.

What leaves an adapter's `lora_A` is multiplied by a tensor: of shape [rows, 1, 1] it gives every row its own
strength, of [rows, positions, 1] every token. Several low-rank diffs share one slot by standing side by side along
the rank, each row masked to its own blocks. All else acts by row as differences of weights, see `engine.full_weights`.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, lru_cache, partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from dit_core.engine.compatibility import BaseModules
from dit_core.engine.full_weights import Finetuned, added_vectors, finetuned_modules, weight_differences
from dit_core.engine.strengths import Slot, Strengths
from dit_core.errors import DitError, did_you_mean
from dit_core.formats import Adapter
from dit_core.records.chat import PLAIN_CHAT, ChatContext, encode_prompt, turn_start

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ENCODED_PROMPTS = 1024  # the last ones, whose tokens are kept


class Model:
    """A base (a transformers causal LM, never changed) with named slots for adapters.

    Outside `strengths(...)` no adapter acts: logits are the plain base's, bit for bit.
    Not safe for several threads at once: let one `Worker` own it.

    Attributes:
        base: the language model.
        tokenizer: its tokenizer, of transformers' interface.
        layers: the decoder blocks; layer l of any method is the output of `layers[l]`.
        layers_path: the name of `layers` in the base.
        base_modules: the base's linear layers and parameters by name.
    """

    def __init__(self, base: "PreTrainedModel", tokenizer: Any = None):
        _to_eval(base)
        self.base = base.requires_grad_(False)
        self.tokenizer = tokenizer
        self.layers_path, self.layers = decoder_blocks(base)
        self.base_modules = BaseModules(base)
        self._turn_start = turn_start(tokenizer)
        # The same prompts come again and again: to show their tokens, to answer them, to read them.
        self._encoded = lru_cache(maxsize=ENCODED_PROMPTS)(partial(encode_prompt, tokenizer))
        self._slots: dict[str, Slot] = {}
        self._active: list[Strengths | None] = [None]

    @property
    def device(self) -> torch.device:
        """Where the base's embeddings are, and so the tokens go."""
        return self._embeddings.device

    @property
    def dtype(self) -> torch.dtype:
        """The base's number type; adapters are cast to it."""
        return self._embeddings.dtype

    @property
    def d_model(self) -> int:
        """How many numbers a position has in the residual stream."""
        return int(self.base.config.get_text_config().hidden_size)

    @property
    def max_positions(self) -> int | None:
        """The longest input in tokens; None where the config names no limit."""
        return getattr(self.base.config.get_text_config(), "max_position_embeddings", None)

    @property
    def _embeddings(self) -> nn.Parameter:
        weight: nn.Parameter = self.base.get_input_embeddings().get_parameter("weight")
        return weight

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the slots attached so far."""
        return tuple(self._slots)

    @property
    def end_tokens(self) -> frozenset[int]:
        """Ids that end an answer: the generation config's, the tokenizer's, and the one that begins a turn.

        A finetune may have learned to begin the next turn without a word on the end of its own.
        """
        config = getattr(self.base, "generation_config", None) or self.base.config
        end = getattr(config, "eos_token_id", None)
        ids = set(end if isinstance(end, list | tuple) else [end])
        ids |= {getattr(self.tokenizer, "eos_token_id", None), self._turn_start}
        return frozenset(ids - {None})

    def encode(self, text: str, chat: ChatContext = PLAIN_CHAT) -> list[int]:
        """Return the token ids of one user message in its chat, up to where the answer begins, or goes on."""
        return list(self._encoded(text, chat))

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Return each token as text of its own, as near to how it reads in place as the tokenizer can say."""
        return [self.tokenizer.decode([token], clean_up_tokenization_spaces=False) for token in ids]

    def unembed(self, hidden: Tensor) -> Tensor:
        """Return the next-token logits [..., vocabulary] of hidden states [..., d_model] as the last layer's output.

        The logit lens, in float32: the base's own forward pass, with these in place of what its blocks give.
        """
        given = hidden.reshape(-1, 1, self.d_model).to(self.device, self.dtype)
        with torch.inference_mode(), self._blocks_that_give(given):
            logits: Tensor = self.base(
                input_ids=torch.zeros_like(given[..., 0], dtype=torch.long), use_cache=False
            ).logits
        return logits.float().reshape(*hidden.shape[:-1], -1)

    @contextmanager
    def _blocks_that_give(self, hidden: Tensor) -> Iterator[None]:
        """Every block returns `hidden`, and computes nothing, inside the context."""
        output = (hidden,) if self._blocks_give_tuples else hidden
        before = [vars(block).get("forward") for block in self.layers]
        try:
            for block in self.layers:
                vars(block)["forward"] = lambda *_args, **_options: output
            yield
        finally:
            for block, forward in zip(self.layers, before, strict=True):
                vars(block).pop("forward", None) if forward is None else vars(block).update(forward=forward)

    @cached_property
    def _blocks_give_tuples(self) -> bool:
        """Whether blocks return their hidden states in a tuple, as in some families: seen in a pass over one token."""
        seen: list[bool] = []
        handle = self.layers[0].register_forward_hook(lambda _block, _inputs, out: seen.append(isinstance(out, tuple)))
        try:
            with torch.inference_mode():
                self.base(input_ids=torch.zeros(1, 1, dtype=torch.long, device=self.device), use_cache=False)
        finally:
            handle.remove()
        return seen[0]

    def attach(self, slot: str, adapter: Adapter) -> None:
        """Put `adapter` into `slot`. What was there is overwritten; the base's layers are wrapped only once.

        Raises:
            DitError: the adapter does not fit the base, or strengths act. The model is left as it was.
        """
        self.attach_block(slot, [adapter])

    def attach_block(self, slot: str, adapters: Sequence[Adapter]) -> None:
        """Put several adapters into one slot, side by side along the rank; `strengths` takes a column for each.

        Raises:
            DitError: an adapter does not fit the base, none is given, the slot's name is no name, or strengths act. The
                model is left as it was.
        """
        if self._active[0] is not None:
            raise DitError("Adapters can't be attached while strengths act: leave their context first.")
        if not adapters:
            raise DitError(f"There is nothing to attach to '{slot}': give at least one adapter.")
        if not slot or "." in slot:
            raise DitError(f"'{slot}' can't name a slot: use letters, digits and dashes, and no dots.")
        fits = [self.base_modules.fit(adapter) for adapter in adapters]
        names = list(dict.fromkeys(name for fit in fits for name in fit.low_rank))
        layers = self._wrapped(slot, names)
        blocks = {}
        for name, layer in layers.items():
            factors = [fit.low_rank.get(name) for fit in fits]
            present = [own for own in factors if own]
            _set_factors(layer, slot, torch.cat([A for A, _, _ in present]), torch.cat([B for _, B, _ in present], 1))
            blocks[name] = tuple((own[0].shape[0], own[2]) if own else (0, 0.0) for own in factors)
        if slot in self._slots:  # those of before go first: two sets of full weights may not fit into memory
            self._slots[slot] = replace(self._slots[slot], finetuned=())
        finetuned = tuple(
            module
            for block, (fit, adapter) in enumerate(zip(fits, adapters, strict=True))
            for module in finetuned_modules(self.base_modules, fit, adapter.tied, block)
        )
        self._slots[slot] = Slot(len(adapters), layers, blocks, finetuned)

    def attach_vectors(self, slot: str, vectors: Sequence[Mapping[int, Tensor]]) -> None:
        """Put vectors [d_model] into `slot`, a mapping by layer for each block: each is added behind its decoder block.

        Raises:
            DitError: a vector is not of finite numbers.
        """
        self._slots[slot] = Slot(len(vectors), {}, {}, added_vectors(self.layers, vectors))

    def detach(self, slot: str) -> None:
        """Take a slot's tensors off the model; PEFT's wrappers stay on its layers, for other slots.

        Raises:
            DitError: strengths act.
        """
        from peft.tuners.lora import LoraLayer

        if self._active[0] is not None:
            raise DitError("Adapters can't be detached while strengths act: leave their context first.")
        self._slots.pop(slot, None)
        getattr(self.base, "peft_config", {}).pop(slot, None)
        for module in self.base.modules():
            if isinstance(module, LoraLayer):
                module.delete_adapter(slot)

    def differences(self, adapter: Adapter) -> Iterator[tuple[str, Tensor]]:
        """Yield (name, ΔW) of each parameter of the base that an adapter's full weights change, one at a time.

        Raises:
            DitError: the adapter does not fit the base.
        """
        return weight_differences(self.base_modules, self.base_modules.fit(adapter), tied=False)

    def finetuned_modules(self, slot: str) -> tuple[Finetuned, ...]:
        """Return the modules that full weights of the adapters in a slot change, or the vectors that they add."""
        return self._slots[slot].finetuned

    def strengths(self, strengths: Mapping[str, Tensor]) -> Strengths:
        """Return a context in which adapters act: `{slot: tensor}`, slots that are not named act with 0.

        What each adapter adds is multiplied by a tensor, as rows (and positions) of a batch want it. Leaving the
        context, also by an exception, puts everything back. It can be entered again.

        Args:
            strengths: [rows, 1, 1] or [rows, positions, 1] for each slot; for a slot of several adapters [rows, 1 or
                positions, adapters]. With a last dimension more, of the base's layers, every layer has strengths of
                its own, which neither full weights nor modules outside of the layers can have.

        Raises:
            DitError: a slot has no adapter, or a tensor has another shape or is not finite.
        """
        rows = {tensor.shape[0] for tensor in strengths.values()}
        if len(rows) > 1:
            raise DitError(f"Strengths must agree on the number of rows, and have {sorted(rows)}.")
        for slot, tensor in strengths.items():
            if slot not in self._slots:
                raise DitError(f"No adapter is attached to '{slot}'.{did_you_mean(slot, self._slots)}")
            blocks, by_layer = self._slots[slot].blocks, (len(self.layers),)
            shapes = [()] if self._slots[slot].finetuned else [(), by_layer]
            if tensor.dim() < 3 or tensor.shape[2] != blocks or tensor.shape[3:] not in shapes:
                shape = f"[rows, 1 or positions, {blocks}]"
                raise DitError(f"Strengths of '{slot}' must have the shape {shape}, not {list(tensor.shape)}.")
            if not tensor.isfinite().all():
                raise DitError(f"Strengths of '{slot}' must be finite numbers.")
        return Strengths({slot: self._slots[slot] for slot in strengths}, dict(strengths), self.dtype, self._active)

    def _wrapped(self, slot: str, names: list[str]) -> dict[str, Any]:
        """Return PEFT's layers for `names`, each with a place for `slot`; wraps those that are not wrapped yet."""
        from peft import LoraConfig, inject_adapter_in_model
        from peft.tuners.lora import LoraLayer

        def missing() -> list[str]:
            modules = ((name, self.base.get_submodule(name)) for name in names)
            return [name for name, m in modules if not (isinstance(m, LoraLayer) and slot in m.lora_A)]

        if unwrapped := missing():
            # Created without memory ("meta"): `_set_factors` gives every one its real factors.
            config = LoraConfig(r=1, lora_alpha=1, target_modules=unwrapped, inference_mode=True)
            with warnings.catch_warnings():
                # A second adapter on a model is the point here.
                warnings.filterwarnings("ignore", message="Already found a `peft_config`|fan_in_fan_out is set")
                inject_adapter_in_model(config, self.base, adapter_name=slot, low_cpu_mem_usage=True)
            _to_eval(self.base)
            # Injection switches its adapter on everywhere; at rest all of them are off.
            for module in self.base.modules():
                if isinstance(module, LoraLayer):
                    module.set_adapter([], inference_mode=True)
                    module.enable_adapters(False)
        return {name: self.base.get_submodule(name) for name in names}


def _to_eval(base: "PreTrainedModel") -> None:
    base.eval()  # type: ignore[no-untyped-call]  # transformers leaves it untyped


def _set_factors(layer: Any, slot: str, A: Tensor, B: Tensor) -> None:
    """Set the factors of a PEFT layer's slot: copied where the shapes are those already there."""
    for factors, factor in ((layer.lora_A, A), (layer.lora_B, B)):
        weight = factors[slot].weight
        if weight.shape == factor.shape and weight.device.type != "meta":
            weight.copy_(factor)
            continue
        linear = nn.Linear(factor.shape[1], factor.shape[0], bias=False, device="meta")
        own = layer.get_base_layer().weight
        dtype = own.dtype if own.dtype.is_floating_point else torch.get_default_dtype()
        # A copy of its own, so that later overwriting never reaches the caller's adapter.
        linear.weight = nn.Parameter(factor.detach().clone().to(own.device, dtype), requires_grad=False)
        factors[slot] = linear.eval()
    layer.r[slot] = A.shape[0]


def decoder_blocks(base: "PreTrainedModel") -> tuple[str, nn.ModuleList]:
    """Return the path and the list of the text decoder's blocks: the longest list of modules in it."""
    decoder: nn.Module = getattr(base, "get_decoder", lambda: base)() or base
    lists = [module for module in decoder.modules() if isinstance(module, nn.ModuleList) and len(module)]
    if not lists:
        raise DitError("The base has no list of decoder blocks: choose a causal language model.")
    blocks = max(lists, key=len)
    return next(name for name, module in base.named_modules() if module is blocks), blocks
