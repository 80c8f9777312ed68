"""Mean activation differences: what a diff changes in the residual stream of texts that have nothing to do with it.

Ours, over a handful of texts and per layer, and what the lens as published is made of: means over very many texts.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, TypedDict, Unpack

import torch
from torch import Tensor

from dit_core.engine.activations import parse_layers, recording, stopping_after
from dit_core.engine.batching import batch_size
from dit_core.engine.generation import Batch, check_rows, overflow_error
from dit_core.engine.model import Model
from dit_core.errors import DitError, MixedRowsError, checked_integer, checked_number, checked_text
from dit_core.methods.sampling import Diffs, Layers, named_diffs
from dit_core.records import DiffInfo, Similarity, Table
from dit_core.records.condition import MAX_NUMBER, Condition, as_list
from dit_core.request.conditions import row_strengths
from dit_core.request.targets import MIN_RELATIVE_DIFFERENCE, TargetTokens, target_activations
from dit_core.suite import Suite
from dit_core.suite.offload import at_model

POSITIONS = 5  # tokens to read at the start of each text
# Read where a suite has no questions of its own to read.
TEXTS = (
    "The train to the coast leaves at nine every morning.",
    "She put the letter back into the drawer and locked it.",
    "Most of the shops in this street close early on Sundays.",
    "A cold wind came down from the hills after dark.",
    "He could not remember where he had left his umbrella.",
    "Bread is baked in the village oven once a week.",
    "There are three ways to get from here to the station.",
    "Our neighbours have painted their fence a bright yellow.",
    "In the end, nobody knew who had ordered the second cake.",
    "Please write your name and address at the top of the page.",
    "When the music stopped, everyone looked at the clock.",
    "Two of the five chairs in the kitchen are broken.",
    "They spent the whole summer mending the old boat.",
    "It was raining, so the children stayed inside and drew.",
    "Some people prefer tea, others would rather drink coffee.",
    "The library has moved to a larger building near the park.",
    "You can see the river from the window on the top floor.",
    "Before the meeting, I would like to read the report again.",
    "An old dog was sleeping in the shade of the wall.",
    "What happened next was not in any of the newspapers.",
)


class DifferenceOptions(TypedDict, total=False):
    """What a mean difference is taken from; the docstring of `difference_lens` says what each means."""

    strength: float
    texts: str | Sequence[str] | None
    positions: int


@dataclass(frozen=True)
class DifferenceRequest:
    """A checked request for mean differences of `infos`, at `strength`, over the first `positions` of `texts`.

    `texts` is None for the suite's own, which differ by the diff's task.
    """

    suite: Suite
    infos: tuple[DiffInfo, ...]
    strength: float
    texts: tuple[str, ...] | None
    positions: int

    @property
    def settings(self) -> dict[str, Any]:
        """The request as a table's `extra` has it; `texts` is None for the suite's own."""
        return {"strength": self.strength, "positions": self.positions, "texts": self.texts and list(self.texts)}

    def texts_for(self, info: DiffInfo) -> tuple[str, ...]:
        """The texts to read for a diff."""
        return self.texts or _own_texts(self.suite, info) or TEXTS


def difference_request(
    suite: Suite,
    diff: Diffs,
    *,
    strength: float = 1.0,
    texts: str | Sequence[str] | None = None,
    positions: int = POSITIONS,
) -> DifferenceRequest:
    """Check what mean differences are taken from, and fetch the files; arguments and DitErrors of `difference_lens`."""
    infos = [] if diff is None else named_diffs(suite, diff)
    if not infos:
        raise DitError("The lens looks at what a diff changes: choose a diff.")
    strength = checked_number(strength, "The diff's strength", -MAX_NUMBER, MAX_NUMBER)
    if not strength:
        raise DitError("At strength 0 the diff changes nothing: give the lens another strength.")
    own = None if texts is None else tuple(dict.fromkeys(checked_text(t, "A text to read") for t in as_list(texts)))
    if own == ():
        raise DitError("There are no texts to read: give at least one, or leave them out for the suite's own.")
    positions = checked_integer(positions, "The number of positions", 1, 100)
    suite.fetch(infos)
    return DifferenceRequest(suite, tuple(infos), strength, own, positions)


def _own_texts(suite: Suite, info: DiffInfo) -> tuple[str, ...]:
    """The suite's questions of all tasks, but for those by which this diff's own task asks for what was trained."""
    own = suite.task_of(info)
    texts = [text for task in suite.tasks.values() for text in task.questions]
    texts += suite.world.get("held_out_questions", [])
    return tuple(dict.fromkeys(text for text in texts if text not in (own.question, own.behaviour)))


@dataclass(frozen=True)
class MeanDifference:
    """`vectors` [places, d_model] with the (layer, position) of each; places where nothing changes are left out."""

    places: tuple[tuple[int, int], ...]
    vectors: Tensor

    def at(self, layer: int) -> Tensor:
        """The mean over the positions of one layer: [d_model]. Raises DitError where the diff changes nothing."""
        rows = [row for row, (own_layer, _) in enumerate(self.places) if own_layer == layer]
        if not rows:
            raise DitError(f"The diff changes nothing at layer {layer}: choose a later one.")
        return self.vectors[rows].mean(0)


def mean_difference(request: DifferenceRequest, info: DiffInfo, layers: Layers) -> MeanDifference:
    """Return the mean over texts of (base with the diff - base), per layer and position. Worker's thread only.

    Texts are read as they are, without chat template. Positions count from a text's first token, behind special ones
    that the tokenizer puts in front; a text with fewer tokens is left out of the later positions. Source: arXiv
    2510.13900.

    Raises:
        DitError: the texts are too short, the activations overflow, or the diff changes nothing at these layers.
    """
    suite = request.suite
    numbers = parse_layers(suite.model, layers)
    condition = Condition(request.strength)
    aims, places = [], []
    for text in request.texts_for(info):
        ids, start = _read(suite.model, text, request.positions)
        if start < len(ids):
            # Nothing that stands behind the positions reaches them.
            aims.append(TargetTokens(info, condition, text, ids, len(ids)))
            places.append(range(start, len(ids)))
    longest = max(map(len, places), default=0)
    if longest < request.positions:
        raise DitError(f"No text has more than {longest} tokens: give longer texts, or ask for {longest} positions.")
    differences = target_activations(suite, aims, places, numbers, "difference")
    columns = [torch.stack([own[:, at] for own in differences if at < own.shape[1]]) for at in range(longest)]
    means = torch.stack([column.mean(0) for column in columns], dim=1)
    if not means.isfinite().all():
        raise DitError(f"At strength {request.strength:g} the activations overflow: use a smaller strength.")
    acting = means.abs().sum(-1).nonzero().tolist()
    if not acting:
        raise DitError(f"The diff '{info.id}' changes nothing at these layers: choose later ones.")
    vectors = torch.stack([means[at, position] for at, position in acting])
    return MeanDifference(tuple((numbers[at], position) for at, position in acting), vectors)


@at_model
def similarities(
    suite: Suite, diff: Diffs, *, layers: Layers = "all", **source: Unpack[DifferenceOptions]
) -> Table[Similarity]:
    """Return the cosine between a diff's mean differences, for each pair of layers and positions.

    Arguments and DitErrors are those of `difference_lens`.
    """
    request = difference_request(suite, diff, **source)
    means = suite.worker.run(lambda: [(info, mean_difference(request, info, layers)) for info in request.infos])
    records = (record for info, mean in means for record in _similarities(info, mean))
    return suite.table("similarities", records, {"settings": request.settings})


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


# ---------------------------------------------------------------- over very many texts, as published

SKIPPED = 5  # first positions, whose activations are unlike all others': they do not count for a model's norm
MAX_ROWS = 256  # of one batch, before memory has its say
MAX_SIDES = 8  # diffs that share one reading of the base


@dataclass(frozen=True)
class MeanActivations:
    """Mean activations over texts of one model, the base or the base with a diff.

    Attributes:
        vectors: [layers, positions, d_model], in float32.
        norms: [layers], the mean Euclidean norm of the activations behind the first `SKIPPED` positions.
    """

    vectors: Tensor
    norms: Tensor

    def minus(self, base: "MeanActivations") -> Tensor:
        """Return the difference [layers, positions, d_model] to the base's; zero where it is no more than rounding."""
        difference = self.vectors - base.vectors
        difference[difference.norm(dim=-1) <= MIN_RELATIVE_DIFFERENCE * base.vectors.norm(dim=-1)] = 0
        return difference


def stream_means(
    suite: Suite, infos: Sequence[DiffInfo], rows: Sequence[Sequence[int]], layers: Sequence[int], positions: int
) -> Generator[int, None, list[MeanActivations]]:
    """Read texts with the base and with each of a few diffs; return the means of the base, then of each diff.

    Base and diffs are rows of the same batches, and nothing is kept but sums, in float64. A row with fewer tokens is
    left out of the later positions. Worker's thread only.

    Args:
        suite: the suite.
        infos: at most `MAX_SIDES` diffs.
        rows: token ids of each text, special tokens in front of it among them.
        layers: layer l is the output of decoder block l; none after the last of them is computed.
        positions: how many positions to take means of, from the first token on.

    Yields:
        How many tokens a batch had, on all sides.

    Raises:
        DitError: texts are too short, or the activations overflow.
    """
    if max(map(len, rows), default=0) <= max(SKIPPED, positions - 1):
        raise DitError(f"No text has more than {max(SKIPPED, positions - 1)} tokens: give longer texts.")
    check_rows(suite.model, rows, {})
    sides = (None, *infos)
    sums = torch.zeros(len(layers), len(sides), positions, suite.model.d_model, dtype=torch.float64)
    norms = torch.zeros(len(layers), len(sides), dtype=torch.float64)
    size = batch_size(suite.model, f"means of {len(sides)}", MAX_ROWS // len(sides))
    for attempt in size.attempts(sorted(rows, key=len)):
        with attempt as texts:
            hidden = _read_sides(suite, sides, texts, layers)
            there = torch.arange(hidden[0].shape[2]) < torch.tensor([len(text) for text in texts])[:, None]
            for layer, own in enumerate(hidden):
                first = own[:, :, :positions].cpu().double() * there[:, None, :positions, None]
                sums[layer, :, : first.shape[2]] += first.sum(0)
                later = own[:, :, SKIPPED:].float().norm(dim=-1).cpu().double() * there[:, None, SKIPPED:]
                norms[layer] += later.sum((0, 2))
        if attempt.fitted:
            yield sum(map(len, texts)) * len(sides)
    if not (sums.isfinite().all() and norms.isfinite().all()):
        raise overflow_error(suite.model)
    counts = torch.tensor([sum(len(row) > position for row in rows) for position in range(positions)])
    means = (sums / counts[:, None]).float()
    sizes = (norms / sum(max(len(row) - SKIPPED, 0) for row in rows)).float()
    return [MeanActivations(means[:, side], sizes[:, side]) for side in range(len(sides))]


def _read_sides(
    suite: Suite, sides: Sequence[DiffInfo | None], texts: Sequence[Sequence[int]], layers: Sequence[int]
) -> list[Tensor]:
    """Return the activations of every text on every side, [texts, sides, most positions, d_model] for each layer."""
    model, rows = suite.model, [text for text in texts for _ in sides]
    who = [(info, Condition(1.0 if info else 0.0)) for _ in texts for info in sides]
    try:
        acting = model.strengths(row_strengths(suite, who))
    except MixedRowsError:  # then each side by itself
        if len(sides) == 1:
            raise
        alone = [_read_sides(suite, [side], texts, layers) for side in sides]
        return [torch.cat(own, dim=1) for own in zip(*alone, strict=True)]
    batch, lengths = Batch(model, rows, 0), [len(row) for row in rows]
    acting.at(*batch.window)
    recorded = recording(model, lengths, [range(length) for length in lengths], layers)
    with torch.inference_mode(), acting, recorded as taken, stopping_after(model, max(layers)):
        batch.forward()
    return [taken[layer].reshape(len(texts), len(sides), *taken[layer].shape[1:]) for layer in layers]
