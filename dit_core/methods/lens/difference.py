"""Mean activation differences: what a diff changes in the residual stream of texts that have nothing to do with it."""

from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Unpack

import torch
from torch import Tensor

from dit_core.engine.activations import checked_layers
from dit_core.engine.model import Model
from dit_core.errors import DitError
from dit_core.methods.lens.stream import Source, Unrelated, unrelated
from dit_core.methods.verbalize import Diffs
from dit_core.records import DiffInfo, Similarity, Table
from dit_core.request.conditions import Condition
from dit_core.request.targets import Aim, activations
from dit_core.suite import Suite
from dit_core.suite.offload import at_model


@dataclass(frozen=True)
class MeanDifference:
    """`vectors` [places, d_model] with the (layer, position) of each; places where nothing changes are left out."""

    places: tuple[tuple[int, int], ...]
    vectors: Tensor

    def at(self, layer: int) -> Tensor:
        """The mean over the positions of one layer: [d_model]. Raises DitError where the diff changes nothing."""
        found = [at for at, (own, _) in enumerate(self.places) if own == layer]
        if not found:
            raise DitError(f"The diff changes nothing at layer {layer}: choose a later one.")
        return self.vectors[found].mean(0)


def mean_difference(wanted: Unrelated, info: DiffInfo, layers: Any) -> MeanDifference:
    """The mean over texts of (base with the diff - base), per layer and position. Worker's thread only.

    Texts are read as they are, without chat template. Positions count from a text's first token, behind special ones
    that the tokenizer puts in front; a text with fewer tokens is left out of the later positions.
    """
    suite = wanted.suite
    numbers = checked_layers(suite.model, layers)
    condition = Condition(wanted.strength)
    aims, places = [], []
    for text in wanted.texts_for(info):
        ids, start = _read(suite.model, text, wanted.positions)
        if start < len(ids):
            # Nothing that stands behind the positions reaches them.
            aims.append(Aim(info, condition, text, ids, len(ids)))
            places.append(range(start, len(ids)))
    longest = max(map(len, places), default=0)
    if longest < wanted.positions:
        raise DitError(f"No text has more than {longest} tokens: give longer texts, or ask for {longest} positions.")
    found = activations(suite, aims, places, numbers, "difference")
    columns = [torch.stack([one[:, at] for one in found if at < one.shape[1]]) for at in range(longest)]
    means = torch.stack([column.mean(0) for column in columns], dim=1)
    if not means.isfinite().all():
        raise DitError(f"At strength {wanted.strength:g} the activations overflow: use a smaller strength.")
    acting = means.abs().sum(-1).nonzero().tolist()
    if not acting:
        raise DitError(f"The diff '{info.id}' changes nothing at these layers: choose later ones.")
    vectors = torch.stack([means[at, position] for at, position in acting])
    return MeanDifference(tuple((numbers[at], position) for at, position in acting), vectors)


@at_model
def similarities(suite: Suite, diff: Diffs, *, layers: Any = "all", **source: Unpack[Source]) -> Table[Similarity]:
    """The cosine between a diff's mean differences, for each pair of layers and positions; arguments as of `lens`."""
    wanted = unrelated(suite, diff, **source)
    found = suite.worker.run(lambda: [(info, mean_difference(wanted, info, layers)) for info in wanted.infos])
    records = (one for info, mean in found for one in _similarities(info, mean))
    return suite.table("similarities", records, {"settings": wanted.settings})


def _similarities(info: DiffInfo, mean: MeanDifference) -> list[Similarity]:
    units = mean.vectors.double()
    units /= units.norm(dim=-1, keepdim=True)
    cosines = (units @ units.T).clamp(-1, 1).tolist()
    return [
        Similarity(info.id, *place, *other, cosine)
        for place, row in zip(mean.places, cosines, strict=True)
        for other, cosine in zip(mean.places, row, strict=True)
    ]


def _read(model: Model, text: str, positions: int) -> tuple[tuple[int, ...], int]:
    """A text's tokens up to the last position to read, and where its first one stands."""
    ids = model.tokenizer.encode(text)
    special = set(model.tokenizer.all_special_ids)
    start = sum(1 for _ in takewhile(special.__contains__, ids))
    return tuple(ids[: start + positions]), start
