"""Reading and changing the residual stream: what flows from one decoder block of a model to the next.

`recording` and `injecting` are context managers over a model's blocks, and leave nothing behind; `residuals` takes
all layers of many rows in one forward pass. Rows are left-padded batches; positions are those of the bare rows.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from numbers import Integral
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize
from torch.nn.utils.rnn import pad_sequence

from dit_core.engine.full_weights import with_hidden
from dit_core.engine.generation import Batch, check_rows
from dit_core.engine.model import Model
from dit_core.errors import DitError
from dit_core.records.layers import layer_range, parse_range

Positions = Sequence[Sequence[int]]
EFFECT_PROMPTS = 32  # over which an adapter's mean effect is taken


@contextmanager
def recording(
    model: Model, lengths: Sequence[int], positions: Positions, layers: Sequence[int]
) -> Iterator[dict[int, Tensor]]:
    """Record the residual stream of every forward pass inside the context, by layer.

    Args:
        lengths: how many tokens each row of the left-padded batch has.
        positions: which of its tokens to take, for each row.
        layers: layer l is the output of decoder block l, before the final norm.

    Yields:
        A dict that a forward pass fills: [rows, most positions, d_model] by layer; rows with fewer positions repeat
        their first.

    Raises:
        DitError: the base has no such layer, or a row no such position.
    """
    _check_layers(model, layers)
    where = _padded(lengths, positions)
    taken: dict[int, Tensor] = {}

    def take(layer: int, hidden: Tensor) -> None:
        rows, columns = _index(hidden, lengths, where)
        taken[layer] = hidden[rows, columns]

    with ExitStack() as stack:
        for layer in dict.fromkeys(layers):
            hook = partial(_hand_on, take, layer)
            stack.callback(model.layers[layer].register_forward_hook(hook).remove)
        yield taken


class _Enough(Exception):
    """What ends a forward pass."""


@contextmanager
def stopping_after(model: Model, layer: int) -> Iterator[None]:
    """End the forward pass inside the context, and with it the context, once block `layer` has been computed."""

    def stop(*_: Any) -> None:
        raise _Enough

    handle = model.layers[layer].register_forward_hook(stop)
    try:
        with suppress(_Enough):
            yield
    finally:
        handle.remove()


@contextmanager
def injecting(
    model: Model,
    lengths: Sequence[int],
    positions: Positions,
    vectors: Sequence[Tensor],
    block: int = 1,
    coefficient: float = 1.0,
) -> Iterator[None]:
    """Add vectors to the output h of a block, inside the context: `h + coefficient * |h| * v / |v|`.

    The norm-matched addition of activation oracles (arXiv 2512.15674). Gradients flow through it. Open it around the
    prefill alone.

    Args:
        lengths: how many tokens each row of the left-padded batch has.
        positions: where in each row, counted from its first token.
        vectors: [positions of the row, d_model] for each row.
        block: the number of the decoder block.
        coefficient: how large the added vector is, as a share of |h|.

    Raises:
        DitError: a vector of zeros, which has no direction, or a block, a position or vectors that do not fit.
    """
    _check_layers(model, [block])
    where = _padded(lengths, positions)
    for places, own in zip(positions, vectors, strict=True):
        if own.shape != (len(places), model.d_model):
            raise DitError(
                f"{len(places)} places can't hold activations of the shape {list(own.shape)}: give a vector of "
                f"{model.d_model} numbers for each."
            )
    units = coefficient * _directions(vectors)

    def add(hidden: Tensor) -> Tensor:
        rows, columns = _index(hidden, lengths, where)
        norms = hidden[rows, columns].float().norm(dim=-1, keepdim=True)
        added = (norms * units.to(hidden.device)).to(hidden.dtype)
        return hidden.index_put((rows, columns), added, accumulate=True)

    handle = model.layers[block].register_forward_hook(lambda module, args, output: with_hidden(output, add))
    try:
        yield
    finally:
        handle.remove()


def residuals(
    model: Model,
    rows: Sequence[Sequence[int]],
    strengths: Mapping[str, Tensor],
    positions: Positions,
    layers: Sequence[int],
) -> list[Tensor]:
    """Return the residual stream of each row at its positions, all layers in one forward pass.

    Args:
        rows: token ids of each row.
        strengths: as in `Model.strengths`.
        positions: which tokens of each row.
        layers: layer l is the output of decoder block l, before the final norm.

    Returns:
        [layers, positions, d_model] for each row, in float32 and host memory.

    Raises:
        DitError: no row, a row without tokens, strengths for other rows, or no such layer or position.
    """
    lengths = [len(row) for row in rows]
    check_rows(model, rows, strengths)
    batch, acting = Batch(model, rows, 0), model.strengths(strengths)
    acting.at(*batch.window)
    with torch.inference_mode(), acting, recording(model, lengths, positions, layers) as taken:
        batch.forward()
    stacked = torch.stack([taken[layer].float().cpu() for layer in layers], dim=1)
    return [stacked[row, :, : len(places)].clone() for row, places in enumerate(positions)]


def mean_effect(model: Model, prompts: Sequence[Sequence[int]], slot: str, layers: Iterable[int]) -> dict[int, Tensor]:
    """Return the vectors that move the base's residual stream as far as an adapter does on average, by layer.

    With h_l(p) the output of decoder block l at the last position of prompt p, and < > the mean over the prompts,

        v_l = <h_l(p) with one copy of the adapter> - <h_l(p) with the vectors v_k of all layers k < l>

    where v_k is added behind block k at every position. So behind each of the `layers` the mean over the prompts is
    just what it is with the adapter; for the first (or only) layer v_l is the plain mean difference. Two passes.

    Args:
        prompts: token ids of each, no two of them equal.
        slot: with one adapter, which acts on all of its layers.
        layers: those that get a vector, each [d_model] in float32; the others get none.

    Raises:
        DitError: there is no prompt, or one without tokens; no such slot or layer; or the numbers overflow.
    """
    wanted, last = parse_layers(model, list(layers)), [[len(prompt) - 1] for prompt in prompts]
    with_adapter = residuals(model, prompts, {slot: torch.ones(len(prompts), 1, 1)}, last, wanted)
    targets = dict(zip(wanted, torch.stack(with_adapter)[:, :, 0].mean(0), strict=True))
    vectors: dict[int, Tensor] = {}

    def add(layer: int, hidden: Tensor) -> Tensor:
        vectors[layer] = targets[layer].to(hidden.device) - hidden[:, -1].float().mean(0)
        return hidden + vectors[layer].to(hidden.dtype)

    with torch.inference_mode(), model.strengths({}), ExitStack() as stack:
        for layer in wanted:
            block, change = model.layers[layer], partial(add, layer)
            hook = block.register_forward_hook(lambda _block, _inputs, out, change=change: with_hidden(out, change))
            stack.callback(hook.remove)
        Batch(model, prompts, 0).forward()
    return vectors


def parse_layers(model: Model, layers: Any) -> list[int]:
    """Return layers as sorted numbers: of `all`, one number, several, or text like `0,3-5` or `50%,75%`.

    Raises:
        DitError: none is asked for, the text is not understood, or the base has no such layer.
    """
    count = len(model.layers)
    if layers is None or (isinstance(layers, str) and layers.strip().casefold() == "all"):
        return list(range(count))
    if isinstance(layers, str):
        layers = layers.split(",")
    parts = list(layers) if isinstance(layers, Iterable) else [layers]
    spans = [_parse_span(part, count) if isinstance(part, str) else [part] for part in parts]
    _check_layers(model, [layer for span in spans for layer in (span[0], span[-1])])
    numbers = [layer for span in spans for layer in span]
    if not numbers:
        raise DitError(f"No layer was asked for: give 'all', or numbers from 0 to {count - 1}.")
    _check_layers(model, numbers)
    return sorted({int(number) for number in numbers})


def _parse_span(part: str, count: int) -> Sequence[int]:
    """The layers of one part of a list, `3`, `3-5`, `50%` or `25%-50%`."""
    first, last = layer_range(parse_range(part), count)
    return range(first, last + 1)


def _check_layers(model: Model, layers: Sequence[int]) -> None:
    count = len(model.layers)
    for layer in layers:
        if isinstance(layer, bool) or not isinstance(layer, Integral) or not 0 <= layer < count:
            raise DitError(f"The base has no layer {layer}: its {count} layers are counted from 0 to {count - 1}.")


def _padded(lengths: Sequence[int], positions: Positions) -> Tensor:
    """Positions as [rows, most of them], shorter rows filled with their first; DitError for one outside its row."""
    for length, places in zip(lengths, positions, strict=True):
        if not len(places):
            raise DitError("A row has no position to read or change: give at least one.")
        for place in (min(places), max(places)):
            if not 0 <= place < length:
                raise DitError(f"A row of {length} tokens has no position {place}: count from 0 to {length - 1}.")
    most = max(map(len, positions))
    return torch.tensor([[*places, *[places[0]] * (most - len(places))] for places in positions])


def _directions(vectors: Sequence[Tensor]) -> Tensor:
    """Each vector at length 1, in float32: [rows, most of them, d_model].

    What fills shorter rows stays zero, and so adds nothing where `_padded` repeats their first position.
    """
    norms = torch.cat([own.detach().float().norm(dim=-1) for own in vectors])
    if not norms.isfinite().all():
        raise DitError("The activations to inject are not finite numbers: use a smaller strength.")
    if not norms.all():
        raise DitError(
            "There is nothing to inject: the difference is zero where no diff acts. Choose a condition with a "
            "diff, or read the activations themselves."
        )
    return normalize(pad_sequence([own.float() for own in vectors], batch_first=True), dim=-1, eps=1e-30)


def _index(hidden: Tensor, lengths: Sequence[int], where: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and columns of `hidden` [rows, width, d_model] for positions of rows that stand at its right."""
    offsets = hidden.shape[1] - torch.tensor(lengths)[:, None]
    columns = (where + offsets).to(hidden.device)
    return torch.arange(len(lengths), device=hidden.device)[:, None].expand_as(columns), columns


def _hand_on(take: Callable[[int, Tensor], None], layer: int, module: Any, args: Any, output: Any) -> None:
    """A forward hook that gives a block's hidden states to `take`."""
    take(layer, output[0] if isinstance(output, tuple) else output)


@contextmanager
def replacing_last_position(
    model: Model, layers: Sequence[int], vectors: Tensor, scales: Sequence[float] | None = None
) -> Iterator[None]:
    """Replace the output h of block `layers[row]` at the row's last position, inside the context.

    By v = `vectors[row]` as it is or, with scales, by `scales[row] * |h| * v / |v|`: its direction at the size of what
    it replaces. `vectors` is [rows, d_model].

    Raises:
        DitError: the base has no such layer, or vectors are not finite, not one per row, or zeros without direction.
    """
    if len(layers) != len(vectors):
        raise DitError(f"{len(vectors)} vectors can't be put at {len(layers)} layers: give one layer for each.")
    vectors, where = vectors.float().cpu(), torch.tensor(layers)
    if not vectors.isfinite().all():
        raise DitError("The vectors to put in are not finite numbers: use a smaller strength.")
    if not (norms := vectors.norm(dim=-1, keepdim=True)).all():
        raise DitError("A vector of zeros has no direction to put in: choose a layer where the diff acts.")
    given = vectors if scales is None else vectors / norms * torch.tensor(scales)[:, None]

    def replace(rows: Tensor, hidden: Tensor) -> Tensor:
        changed = hidden[rows]
        sizes: Any = 1.0 if scales is None else changed[:, -1].float().norm(dim=-1, keepdim=True)
        changed[:, -1] = (sizes * given[rows].to(changed.device)).to(changed)
        return hidden.index_copy(0, rows.to(hidden.device), changed)

    with ExitStack() as stack:
        for layer in parse_layers(model, layers):
            block, change = model.layers[layer], partial(replace, (where == layer).nonzero()[:, 0])
            hook = block.register_forward_hook(lambda _block, _inputs, out, change=change: with_hidden(out, change))
            stack.callback(hook.remove)
        yield
