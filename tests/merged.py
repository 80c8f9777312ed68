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


@torch.no_grad()
def add_published(model, diff, dit=None) -> None:
    """Changes a plain model by what published files hold, as their authors do: whole weights, or pairs of factors.

    `diff` is {module: (A [rank, out], B [in, rank])} or a state dict, `dit` {module: (A [out, rank], B [rank, in])}.
    Names are matched by what stands behind the blocks' number, whatever wrapper is before it.
    """
    layers = {name.partition(".layers.")[2]: module for name, module in model.named_modules() if "vision" not in name}
    if any(isinstance(change, torch.Tensor) for change in diff.values()):
        assert not model.load_state_dict(diff, strict=False).unexpected_keys
    else:
        for name, (A, B) in diff.items():
            layers[name.partition(".layers.")[2]].weight += (B.float() @ A.float()).T / A.shape[0]
    for name, (A, B) in (dit or {}).items():
        layers[name.partition(".layers.")[2]].weight += (A.float() @ B.float()) / B.shape[0]


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


def finetuned(family: str, seed: int = 1, size: float = 0.3, **shape):
    """A tiny base of a family whose every weight was moved: norms, embeddings and biases as well."""
    model, generator = tiny_model(family, **shape), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            scale = size * weight.std().clamp_min(0.3) if weight.dim() == 1 else size * weight.std()
            weight += scale * torch.randn(weight.shape, generator=generator)
    return model


def between(base, tuned, strength: float):
    """`base` with `strength` times the way from its weights to `tuned`'s added, in place."""
    with torch.no_grad():
        for own, other in zip(base.parameters(), tuned.parameters(), strict=True):
            own += strength * (other - own)
    return base
