"""Whether an adapter fits a base: names, shapes and numbers, all looked at before anything touches the model."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from dit_core.engine.known_bases import likely_base
from dit_core.errors import DitError
from dit_core.formats import Adapter, is_finite

# What may stand before a text model's own names, whatever the wrapper and its version.
_TEXT_PREFIXES = ("model", "language_model")
# What a multimodal checkpoint has beside its text model, by how the names begin; a text-only base has none of it.
_OTHER_TOWERS = ("vision", "visual", "audio", "multi_modal", "mm_", "embed_vision", "embed_audio")
_SHOWN = 3


@dataclass
class Fit:
    """An adapter by the base's own names: `low_rank[module]` is (A, B, scaling), `whole[parameter]` a tensor.

    `left_out` names tensors of towers that this base does not have.
    """

    low_rank: dict[str, tuple[Tensor, Tensor, float]] = field(default_factory=dict)
    whole: dict[str, Tensor] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


class Parts:
    """A base's linear layers, and the owner of each parameter, by name; as they are before PEFT wraps any."""

    def __init__(self, base: nn.Module):
        self.linears = {name: module for name, module in base.named_modules() if isinstance(module, nn.Linear)}
        # (module, its own name of the parameter); a parameter that several modules share is here for each.
        self.owners: dict[str, tuple[nn.Module, str]] = {
            f"{path}.{leaf}": (module, leaf)
            for path, module in base.named_modules()
            for leaf, _ in module.named_parameters(recurse=False)
        }
        self._by_text_name = {_text_name(name): name for name in (*self.owners, *self.linears)}

    def parameter(self, name: str) -> Tensor:
        """The base's parameter of that name."""
        module, leaf = self.owners[name]
        return getattr(module, leaf)

    def sharing(self, name: str) -> list[str]:
        """The other names of a parameter that the base uses in several places: tied embeddings."""
        own = self.parameter(name)
        return [other for other in self.owners if other != name and self.parameter(other) is own]

    def fit(self, adapter: Adapter) -> Fit:
        """The adapter by this base's names.

        Raises DitError for one that does not fit, with its first three misfits and, by its shapes, the likely base.
        """
        fit, misfits = Fit(), []
        for name, (A, B) in adapter.factors.items():
            own = self._own_name(name)
            misfits += [f"'{name}' is there under two names"] if own in fit.low_rank else []
            misfits += _linear_misfit(name, self.linears.get(own), A, B)
            fit.low_rank[own] = (A, B, adapter.scaling[name])
        for name, weight in adapter.weights.items():
            own = self._own_name(name)
            if own not in self.owners and (_text_name(name).startswith(_OTHER_TOWERS) or name.endswith(".inv_freq")):
                fit.left_out.append(name)
            else:
                misfits += [f"'{name}' is there under two names"] if own in fit.whole else []
                fit.whole[own] = weight
                misfits += _whole_misfit(name, self.owners.get(own), weight)
        if not misfits:  # only now, as it reads everything
            misfits = [
                f"'{name}' holds numbers that are not finite" for name, w in fit.whole.items() if not is_finite(w)
            ]
        if not misfits and not fit.low_rank and not fit.whole:
            misfits = ["it has nothing in common with it"]
        if misfits:
            raise DitError(_sentence(misfits, sizes(adapter)))
        return fit

    def _own_name(self, name: str) -> str:
        """A name as this base has it: multimodal wrappers put more before the text model's names, or less."""
        known = name in self.owners or name in self.linears
        return name if known else self._by_text_name.get(_text_name(name), name)


def sizes(adapter: Adapter) -> dict[str, tuple[int, int]]:
    """(in, out) of the linear layers that an adapter changes, by module name."""
    whole = {name.removesuffix(".weight"): w.shape for name, w in adapter.weights.items() if w.dim() == 2}
    return {name: (shape[1], shape[0]) for name, shape in whole.items()} | {
        name: (A.shape[1], B.shape[0]) for name, (A, B) in adapter.factors.items()
    }


def _text_name(name: str) -> str:
    """A name without what wrappers put before the text model; a vision tower's keep theirs, and so never match."""
    parts = name.split(".")
    while len(parts) > 1 and parts[0] in _TEXT_PREFIXES:
        parts.pop(0)
    return ".".join(parts)


def _linear_misfit(name: str, layer: nn.Linear | None, A: Tensor, B: Tensor) -> list[str]:
    if layer is None:
        return [f"the base has no linear layer '{name}'"]
    fits, own = (layer.in_features, layer.out_features), (A.shape[1], B.shape[0])
    if fits == own:
        return []
    return [f"'{name}' maps {fits[0]} to {fits[1]} numbers, and the adapter's {own[0]} to {own[1]}"]


def _whole_misfit(name: str, owner: tuple[nn.Module, str] | None, weight: Tensor) -> list[str]:
    if owner is None:
        return [f"the base has no weights '{name}'"]
    module, leaf = owner
    own = getattr(module, leaf)
    if not own.is_floating_point():
        return [f"'{name}' is quantized in this base, which leaves no exact difference"]
    if own.shape != weight.shape:
        return [f"'{name}' has the shape {list(own.shape)}, and the adapter's {list(weight.shape)}"]
    return [] if _can_act_by_row(module) else [f"'{name}' belongs to a {type(module).__name__}, which can't act by row"]


def _can_act_by_row(module: Any) -> bool:
    """Whether a module's output is linear, or linear and constant, in its weights, row by row of its one input."""
    kind = type(module).__name__
    return isinstance(module, nn.Linear | nn.Embedding) or kind == "Conv1D" or "norm" in kind.lower()


def _sentence(misfits: list[str], shapes: dict[str, tuple[int, int]]) -> str:
    more = f"; and {len(misfits) - _SHOWN:,} more" if len(misfits) > _SHOWN else ""
    base = likely_base(shapes)
    advice = f"these shapes are {base}'s, so choose a suite of it" if base else "pick an adapter made for this base"
    return f"The adapter does not fit the base: {'; '.join(misfits[:_SHOWN])}{more}: {advice}."
