"""The other side of the benchmarks: an ordinary PEFT model over a base's own weights, used by PEFT's own calls."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from dit_core.formats import Adapter


class Twin:
    """A second model that shares the base's weights, with all `adapters` loaded; `base` is the bare one inside."""

    def __init__(self, base: PreTrainedModel, adapters: Mapping[str, Adapter]):
        from peft import LoraConfig, get_peft_model
        from peft.tuners.lora import LoraLayer

        with torch.device("meta"):
            twin = AutoModelForCausalLM.from_config(base.config)
        twin.load_state_dict(base.state_dict(), assign=True)
        twin.tie_weights()
        # Buffers that are not in a state dict (rotary frequencies) are the base's own too.
        for name, buffer in base.named_buffers():
            parent, _, leaf = name.rpartition(".")
            setattr(twin.get_submodule(parent), leaf, buffer)
        configs = {
            name: LoraConfig(
                r=adapter.rank,
                lora_alpha=adapter.rank * next(iter(adapter.scaling.values())),
                target_modules=list(adapter.factors),
                inference_mode=True,
            )
            for name, adapter in adapters.items()
        }
        first, *rest = configs
        self.model = get_peft_model(twin.eval(), configs[first], adapter_name=first, autocast_adapter_dtype=False)
        for name in rest:
            self.model.add_adapter(name, configs[name], autocast_adapter_dtype=False)
        self.layers = [module for module in self.model.modules() if isinstance(module, LoraLayer)]
        self.base = self.model.base_model.model
        for slot, adapter in adapters.items():
            for name, (A, B) in adapter.factors.items():
                layer = self.base.get_submodule(name)
                layer.lora_A[slot].weight.data.copy_(A)
                layer.lora_B[slot].weight.data.copy_(B)
        self.model.eval().requires_grad_(False)

    def acting(self, strengths: Mapping[str, float]) -> AbstractContextManager:
        """Makes adapters act, each with its strength, or none of them: enter what is returned."""
        acting = {name: value for name, value in strengths.items() if value}
        if not acting:
            return self.model.disable_adapter()
        self.model.base_model.set_adapter(list(acting), inference_mode=True)
        for layer in self.layers:
            for name, value in acting.items():
                layer.set_scale(name, value)
        return nullcontext()
