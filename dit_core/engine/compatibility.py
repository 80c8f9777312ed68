"""Whether an adapter fits a base (names, shapes, numbers), and by its shapes which base it was made for.

All of it is looked at before anything touches the model.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dit_core.engine.peft_merge import as_loaded, merged_differences
from dit_core.errors import DitError
from dit_core.formats import Adapter, is_finite
from dit_core.formats.checkpoint import text_name

# What a multimodal checkpoint has beside its text model, by how the names begin.
_OTHER_TOWERS = ("vision", "visual", "audio", "multi_modal", "mm_", "embed_vision", "embed_audio")
_MAX_SHOWN = 3  # misfits in a sentence


@dataclass
class FittedAdapter:
    """An adapter by the base's own names.

    Attributes:
        low_rank: (A [rank, in], B [out, rank], scaling) by the name of a linear layer.
        full_weights: the finetuned tensor by the name of a parameter.
        merged: the difference of a parameter, by its name, that PEFT computed beside this base.
        left_out: names of tensors of towers that no text goes through.
        notes: sentences on what is left out.
    """

    low_rank: dict[str, tuple[Tensor, Tensor, float]] = field(default_factory=dict)
    full_weights: dict[str, Tensor] = field(default_factory=dict)
    merged: dict[str, Tensor] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class BaseModules:
    """A base's linear layers and parameters by name, as they are before PEFT wraps any.

    Attributes:
        base: the base itself.
        linears: the linear layers by name, transposed ones (GPT-2's) too.
        owners: for each parameter (module, its name in the module); one that several modules share is there for each.
    """

    def __init__(self, base: nn.Module):
        self.base = base
        self.linears = {name: module for name, module in base.named_modules() if is_linear(module)}
        self._modules = dict(base.named_modules())
        self._vocabulary = [getattr(base, f"get_{end}put_embeddings", lambda: None)() for end in ("in", "out")]
        self.owners: dict[str, tuple[nn.Module, str]] = {
            f"{path}.{leaf}": (module, leaf)
            for path, module in base.named_modules()
            for leaf, _ in module.named_parameters(recurse=False)
        }
        self._by_text_name = {text_name(name): name for name in (*self.owners, *self._modules)}

    def owner(self, name: str) -> tuple[nn.Module, str]:
        """Return the module and leaf that a parameter's name means; a bias may be one that the module lacks."""
        path, _, leaf = name.rpartition(".")
        return self.owners.get(name) or (self._modules[path], leaf)

    def parameter(self, name: str) -> Tensor:
        """Return the base's parameter of that name."""
        module, leaf = self.owners[name]
        return module.get_parameter(leaf)

    def tied_names(self, name: str) -> list[str]:
        """Return the other names of a parameter that the base uses in several places: tied embeddings."""
        own = self.parameter(name)
        return [other for other in self.owners if other != name and self.parameter(other) is own]

    def fit(self, adapter: Adapter) -> FittedAdapter:
        """Return the adapter by this base's names.

        Raises:
            DitError: it does not fit; the message names the first three misfits and, by the shapes, the likely base.
        """
        fitted = FittedAdapter()
        misfits: list[str] = []
        for name, (A, B) in adapter.factors.items():
            own = self.own_name(name)
            misfits += [f"'{name}' is there under two names"] if own in fitted.low_rank else []
            if self._is_vocabulary(f"{own}.weight"):
                B = _resized(B, B.new_zeros(linear_size(self.linears[own])[1], B.shape[1]), fitted.notes)
            misfits += _linear_misfit(name, self.linears.get(own), A, B)
            fitted.low_rank[own] = (A, B, adapter.scaling[name])
        weights = adapter.weights
        if any(self.own_name(name) not in self.owners for name in weights):
            weights = as_loaded(self.base, weights)
        for name, weight in weights.items():
            own = self.own_name(name)
            if self._is_vocabulary(own) and weight.shape[1:] == self.parameter(own).shape[1:]:
                weight = _resized(weight, self.parameter(own), fitted.notes)
            # No text goes through another tower, so one that the base has too is left alone.
            tower = text_name(name).startswith(_OTHER_TOWERS)
            if tower or (own not in self.owners and name.endswith(".inv_freq")):
                fitted.left_out.append(name)
            else:
                misfits += [f"'{name}' is there under two names"] if own in fitted.full_weights else []
                fitted.full_weights[own] = weight
                misfits += _parameter_misfit(name, self.owners.get(own), weight)
        if not misfits:  # only now, as it reads everything
            misfits = [
                f"'{name}' holds numbers that are not finite"
                for name, weight in fitted.full_weights.items()
                if not is_finite(weight)
            ]
        if not misfits and adapter.peft:
            fitted.merged, misfits = merged_differences(self.base, adapter.peft, self.own_name)
        fitted.merged.update(adapter.merged)
        if not misfits and not fitted.low_rank and not fitted.full_weights and not fitted.merged:
            misfits = ["it has nothing in common with it"]
        if misfits:
            raise DitError(_misfit_message(misfits, linear_shapes(adapter)))
        fitted.notes += self._shared_note(fitted)
        return fitted

    def _shared_note(self, fitted: FittedAdapter) -> list[str]:
        """What is changed that rows of a batch can't have apart, in a sentence."""
        names = [name for name in (*fitted.merged, *fitted.full_weights) if not acts_by_row(self.owner(name)[0])]
        whole = {
            name: fitted.full_weights[name].to(self.parameter(name)) for name in names if name not in fitted.merged
        }
        shared = [name for name in names if name not in whole or not torch.equal(self.parameter(name), whole[name])]
        more = f" and {len(shared) - 1:,} more" if len(shared) > 1 else ""
        return [f"Rows share '{shared[0]}'{more}: it is asked in batches of its own."] if shared else []

    def own_name(self, name: str) -> str:
        """Return a name as this base has it: wrappers put more before the text model's names, or less."""
        known = name in self.owners or name in self._modules
        return name if known else self._by_text_name.get(text_name(name), name)

    def _is_vocabulary(self, name: str) -> bool:
        """Whether a parameter has a row for each token."""
        return name in self.owners and self.owners[name][0] in self._vocabulary


def linear_shapes(adapter: Adapter) -> dict[str, tuple[int, int]]:
    """Return (in, out) of each linear layer that an adapter changes, by module name."""
    full = {name.removesuffix(".weight"): w.shape for name, w in adapter.weights.items() if w.dim() == 2}
    shapes = {name: (shape[1], shape[0]) for name, shape in full.items()}
    shapes |= {name: (A.shape[1], B.shape[0]) for name, (A, B) in adapter.factors.items()}
    if adapter.peft and not adapter.peft.config.get("target_parameters"):
        halves = {key: tensor.shape for key, tensor in adapter.peft.tensors.items() if ".lora_" in key}
        pairs = (
            (name, halves.get(f"{name}.lora_A.weight"), halves.get(f"{name}.lora_B.weight"))
            for name in adapter.peft.modules
        )
        shapes |= {name: (A[1], B[0]) for name, A, B in pairs if A and B}
    return shapes


def _resized(rows: Tensor, own: Tensor, notes: list[str]) -> Tensor:
    """A finetune's rows for the base's tokens: what it has more is left out, where it lacks some the base's stand."""
    if len(rows) > len(own):
        note = (
            f"It has {len(rows) - len(own)} tokens more than this base: they are left out, nothing says or reads them."
        )
        notes += [note] if note not in notes else []
        return rows[: len(own)]
    return rows if len(rows) == len(own) else torch.cat([rows, own[len(rows) :].detach().to(rows)])


def is_linear(module: nn.Module) -> bool:
    """Return whether a module is a linear layer: torch's, or transformers' transposed one."""
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def linear_size(layer: nn.Module) -> tuple[int, int]:
    """Return (in, out) of a linear layer."""
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    inputs, outputs = layer.get_parameter("weight").shape  # transformers' Conv1D
    return inputs, outputs


def _linear_misfit(name: str, layer: nn.Module | None, A: Tensor, B: Tensor) -> list[str]:
    if layer is None:
        return [f"the base has no linear layer '{name}'"]
    expected, given = linear_size(layer), (A.shape[1], B.shape[0])
    if expected == given:
        return []
    return [f"'{name}' maps {expected[0]} to {expected[1]} numbers, and the adapter's {given[0]} to {given[1]}"]


def _parameter_misfit(name: str, owner: tuple[nn.Module, str] | None, weight: Tensor) -> list[str]:
    if owner is None:
        return [f"the base has no weights '{name}'"]
    module, leaf = owner
    own = module.get_parameter(leaf)
    if not own.is_floating_point():
        return [f"'{name}' is quantized in this base, which leaves no exact difference"]
    if own.shape != weight.shape:
        return [f"'{name}' has the shape {list(own.shape)}, and the adapter's {list(weight.shape)}"]
    return []


def acts_by_row(module: nn.Module) -> bool:
    """Return whether a module's output is linear, or linear and constant, in its weights, row by row of its input."""
    kind = type(module).__name__
    return is_linear(module) or isinstance(module, nn.Embedding) or "norm" in kind.lower() or acts_by_token(module)


def acts_by_token(module: nn.Module) -> bool:
    """Return whether a module is not linear in its weights but sees each token alone: experts and their router."""
    return type(module).__name__.endswith(("Experts", "Router"))


def _misfit_message(misfits: list[str], shapes: dict[str, tuple[int, int]]) -> str:
    more = f"; and {len(misfits) - _MAX_SHOWN:,} more" if len(misfits) > _MAX_SHOWN else ""
    base = likely_base(shapes)
    advice = f"these shapes are {base}'s, so choose a suite of it" if base else "pick an adapter made for this base"
    return f"The adapter does not fit the base: {'; '.join(misfits[:_MAX_SHOWN])}{more}: {advice}."


class BaseShape(NamedTuple):
    """Sizes of a text model: d_model, layers, MLP, and the outputs of its query and of its key projection."""

    hidden: int
    layers: int
    mlp: int
    query: int
    key: int


# As in the bases' own config.json; query and key are heads times head size.
KNOWN_BASES = {
    "the pocket base": BaseShape(192, 8, 512, 192, 192),
    "SmolLM2-135M": BaseShape(576, 30, 1536, 576, 192),
    "Qwen3-0.6B": BaseShape(1024, 28, 3072, 2048, 1024),
    "Qwen3-1.7B": BaseShape(2048, 28, 6144, 2048, 1024),
    "Qwen3-4B": BaseShape(2560, 36, 9728, 4096, 1024),
    "Qwen3-8B": BaseShape(4096, 36, 12288, 4096, 1024),
    "Qwen3-14B": BaseShape(5120, 40, 17408, 5120, 1024),
    "Qwen3-32B": BaseShape(5120, 64, 25600, 8192, 1024),
    "Gemma-3-1B": BaseShape(1152, 26, 6912, 1024, 256),
    "Gemma-3-4B": BaseShape(2560, 34, 10240, 2048, 1024),
    "Gemma-3-12B": BaseShape(3840, 48, 15360, 4096, 2048),
    "Gemma-3-27B": BaseShape(5376, 62, 21504, 4096, 2048),
    "Gemma-2-2B": BaseShape(2304, 26, 9216, 2048, 1024),
    "Gemma-2-9B": BaseShape(3584, 42, 14336, 4096, 2048),
    "Llama-3.2-1B": BaseShape(2048, 16, 8192, 2048, 512),
    "Llama-3.2-3B": BaseShape(3072, 28, 8192, 3072, 1024),
    "Llama-3.1-8B": BaseShape(4096, 32, 14336, 4096, 1024),
    "Llama-3.3-70B": BaseShape(8192, 80, 28672, 8192, 1024),
    "Qwen2.5-0.5B": BaseShape(896, 24, 4864, 896, 128),
    "Qwen2.5-1.5B": BaseShape(1536, 28, 8960, 1536, 256),
    "Qwen2.5-3B": BaseShape(2048, 36, 11008, 2048, 256),
    "Qwen2.5-7B": BaseShape(3584, 28, 18944, 3584, 512),
    "Qwen2.5-14B": BaseShape(5120, 48, 13824, 5120, 1024),
    "Qwen2.5-32B": BaseShape(5120, 64, 27648, 5120, 1024),
}
# Which sizes of a base a linear layer's (in, out) are, by the layer's name.
_LINEAR_SIZES = {
    "q_proj": ("hidden", "query"),
    "k_proj": ("hidden", "key"),
    "v_proj": ("hidden", "key"),
    "o_proj": ("query", "hidden"),
    "gate_proj": ("hidden", "mlp"),
    "up_proj": ("hidden", "mlp"),
    "down_proj": ("mlp", "hidden"),
}
_LINEAR_NAME = re.compile(r"(?:(?:model|language_model)\.)*layers\.(?P<layer>\d{1,6})\.\w+\.(?P<type>\w+)", re.ASCII)


def likely_base(shapes: Mapping[str, tuple[int, int]]) -> str | None:
    """Return the known base that linear layers of these (in, out) shapes belong to; None where none does.

    `shapes` is by module name, as `linear_shapes` returns it. An adapter may leave out layers: of bases that differ in
    depth alone, the one of just this depth is meant, else the shallowest that has room.
    """
    depth = 0
    sizes: dict[str, set[int]] = {}
    for name, shape in shapes.items():
        if (match := _LINEAR_NAME.fullmatch(name)) and match["type"] in _LINEAR_SIZES:
            depth = max(depth, int(match["layer"]) + 1)
            for kind, size in zip(_LINEAR_SIZES[match["type"]], shape, strict=True):
                sizes.setdefault(kind, set()).add(size)
    if not sizes or any(len(found) > 1 for found in sizes.values()):
        return None
    fitting = {
        name: base.layers
        for name, base in KNOWN_BASES.items()
        if base.layers >= depth and all(getattr(base, kind) in found for kind, found in sizes.items())
    }
    return min(fitting, key=lambda name: fitting[name], default=None)
