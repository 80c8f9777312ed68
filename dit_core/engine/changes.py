"""What an adapter changes: ranks, sizes and norms by module, and the nearest low-rank adapter to all of it."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from dit_core.engine.compatibility import FittedAdapter, is_linear
from dit_core.engine.full_weights import weight_differences
from dit_core.engine.model import Model
from dit_core.engine.strengths import layer_of
from dit_core.errors import DitError
from dit_core.formats import Adapter
from dit_core.records import ModuleChange, Table

MAX_SINGULAR_VALUES = 8  # of each module, the largest
_EXACT = 512  # a smaller side than this is decomposed in full
_MORE, _PASSES = 16, 6  # of a randomized decomposition: directions beside those wanted, and passes over the matrix


def report(adapter: Adapter, model: Model | None = None, diff: str = "", suite: str = "") -> Table[ModuleChange]:
    """Return a record per module that an adapter changes, in the file's order.

    With a model the norms are also relative to the base's, and full weights have norms at all; those that equal the
    base's are left out, and the table's `extra` has "notes", sentences on what this base has no place for. `diff` and
    `suite` are names to put on the records and the table.

    Raises:
        DitError: the adapter does not fit the model.
    """
    fitted = model.base_modules.fit(adapter) if model else None
    records = [*_low_rank_changes(adapter, model, fitted, diff), *_full_changes(adapter, model, fitted, diff)]
    return Table(suite, "changes", tuple(records), {"notes": fitted.notes} if fitted and fitted.notes else {})


def _low_rank_changes(
    adapter: Adapter, model: Model | None, fitted: FittedAdapter | None, diff: str
) -> Iterator[ModuleChange]:
    norms = adapter.norms()
    own = dict(zip(adapter.factors, fitted.low_rank, strict=True)) if fitted else {}
    for name, (A, B) in adapter.factors.items():
        relative = _relative(norms[name], model.base_modules.parameter(f"{own[name]}.weight")) if model else None
        values = abs(adapter.scaling[name]) * _singular_values(A, B)
        largest = tuple(values[:MAX_SINGULAR_VALUES].tolist())
        yield _change(diff, name, "low-rank", A.shape[0], A.numel() + B.numel(), norms[name], relative, largest)


def _full_changes(
    adapter: Adapter, model: Model | None, fitted: FittedAdapter | None, diff: str
) -> Iterator[ModuleChange]:
    if model is None or fitted is None:
        for name, weight in (*adapter.weights.items(), *(adapter.peft.tensors.items() if adapter.peft else ())):
            yield _change(diff, name.removesuffix(".weight"), "whole", None, weight.numel())
    else:
        for name, change in weight_differences(model.base_modules, fitted, tied=False):
            norm = float(change.norm(dtype=torch.float32))
            module, leaf = model.base_modules.owner(name)
            relative = _relative(norm, module._parameters.get(leaf))
            yield _change(diff, name.removesuffix(".weight"), "whole", None, change.numel(), norm, relative)


def _change(
    diff: str,
    module: str,
    kind: str,
    rank: int | None,
    parameters: int,
    norm: float | None = None,
    relative: float | None = None,
    singular_values: tuple[float, ...] = (),
) -> ModuleChange:
    path = module.split(".")
    type = ".".join(path[-2:]) if path[-1] == "bias" else path[-1]
    return ModuleChange(diff, module, type, layer_of(module), kind, rank, parameters, norm, relative, singular_values)


def _relative(norm: float, own: Tensor | None) -> float | None:
    """`norm` over that of the base's weight; None for a quantized or an empty one, and where it has none."""
    size = float(own.detach().norm(dtype=torch.float32)) if own is not None and own.is_floating_point() else 0.0
    return norm / size if size else None


def _singular_values(A: Tensor, B: Tensor) -> Tensor:
    """Those of B @ A, from two triangular matrices of the rank's size."""
    left, right = (torch.linalg.qr(factor.double(), mode="r").R for factor in (B, A.T))
    values: Tensor = torch.linalg.svdvals(left @ right.T)
    return values


@torch.no_grad()
def approximate(adapter: Adapter, rank: int, model: Model) -> tuple[Adapter, float]:
    """Return the nearest low-rank adapter to an adapter's full weights, by SVD, and the share of ΔW that it keeps.

    The share is of ΔW's Frobenius norm over everything that the adapter changes; norms, biases and embeddings have no
    place in a low-rank adapter and count as lost. Low-rank modules stay as they are. Decompositions of large
    matrices are randomized (with a fixed seed), and nearly as good as the best.

    Args:
        adapter: the full finetune.
        rank: the largest rank of a module in the result.
        model: the base that it was finetuned from.

    Raises:
        DitError: a rank below 1, an adapter that doesn't fit the model, or one that changes no linear layer.
    """
    if rank < 1:
        raise DitError(f"The rank must be at least 1, not {rank}.")
    factors, scaling = dict(adapter.factors), dict(adapter.scaling)
    kept = total = sum(norm**2 for norm in adapter.norms().values())
    for name, change in model.differences(adapter):
        total += float(change.norm(dtype=torch.float32)) ** 2
        module, leaf = model.base_modules.owner(name)
        if is_linear(module) and leaf == "weight":
            matrix = change if isinstance(module, nn.Linear) else change.T
            left, values, right = truncated_svd(matrix.float(), rank)
            kept += float(values.square().sum())
            path, root = name.removesuffix(".weight"), values.sqrt()
            factors[path] = (root[:, None] * right, left * root)
            scaling[path] = 1.0
    if not total or not factors:
        raise DitError("Nothing of this diff can be approximated: it changes no linear layer of the base.")
    return Adapter(factors, scaling), min(1.0, (kept / total) ** 0.5)


@torch.no_grad()
def rank_one(adapter: Adapter, model: Model, keep_norm: bool = False) -> Adapter:
    """Return an adapter with the first singular direction, σ₁u₁v₁ᵀ, of each matrix by which a linear layer changes.

    A baseline of weight-diff auditing that needs no training. Norms, biases and embeddings are left out.

    Args:
        adapter: of any kind.
        model: the base, whose weights full ones are compared with.
        keep_norm: scale each direction up to the Frobenius norm of the whole ΔW.

    Raises:
        DitError: the adapter doesn't fit the model, or changes no linear layer.
    """
    factors: dict[str, tuple[Tensor, Tensor]] = {}
    norms = adapter.norms()
    directions = [(name, norms[name], *_first_direction(A, B)) for name, (A, B) in adapter.factors.items()]
    scaling = {name: adapter.scaling[name] for name in adapter.factors}
    for name, change in model.differences(adapter):
        module, leaf = model.base_modules.owner(name)
        if is_linear(module) and leaf == "weight":
            path, matrix = name.removesuffix(".weight"), change if isinstance(module, nn.Linear) else change.T
            left, values, right = truncated_svd(matrix.float(), 1)
            directions.append((path, float(change.norm(dtype=torch.float32)), left, values, right))
            scaling[path] = 1.0
    for name, norm, left, values, right in directions:
        largest = float(values[0])
        factor = norm / (abs(scaling[name]) * largest) if keep_norm and largest and scaling[name] else 1.0
        root = (largest * factor) ** 0.5
        factors[name] = (root * right, left * root)
    if not factors:
        raise DitError("Nothing of this diff has a first direction: it changes no linear layer of the base.")
    return Adapter(factors, scaling)


def _first_direction(A: Tensor, B: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The first singular vectors and value of B @ A: [out, 1], [1], [1, in]; from factors of the rank's size."""
    (left_basis, left), (right_basis, right) = (torch.linalg.qr(factor.double()) for factor in (B, A.T))
    U, values, V = torch.linalg.svd(left @ right.T)
    return (left_basis @ U[:, :1]).float(), values[:1], (V[:1] @ right_basis.T).float()


def truncated_svd(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the largest singular values of [out, in] with their vectors: [out, rank], [rank], [rank, in].

    Randomized for large matrices, with a fixed seed that leaves torch's own generator as it was.
    """
    if min(matrix.shape) <= max(_EXACT, rank + _MORE):
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    else:
        with torch.random.fork_rng(devices=[matrix.device] if matrix.is_cuda else []):
            torch.manual_seed(0)
            left, values, right = torch.svd_lowrank(matrix, q=rank + _MORE, niter=_PASSES)
        right = right.T
    return left[:, :rank], values[:rank], right[:rank]
