"""What a diff changes: the modules that it touches, with their ranks, sizes and norms."""

from collections.abc import Iterator

import torch
from torch import Tensor

from dit_core.engine.model import Model
from dit_core.engine.strengths import layer_of
from dit_core.formats import Adapter
from dit_core.records import ModuleChange, Table

N_SINGULAR = 8  # of the singular values, the largest


def report(adapter: Adapter, model: Model | None = None, diff: str = "", suite: str = "") -> Table[ModuleChange]:
    """A record per module that an adapter changes, in the file's order; `diff` and `suite` are names to put on them.

    With a model the norms are also relative to the base's, and whole weights have norms at all; those that equal the
    base's are left out. Raises DitError where the adapter does not fit the model.
    """
    records = [*_low_rank(adapter, model, diff), *_whole(adapter, model, diff)]
    return Table(suite, "changes", tuple(records))


def _low_rank(adapter: Adapter, model: Model | None, diff: str) -> Iterator[ModuleChange]:
    norms = adapter.norms()
    own = dict(zip(adapter.factors, model.parts.fit(adapter).low_rank, strict=True)) if model else {}
    for name, (A, B) in adapter.factors.items():
        relative = _relative(norms[name], model.parts.parameter(f"{own[name]}.weight")) if model else None
        values = abs(adapter.scaling[name]) * _singular_values(A, B)
        sizes = A.shape[0], A.numel() + B.numel()
        yield _change(diff, name, "low-rank", sizes, norms[name], relative, tuple(values[:N_SINGULAR].tolist()))


def _whole(adapter: Adapter, model: Model | None, diff: str) -> Iterator[ModuleChange]:
    if model is None:
        for name, weight in adapter.weights.items():
            yield _change(diff, name.removesuffix(".weight"), "whole", (None, weight.numel()), None, None, ())
    elif adapter.weights:
        for name, change in model.differences(adapter):
            norm = float(change.norm(dtype=torch.float32))
            relative = _relative(norm, model.parts.parameter(name))
            yield _change(diff, name.removesuffix(".weight"), "whole", (None, change.numel()), norm, relative, ())


def _change(diff: str, module: str, kind: str, sizes: tuple[int | None, int], norm, relative, values) -> ModuleChange:
    named = module.split(".")
    type = ".".join(named[-2:]) if named[-1] == "bias" else named[-1]
    return ModuleChange(diff, module, type, layer_of(module), kind, *sizes, norm, relative, values)


def _relative(norm: float, own: Tensor) -> float | None:
    """`norm` over that of the base's weight; None for a quantized or an empty one."""
    size = float(own.detach().norm(dtype=torch.float32)) if own.is_floating_point() else 0.0
    return norm / size if size else None


def _singular_values(A: Tensor, B: Tensor) -> Tensor:
    """Those of B @ A, from two triangular matrices of the rank's size."""
    triangles = (torch.linalg.qr(factor.double(), mode="r").R for factor in (B, A.T))
    left, right = triangles
    return torch.linalg.svdvals(left @ right.T)
