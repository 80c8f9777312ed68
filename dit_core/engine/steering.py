"""Steering: vectors added to the residual stream, or put in its place, each row of a batch at a layer of its own.

Context managers over a model's blocks, that leave nothing behind. Rows are left-padded batches.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from dit_core.engine.activations import parse_layers, with_hidden
from dit_core.engine.model import Model
from dit_core.errors import DitError

# Changes the hidden states [rows, width, d_model] of the rows given by index.
Change = Callable[[Tensor, Tensor], Tensor]


@contextmanager
def adding_vectors(model: Model, layers: Sequence[int], vectors: Tensor) -> Iterator[None]:
    """Add `vectors[row]` to the output of block `layers[row]` at every position, inside the context.

    The batch must keep all of its rows. `vectors` is [rows, d_model].

    Raises:
        DitError: the base has no such layer, or vectors are not finite or not one per row.
    """

    def add(hidden: Tensor, rows: Tensor) -> Tensor:
        return hidden[rows] + vectors[rows, None].to(hidden)

    with _changing(model, layers, vectors, add):
        yield


@contextmanager
def replacing_last_position(
    model: Model, layers: Sequence[int], vectors: Tensor, scales: Sequence[float]
) -> Iterator[None]:
    """Replace the output h of block `layers[row]` at the row's last position, inside the context.

    By `scales[row] * |h| * v / |v|` with v = `vectors[row]`: the vector's direction at the size of what it replaces.
    `vectors` is [rows, d_model].

    Raises:
        DitError: as `adding_vectors` does, and for a vector of zeros, which has no direction.
    """
    vectors = vectors.float().cpu()
    norms = vectors.norm(dim=-1, keepdim=True)
    if not norms.all():
        raise DitError("A vector of zeros has no direction to put in: choose a layer where the diff acts.")
    units = vectors / norms * torch.tensor(scales)[:, None]

    def replace(hidden: Tensor, rows: Tensor) -> Tensor:
        changed = hidden[rows]
        sizes = changed[:, -1].float().norm(dim=-1, keepdim=True)
        changed[:, -1] = (sizes * units[rows].to(sizes)).to(changed)
        return changed

    with _changing(model, layers, vectors, replace):
        yield


@contextmanager
def _changing(model: Model, layers: Sequence[int], vectors: Tensor, change: Change) -> Iterator[None]:
    """Change the output of every block that some row names, inside the context."""
    if len(layers) != len(vectors):
        raise DitError(f"{len(vectors)} vectors can't be put at {len(layers)} layers: give one layer for each.")
    if not vectors.isfinite().all():
        raise DitError("The vectors to steer with are not finite numbers: use a smaller strength.")
    where = torch.tensor(layers)
    with ExitStack() as stack:
        for layer in parse_layers(model, layers):
            hook = partial(_hook, change, (where == layer).nonzero()[:, 0])
            stack.callback(model.layers[layer].register_forward_hook(hook).remove)
        yield


def _hook(change: Change, rows: Tensor, module: Any, args: Any, output: Any) -> Any:
    """A forward hook that changes some rows of a block's output."""
    return with_hidden(output, lambda hidden: hidden.index_copy(0, rows.to(hidden.device), change(hidden, rows)))
