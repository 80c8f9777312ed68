"""Which base an adapter was made for, told by its shapes alone."""

import re
from collections.abc import Mapping
from typing import NamedTuple


class Shape(NamedTuple):
    """Sizes of a text model: hidden, layers, MLP, and the outputs of its query and of its key projection."""

    hidden: int
    layers: int
    mlp: int
    query: int
    key: int


# As in the bases' own config.json; query and key are heads times head size.
KNOWN = {
    "the pocket base": Shape(192, 8, 512, 192, 192),
    "Qwen3-0.6B": Shape(1024, 28, 3072, 2048, 1024),
    "Qwen3-1.7B": Shape(2048, 28, 6144, 2048, 1024),
    "Qwen3-4B": Shape(2560, 36, 9728, 4096, 1024),
    "Qwen3-8B": Shape(4096, 36, 12288, 4096, 1024),
    "Qwen3-14B": Shape(5120, 40, 17408, 5120, 1024),
    "Qwen3-32B": Shape(5120, 64, 25600, 8192, 1024),
    "Gemma-3-1B": Shape(1152, 26, 6912, 1024, 256),
    "Gemma-3-4B": Shape(2560, 34, 10240, 2048, 1024),
    "Gemma-3-12B": Shape(3840, 48, 15360, 4096, 2048),
    "Gemma-3-27B": Shape(5376, 62, 21504, 4096, 2048),
    "Gemma-2-2B": Shape(2304, 26, 9216, 2048, 1024),
    "Gemma-2-9B": Shape(3584, 42, 14336, 4096, 2048),
    "Llama-3.2-1B": Shape(2048, 16, 8192, 2048, 512),
    "Llama-3.2-3B": Shape(3072, 28, 8192, 3072, 1024),
    "Llama-3.1-8B": Shape(4096, 32, 14336, 4096, 1024),
    "Llama-3.3-70B": Shape(8192, 80, 28672, 8192, 1024),
    "Qwen2.5-0.5B": Shape(896, 24, 4864, 896, 128),
    "Qwen2.5-1.5B": Shape(1536, 28, 8960, 1536, 256),
    "Qwen2.5-3B": Shape(2048, 36, 11008, 2048, 256),
    "Qwen2.5-7B": Shape(3584, 28, 18944, 3584, 512),
    "Qwen2.5-14B": Shape(5120, 48, 13824, 5120, 1024),
    "Qwen2.5-32B": Shape(5120, 64, 27648, 5120, 1024),
}
# What a linear layer's (in, out) sizes say, by its name.
_SAYS = {
    "q_proj": ("hidden", "query"),
    "k_proj": ("hidden", "key"),
    "v_proj": ("hidden", "key"),
    "o_proj": ("query", "hidden"),
    "gate_proj": ("hidden", "mlp"),
    "up_proj": ("hidden", "mlp"),
    "down_proj": ("mlp", "hidden"),
}
_LINEAR = re.compile(r"(?:(?:model|language_model)\.)*layers\.(?P<layer>\d{1,6})\.\w+\.(?P<type>\w+)", re.ASCII)


def likely_base(sizes: Mapping[str, tuple[int, int]]) -> str | None:
    """The known base that linear layers of these (in, out) sizes, by module name, belong to; None where none does.

    An adapter may leave out layers: of bases that differ in depth alone, the one of just this depth is meant, else the
    shallowest that has room.
    """
    told: dict[str, set[int]] = {"layers": {0}}
    for name, pair in sizes.items():
        if (match := _LINEAR.fullmatch(name)) and match["type"] in _SAYS:
            told["layers"].add(int(match["layer"]) + 1)
            for what, size in zip(_SAYS[match["type"]], pair, strict=True):
                told.setdefault(what, set()).add(size)
    deep = max(told.pop("layers"))
    if not told or any(len(found) > 1 for found in told.values()):
        return None
    fitting = {
        name: shape.layers
        for name, shape in KNOWN.items()
        if shape.layers >= deep and all(getattr(shape, what) in found for what, found in told.items())
    }
    return min(fitting, key=fitting.get, default=None)
