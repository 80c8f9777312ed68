"""What the engine is held against: a plain copy of the base, changed by hand and without PEFT."""

from contextlib import contextmanager

import torch

from dit_core.formats import Adapter
from tests.tiny import tiny_model


def delta(adapter: Adapter, name: str) -> torch.Tensor:
    """ΔW [out, in] of a module."""
    A, B = adapter.factors[name]
    return adapter.scaling[name] * (B.float() @ A.float())


def merged(family: str, parts: list[tuple[float, Adapter]], seed: int = 0):
    """A new tiny base of a family, into whose weights `strength * ΔW` of each part was added."""
    base = tiny_model(family, seed=seed)
    with torch.no_grad():
        for strength, adapter in parts:
            for name in adapter.factors:
                base.get_submodule(name).weight += strength * delta(adapter, name)
    return base


@contextmanager
def position_hooks(base, parts: list[tuple[torch.Tensor, Adapter]]):
    """Adds `strength[position] * ΔW x` to the linear layers of a plain base; strengths are [positions]."""

    def hook(pairs):
        def add(_module, inputs, out):
            for strength, change in pairs:
                out = out + strength[: out.shape[1], None] * (inputs[0] @ change.T)
            return out

        return add

    names = {name for _, adapter in parts for name in adapter.factors}
    handles = []
    for name in names:
        pairs = [(strength, delta(adapter, name)) for strength, adapter in parts if name in adapter.factors]
        handles.append(base.get_submodule(name).register_forward_hook(hook(pairs)))
    try:
        yield base
    finally:
        for handle in handles:
            handle.remove()


@torch.inference_mode()
def is_greedy(base, prompt: list[int], answer: list[int]) -> bool:
    """Whether each token of the answer is the likeliest after all before it: one row, no padding, no cache."""
    logits = base(input_ids=torch.tensor([prompt + answer[:-1]]), use_cache=False).logits[0, len(prompt) - 1 :]
    return logits.argmax(-1).tolist() == answer
