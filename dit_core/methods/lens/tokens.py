"""Lens: the words in a diff's mean activation difference, by logit lens and by patchscope."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Unpack

import torch
from torch import Tensor

from dit_core.engine.activations import replacing_last_position
from dit_core.engine.batching import batch_size
from dit_core.engine.generation import Batch
from dit_core.engine.model import Model
from dit_core.errors import DitError, checked_integer, checked_number, did_you_mean
from dit_core.methods.lens.difference import DifferenceOptions, MeanDifference, difference_request, mean_difference
from dit_core.methods.sampling import Diffs, Layers
from dit_core.records import DiffInfo, LensToken, Table
from dit_core.records.condition import as_list
from dit_core.request.targets import depth_percent
from dit_core.suite import Suite
from dit_core.suite.offload import at_model

METHODS = ("logit lens", "patchscope")
SCALES = (0.5, 1.0, 2.0, 4.0)
PROMPT = "king king\n1135 1135\nhello hello\n?"  # a token's own repetition is what comes next
MAX_ROWS = 64  # vectors of one batch, before memory has its say

Distribution = Callable[[Model, Sequence[int], Tensor], Tensor]
"""Layers and vectors [rows, d_model] to probabilities [rows, vocabulary]."""


@at_model
def difference_lens(
    suite: Suite,
    diff: Diffs,
    *,
    layers: Layers = "all",
    top: int = 5,
    methods: str | Sequence[str] = METHODS,
    scales: float | Sequence[float] = SCALES,
    **source: Unpack[DifferenceOptions],
) -> Table[LensToken]:
    """Return the likeliest tokens in a diff's mean activation differences (Activation Difference Lens).

    A mean difference is that over unrelated texts of (base with diff - base), at each of their first tokens (arXiv
    2510.13900). Layers and positions where the diff changes nothing are left out.

    Args:
        suite: what `load_suite` gave.
        diff: ids or references.
        layers: `all` (the default), numbers, or text like `0,3-5` or `25%,50%`.
        top: tokens per method, layer and position; 5 by default.
        methods: `logit lens` (final norm and unembedding of the vector), `patchscope` (see `patchscope`), or both.
        scales: of the patchscope, numbers above 0.
        strength: of the diff, any real number but 0; 1 by default.
        texts: to read; by default the suite's everyday questions, or sentences about nothing where it has none.
        positions: how many tokens to read at the start of each text; 5 by default.

    Returns:
        `top` records per diff × method × layer × position, the likeliest first.

    Raises:
        DitError: what was asked makes no sense for this base, or a file is missing or damaged.
    """
    request = difference_request(suite, diff, **source)
    top = checked_integer(top, "The number of tokens", 1, 1000)
    chosen = list(dict.fromkeys(as_list(methods)))
    for method in chosen:
        if method not in METHODS:
            nearest = did_you_mean(str(method), METHODS)
            raise DitError(f"The lens has no method '{method}': use {' or '.join(METHODS)}.{nearest}")
    factors = tuple(checked_number(scale, "A scale of the patchscope", 0.001, 1000) for scale in as_list(scales))
    if not chosen or not factors:
        raise DitError("Nothing was asked of the lens: give at least one method and one scale, or leave them out.")

    def compute() -> tuple[LensToken, ...]:
        distributions: dict[str, Distribution] = {
            "logit lens": _logit_lens,
            "patchscope": partial(patchscope, scales=factors),
        }
        means = [(info, mean_difference(request, info, layers)) for info in request.infos]
        return tuple(
            record
            for info, mean in means
            for method in chosen
            for record in _records(suite, info, mean, method, distributions[method], top)
        )

    settings = request.settings | {"top": top, "scales": list(factors)}
    return suite.table("lens", suite.worker.run(compute), {"settings": settings})


def patchscope(model: Model, layers: Sequence[int], vectors: Tensor, scales: Sequence[float] = SCALES) -> Tensor:
    """Return what the base repeats when a vector is put in place of a token: probabilities [vectors, vocabulary].

    `vectors[i]` [d_model] replaces the residual of the last token of a token-identity prompt at the output of block
    `layers[i]`, in its own direction at `scale` times the size of what stood there. The distributions of the next
    token are averaged over the scales, as no one of them is the right one for every layer, and picking the best would
    need a judge. Source: Patchscopes, arXiv 2401.06102. Worker's thread only.
    """
    prompt = model.tokenizer.encode(PROMPT)
    each = len(scales)
    rows, repeated = [layer for layer in layers for _ in scales], vectors.repeat_interleave(each, dim=0)
    with torch.inference_mode(), replacing_last_position(model, rows, repeated, [*scales] * len(vectors)):
        logits = Batch(model, [prompt] * len(rows), 0).forward()[:, -1]
    probabilities: Tensor = logits.softmax(-1).reshape(len(vectors), each, -1).mean(1)
    return probabilities


def _logit_lens(model: Model, layers: Sequence[int], vectors: Tensor) -> Tensor:
    return model.unembed(vectors).softmax(-1)


def _records(
    suite: Suite, info: DiffInfo, mean: MeanDifference, method: str, distribution: Distribution, top: int
) -> list[LensToken]:
    model = suite.model

    def likeliest(part: Sequence[int]) -> list[tuple[list[float], list[int]]]:
        probabilities = distribution(model, [mean.places[row][0] for row in part], mean.vectors[list(part)])
        best = probabilities.topk(min(top, probabilities.shape[-1]))
        return list(zip(best.values.tolist(), best.indices.tolist(), strict=True))

    records = []
    for part, tokens in batch_size(model, method, MAX_ROWS).map(range(len(mean.places)), likeliest):
        for row, (weights, ids) in zip(part, tokens, strict=True):
            layer, position = mean.places[row]
            where = (info.id, layer, depth_percent(suite, layer), position, method)
            listed = zip(model.pieces(ids), weights, strict=True)
            records += [LensToken(*where, place, token, weight) for place, (token, weight) in enumerate(listed)]
    return records
