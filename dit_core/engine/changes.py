"""What a diff changes: the modules that it touches, with their ranks, sizes and norms."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from dit_core.engine.model import Model
from dit_core.engine.strengths import layer_of
from dit_core.errors import DitError
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
    own = dict(zip(adapter.factors, model.base_modules.fit(adapter).low_rank, strict=True)) if model else {}
    for name, (A, B) in adapter.factors.items():
        relative = _relative(norms[name], model.base_modules.parameter(f"{own[name]}.weight")) if model else None
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
            relative = _relative(norm, model.base_modules.parameter(name))
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


_EXACT = 512  # a smaller side than this is decomposed in full
_MORE, _PASSES = 16, 6  # of a randomized decomposition: directions beside those wanted, and passes over the matrix


@torch.no_grad()
def approximate(adapter: Adapter, rank: int, model: Model) -> tuple[Adapter, float]:
    """The nearest low-rank adapter of at most `rank` to an adapter's whole weights, by SVD, and the share it keeps.

    The share is of ΔW's Frobenius norm over everything that the adapter changes; norms, biases and embeddings have no
    place in a low-rank adapter and count as lost. Low-rank modules stay as they are. Decompositions of large
    matrices are randomized (with a fixed seed), and nearly as good as the best.

    Raises DitError for a rank below 1, an adapter that doesn't fit the model, and one that changes nothing.
    """
    if rank < 1:
        raise DitError(f"The rank must be at least 1, not {rank}.")
    factors, scaling = dict(adapter.factors), dict(adapter.scaling)
    kept = total = sum(norm**2 for norm in adapter.norms().values())
    for name, change in model.differences(adapter):
        total += float(change.norm(dtype=torch.float32)) ** 2
        module, leaf = model.base_modules.owners[name]
        if isinstance(module, nn.Linear) and leaf == "weight":
            left, values, right = _decomposed(change.float(), rank)
            kept += float(values.square().sum())
            path, root = name.removesuffix(".weight"), values.sqrt()
            factors[path] = (root[:, None] * right, left * root)
            scaling[path] = 1.0
    if not total or not factors:
        raise DitError("Nothing of this diff can be approximated: it changes no linear layer of the base.")
    return Adapter(factors, scaling), min(1.0, (kept / total) ** 0.5)


def _decomposed(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """The largest singular values with their vectors: left [out, rank], values [rank], right [rank, in]."""
    if min(matrix.shape) <= max(_EXACT, rank + _MORE):
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    else:
        with torch.random.fork_rng(devices=[matrix.device] if matrix.is_cuda else []):
            torch.manual_seed(0)
            left, values, right = torch.svd_lowrank(matrix, q=rank + _MORE, niter=_PASSES)
        right = right.T
    return left[:, :rank], values[:rank], right[:rank]
