"""The one adapter in memory that every file format is turned into."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from dit_core.formats.files import FormatError

NUMBERS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
_NAME = re.compile(r"[\w-]+(?:\.[\w-]+){0,30}", re.ASCII)


@dataclass(frozen=True)
class PeftState:
    """What PEFT wrote that it alone can turn into weights, and only beside a base: DoRA, IA³, experts' factors, ...

    Attributes:
        config: settings of PEFT's method, plain values in which no pattern is left.
        tensors: by their names in the file, without PEFT's own prefix.
        modules: names of the modules that the tensors belong to.
    """

    config: dict[str, Any]
    tensors: dict[str, Tensor]
    modules: tuple[str, ...]


@dataclass(frozen=True)
class Adapter:
    """What a finetune changed: low-rank changes of modules, whole new weights of parameters, or PEFT's other kinds.

    Low rank: `ΔW[name] = scaling[name] * B @ A`, where `factors[name]` is (A [rank, in], B [out, rank]) and names are
    those of `model.named_modules()`. Whole: `weights[name]` is the finetuned tensor itself, named as in
    `model.named_parameters()`; it becomes a difference beside a base. Such tensors lie in a mapped file and are read
    when they are touched. `tied` says that a new embedding is the new unembedding too where the base has one for both
    (PEFT's `modules_to_save` parts them). `peft` is what PEFT makes differences of weights of, and `merged` such
    differences, by the names of one base's parameters, once PEFT has made them beside it.
    """

    factors: dict[str, tuple[Tensor, Tensor]]
    scaling: dict[str, float]
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    tied: bool = True
    peft: PeftState | None = None
    merged: Mapping[str, Tensor] = field(default_factory=dict)

    def __reduce__(self) -> tuple[Any, ...]:
        """To another process goes a file's bytes: tensors would go as shared memory, or not at all."""
        named = {f"A {name}": A for name, (A, _) in self.factors.items()}
        named |= {f"B {name}": B for name, (_, B) in self.factors.items()}
        named |= {f"W {name}": weight for name, weight in self.weights.items()}
        named |= {f"P {name}": tensor for name, tensor in (self.peft.tensors if self.peft else {}).items()}
        named |= {f"M {name}": change for name, change in self.merged.items()}
        # Copies, for no two tensors of such a file may share their numbers.
        content = save({name: tensor.detach().contiguous().clone() for name, tensor in named.items()})
        peft = (self.peft.config, tuple(self.peft.tensors), self.peft.modules) if self.peft else None
        names = tuple(self.factors), tuple(self.weights), tuple(self.merged)
        return _unpacked, (content, names, self.scaling, self.tied, peft)

    @property
    def rank(self) -> int:
        """The largest rank among the modules; 0 where there are whole weights alone."""
        return max((A.shape[0] for A, _ in self.factors.values()), default=0)

    @property
    def low_rank(self) -> int:
        """The largest rank where factors are all that there is; 0 for an adapter that takes differences of weights."""
        return 0 if self.weights or self.peft or self.merged else self.rank

    @property
    def n_params(self) -> int:
        """Numbers in all tensors together."""
        return sum(tensor.numel() for tensor in self._tensors())

    @property
    def n_bytes(self) -> int:
        """What all tensors take in memory."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self._tensors())

    def _tensors(self) -> Iterator[Tensor]:
        yield from (factor for pair in self.factors.values() for factor in pair)
        yield from (*self.weights.values(), *self.merged.values())
        yield from self.peft.tensors.values() if self.peft else ()

    def only(self, acts: Callable[[str], bool]) -> "Adapter":
        """Return what it changes in the modules and parameters whose names `acts` holds for; tensors are shared.

        `peft` stays whole.
        """
        return replace(
            self,
            factors={name: pair for name, pair in self.factors.items() if acts(name)},
            scaling={name: scaling for name, scaling in self.scaling.items() if acts(name)},
            weights={name: self.weights[name] for name in self.weights if acts(name)},
            merged={name: self.merged[name] for name in self.merged if acts(name)},
        )

    def norms(self) -> dict[str, float]:
        """Return the Frobenius norm of each low-rank ΔW by module name."""
        return {name: abs(self.scaling[name]) * low_rank_norm(A, B) for name, (A, B) in self.factors.items()}


def low_rank_norm(A: Tensor, B: Tensor) -> float:
    """Return the Frobenius norm of B @ A for A [rank, in] and B [out, rank], without building the product.

    From the factors' Gram matrices, |B A|² = sum((Bᵀ B) * (A Aᵀ)), in float64.
    """
    A, B = A.double(), B.double()
    return float(((B.T @ B) * (A @ A.T)).sum().clamp_min(0).sqrt())


def _unpacked(
    content: bytes, names: tuple[Sequence[str], ...], scaling: dict[str, float], tied: bool, peft: Any
) -> Adapter:
    """What `Adapter.__reduce__` packed; modules and weights in their old order."""
    named, (low_rank, whole, merged) = load(content), names
    factors = {name: (named[f"A {name}"], named[f"B {name}"]) for name in low_rank}
    state = PeftState(peft[0], {name: named[f"P {name}"] for name in peft[1]}, peft[2]) if peft else None
    weights = {name: named[f"W {name}"] for name in whole}
    return Adapter(factors, scaling, weights, tied, state, {name: named[f"M {name}"] for name in merged})


def checked_adapter(factors: dict[str, tuple[Tensor, Tensor]], scaling: dict[str, float]) -> Adapter:
    """Return a low-rank adapter of these factors; FormatError says the first thing that is wrong with them."""
    for name, (A, B) in factors.items():
        if A.shape[0] != B.shape[1] or 0 in (*A.shape, *B.shape):
            raise FormatError(f"the factors of '{name}' do not fit each other: {list(A.shape)} and {list(B.shape)}")
        if not (is_finite(A) and is_finite(B) and abs(scaling[name]) < float("inf")):
            raise FormatError(f"the factors of '{name}' are not finite numbers")
    return Adapter(factors, scaling)


def checked_tensor(name: Any, tensor: Any, also: tuple[torch.dtype, ...] = ()) -> Tensor:
    """Return a tensor that is named, of ordinary numbers, each of which lies in the file; else FormatError.

    `also` are further number types that will do.
    """
    if not isinstance(name, str) or len(name) > 200 or not _NAME.fullmatch(name):
        raise FormatError(f"{quoted_name(name)} is no name of a module")
    if not isinstance(tensor, Tensor) or tensor.layout != torch.strided or tensor.device.type != "cpu":
        raise FormatError(f"'{name}' is not an ordinary tensor")
    if tensor.dtype not in (*NUMBERS, *also):
        raise FormatError(f"'{name}' holds {str(tensor.dtype).removeprefix('torch.')}, and no floating-point numbers")
    # A view can repeat a few bytes without end: a small file would fill the memory.
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise FormatError(f"'{name}' claims more numbers than the file holds")
    return tensor.detach()


def quoted_name(name: Any) -> str:
    """Return what a file names something, for a sentence: text alone, since what is nested may be without end."""
    return repr(name[:60]) if isinstance(name, str) else f"a {type(name).__name__}"


def is_finite(tensor: Tensor) -> bool:
    """Return whether all numbers are finite, in float32 too; needs no memory of the tensor's size."""
    return tensor.numel() == 0 or bool(torch.stack(tensor.aminmax()).float().isfinite().all())
