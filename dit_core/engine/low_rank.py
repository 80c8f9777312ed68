"""The nearest low-rank adapter to a full finetune, and how much of it that keeps."""

import torch
from torch import Tensor, nn

from dit_core.engine.model import Model
from dit_core.errors import DitError
from dit_core.formats import Adapter

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
        module, leaf = model.parts.owners[name]
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
