"""What the benchmarks run on: the pocket suite's own base, and shapes of larger ones with random weights.

Time does not depend on the weights' values.
"""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, Qwen3Config

from dit_core.formats import Adapter

POCKET = Path(__file__).parent.parent / "assets" / "pocket"
# hidden, MLP, layers, heads, key-value heads, head size, vocabulary, tied embeddings
SHAPES = {
    "tiny": (32, 64, 4, 4, 2, 8, 400, True),  # small enough to try a benchmark out
    "pocket": (192, 512, 8, 4, 4, 48, 7168, True),
    "Qwen3-0.6B": (1024, 3072, 28, 16, 8, 128, 151936, True),
    "Qwen3-4B": (2560, 9728, 36, 32, 8, 128, 151936, True),
    "Qwen3-8B": (4096, 12288, 36, 32, 8, 128, 151936, False),
}


def named(text: str) -> str:
    """The shape meant, upper and lower case alike; a name that is none stays as it is."""
    return next((shape for shape in SHAPES if shape.lower() == text.lower()), text)


def is_trained(shape: str) -> bool:
    """Whether the shape's own trained weights are at hand: the pocket suite's."""
    return shape == "pocket" and (POCKET / "suite.toml").exists()


def base_of(shape: str, device: str, dtype: torch.dtype) -> PreTrainedModel:
    """The trained base of a shape where there is one, else one with random weights."""
    if not is_trained(shape):
        return random_base(shape, device, dtype)
    return AutoModelForCausalLM.from_pretrained(POCKET / "base", dtype=dtype).to(device).eval()


def random_base(shape: str, device: str, dtype: torch.dtype) -> PreTrainedModel:
    """A random-weight causal LM of one of `SHAPES`."""
    hidden, mlp, layers, heads, kv_heads, head_dim, vocabulary, tied = SHAPES[shape]
    config = Qwen3Config(
        hidden_size=hidden,
        intermediate_size=mlp,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        vocab_size=vocabulary,
        tie_word_embeddings=tied,
        max_position_embeddings=4096,
        dtype=dtype,
    )
    torch.manual_seed(0)
    with torch.device(device):
        return AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)


def random_adapter(base: PreTrainedModel, rank: int, seed: int, size: float = 0.1) -> Adapter:
    """A random adapter over all linear layers of the blocks; the larger, the more it changes what the base says."""
    generator = torch.Generator().manual_seed(seed)
    factors = {}
    for name, module in base.named_modules():
        if isinstance(module, torch.nn.Linear) and ".layers." in name:
            A = torch.randn(rank, module.in_features, generator=generator) / module.in_features**0.5
            B = torch.randn(module.out_features, rank, generator=generator) * size
            factors[name] = (A, B)
    return Adapter(factors, dict.fromkeys(factors, 1 / rank))
