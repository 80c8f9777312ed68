"""Generation for all rows of a batch at once, token by token, each row under its own strengths."""

import hashlib
import random
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import copy, deepcopy
from dataclasses import dataclass
from math import isnan
from typing import Any

import torch
from torch import Tensor

from dit_core.engine.model import Model
from dit_core.errors import DitError


@dataclass(frozen=True)
class Step:
    """One step of all rows. Rows are in the order of the prompts, those that ended too.

    `tokens[row]` is the token chosen, `probabilities[row]` the model's probability of it at temperature 1.
    `alive[row]` says that this token belongs to the row's answer; it is false for the token that ends the
    turn and from then on (then `tokens[row]` repeats it, with probability 0 after its own step).
    """

    tokens: list[int]
    probabilities: list[float]
    alive: list[bool]


def generate(
    model: Model,
    prompts: Sequence[Sequence[int]],
    strengths: Mapping[str, Tensor],
    max_new_tokens: int,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seeds: Sequence[int] | None = None,
    stop_at_end: bool = True,
    prefill: AbstractContextManager[object] | None = None,
    after_prefill: Callable[["Batch", Tensor], None] | None = None,
    owners: Sequence[int] | None = None,
) -> Iterator[Step]:
    """Generate text for all rows, yielding a `Step` per new token until every row ended its turn.

    Rows of equal prompts and strengths, such as several samples, are read as one where neither `prefill` nor
    `after_prefill` is given.

    Args:
        prompts: token ids of each row.
        strengths: as in `Model.strengths`, positions counted in the left-padded batch.
        max_new_tokens: at most so many tokens per row.
        temperature: 0 is greedy. Else each row's noise comes from its own seed, so that an answer does not depend on
            what else is in the batch.
        top_p: samples from the smallest set of tokens with this probability.
        seeds: one per row, for sampling.
        stop_at_end: False generates on past the end of the turn, to exactly `max_new_tokens`.
        prefill: a context that is open while the prompts are read, and at no later step.
        after_prefill: called with the batch, to be left as it is, and its logits [rows, vocabulary].
        owners: for several answers to each prompt, the place of its prompt for each answer. Answers, not prompts, are
            the rows of seeds and steps then.

    Raises:
        DitError: nothing to answer, sampling that is out of range, strengths for other rows, more tokens than the base
            can read, or numbers that overflow.
    """
    _check_sampling(prompts if owners is None else owners, max_new_tokens, temperature, top_p, seeds)
    check_rows(model, prompts, strengths, max_new_tokens)
    first = list(range(len(prompts)))
    if owners is None and prefill is None and after_prefill is None:
        first, owners = _read_once(prompts, strengths)
    owners = list(first if owners is None else owners)
    acting = model.strengths({slot: tensor[first] for slot, tensor in strengths.items()})
    noise = [random.Random(seed) for seed in seeds] if seeds is not None and temperature > 0 else None
    end_tokens = model.end_tokens if stop_at_end else frozenset()
    batch = Batch(model, [prompts[row] for row in first], max_new_tokens)
    tokens, alive = [0] * len(owners), [True] * len(owners)
    for step in range(max_new_tokens):
        with torch.inference_mode():
            acting.at(*batch.window)
            with acting, prefill if prefill and step == 0 else nullcontext():
                logits = batch.forward()[:, -1]
            if after_prefill and step == 0:
                after_prefill(batch, logits)
            if step == 0 and owners != batch.rows:
                logits = logits[owners]
                batch.expand(owners)
                acting.keep(owners)
            if noise is None:
                chosen = logits.argmax(-1)
            else:
                uniforms = [noise[row].random() for row in batch.rows]
                chosen = sample(logits, temperature, top_p, uniforms)
            # Both in one tensor: one wait for the device in each step.
            on_host = torch.stack([chosen.double(), log_probability(logits, chosen).exp().double()]).tolist()
        if any(map(isnan, on_host[1])):
            raise overflow_error(model)
        probabilities = [0.0] * len(owners)
        for row, token, probability in zip(batch.rows, *on_host, strict=True):
            tokens[row], probabilities[row] = int(token), probability
            alive[row] = int(token) not in end_tokens
        yield Step(list(tokens), probabilities, list(alive))
        going = [place for place, row in enumerate(batch.rows) if alive[row]]
        if not going or step + 1 == max_new_tokens:
            return
        with torch.inference_mode():
            batch.advance(chosen)
            if len(going) < len(batch.rows):
                batch.keep(going)
                acting.keep(going)


def overflow_error(model: Model) -> DitError:
    """Return the error for a forward pass that came to no finite numbers."""
    return DitError(
        f"The model's numbers overflow under these conditions ({str(model.dtype).removeprefix('torch.')}): "
        "give the adapters less strength, or load the base in float32."
    )


def _read_once(prompts: Sequence[Sequence[int]], strengths: Mapping[str, Tensor]) -> tuple[list[int], list[int]]:
    """Return the rows that differ, and for each row the place among them of the one that is equal to it."""
    amounts = [tensor.detach().float().cpu().numpy() for tensor in strengths.values()]
    places: dict[Hashable, int] = {}
    first: list[int] = []
    owners: list[int] = []
    for row, prompt in enumerate(prompts):
        place = places.setdefault((tuple(prompt), *(amount[row].tobytes() for amount in amounts)), len(first))
        if place == len(first):
            first.append(row)
        owners.append(place)
    return first, owners


def sample(logits: Tensor, temperature: float, top_p: float, uniforms: Sequence[float]) -> Tensor:
    """Draw a token id per row, [rows], by inverse CDF from logits [rows, vocabulary] and a uniform number each.

    The CDF runs in the order of the vocabulary and in float64, so that rounding that depends on the batch
    moves a draw only where the number lies within that rounding of a boundary.
    """
    probabilities = (logits.double() / temperature).softmax(-1)
    if top_p < 1:
        ordered = probabilities.sort(-1, descending=True).values
        before = ordered.cumsum(-1) - ordered
        # The smallest set of tokens that holds top_p; the most likely one always stays.
        least = ordered.masked_fill(before >= top_p, torch.inf).amin(-1, keepdim=True)
        probabilities = probabilities * (probabilities >= least)
    cumulative = probabilities.cumsum(-1)
    drawn = torch.tensor(uniforms, dtype=torch.float64, device=logits.device)[:, None] * cumulative[:, -1:]
    return (cumulative <= drawn).sum(-1).clamp(max=logits.shape[-1] - 1)


def row_seed(*parts: object) -> int:
    """Return a seed of 63 bits from what a row is; the same on every machine and in every process."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1


class Batch:
    """The rows still being generated: their tokens, padding mask, positions and cache.

    Attributes:
        rows: which rows of the request are left, in order.
        window: (start, stop) of the positions that the next forward pass reads.
    """

    def __init__(self, model: Model, prompts: Sequence[Sequence[int]], room: int):
        self._base = model.base
        self._width = width = max(map(len, prompts))
        self._padding = [width - len(prompt) for prompt in prompts]
        self.rows = list(range(len(prompts)))
        device = model.device
        padded = [[0] * pad + list(prompt) for pad, prompt in zip(self._padding, prompts, strict=True)]
        self._input = torch.tensor(padded, device=device)
        self._pad = torch.tensor(self._padding, device=device)[:, None]
        self._cache: Any = None
        self.window = (0, width)
        self._make_room(room)

    @property
    def device(self) -> torch.device:
        """The device of its tensors."""
        return self._input.device

    def copy(self, room: int) -> "Batch":
        """Return the same rows with a cache of their own, and room for so many more tokens."""
        twin = copy(self)
        twin._cache = deepcopy(self._cache)
        twin._make_room(room)
        return twin

    def _make_room(self, room: int) -> None:
        self._mask = (torch.arange(self.window[1] + room, device=self.device) >= self._pad).long()

    def forward(self, keep: int = 1) -> Tensor:
        """Read the window and return the logits at its last `keep` positions: [rows, keep, vocabulary] in float32."""
        start, stop = self.window
        place: dict[str, Tensor] = {}
        # Without padding the base needs neither, and saves the work on masks at every step.
        if any(self._padding):
            positions = torch.arange(start, stop, device=self._input.device) - self._pad
            place = {"attention_mask": self._mask[:, :stop], "position_ids": positions.clamp(min=0)}
        out = self._base(
            input_ids=self._input, past_key_values=self._cache, use_cache=True, logits_to_keep=keep, **place
        )
        self._cache = out.past_key_values
        logits: Tensor = out.logits
        return logits[:, -keep:].float()

    def advance(self, tokens: Tensor) -> None:
        """Set the next token of every row ([rows]), or the next few ([rows, tokens]), as what is read next."""
        self._input = tokens.reshape(len(tokens), -1)
        self.window = (self.window[1], self.window[1] + self._input.shape[1])

    def expand(self, owners: list[int]) -> None:
        """Make a row for each answer out of the prompts that were read: `owners` are their places."""
        self.keep(owners)
        self.rows = list(range(len(owners)))

    def keep(self, places: list[int]) -> None:
        """Drop all rows but those at these places, in this order."""
        index = torch.tensor(places, device=self._input.device)
        self.rows = [self.rows[place] for place in places]
        self._padding = [self._padding[place] for place in places]
        self._input, self._pad, self._mask = self._input[index], self._pad[index], self._mask[index]
        self._cache.batch_select_indices(index)


def check_rows(model: Model, rows: Sequence[Sequence[int]], strengths: Mapping[str, Tensor], room: int = 0) -> None:
    """Check that the base can read token rows under strengths; `room` is how many tokens follow each row.

    Raises:
        DitError: there is nothing to read, strengths are for other rows, or the base reads fewer tokens.
    """
    if not rows or not all(len(row) for row in rows):
        raise DitError("There is nothing to answer: give every row a prompt of at least one token.")
    for slot, tensor in strengths.items():
        if tensor.shape[0] != len(rows):
            raise DitError(f"Strengths of '{slot}' are for {tensor.shape[0]} rows, and there are {len(rows)} prompts.")
    longest = max(map(len, rows)) + room
    limit = model.max_positions
    if limit is not None and longest > limit:
        raise DitError(f"The base reads {limit} tokens at most, and this needs {longest}: ask for less.")


def log_probability(logits: Tensor, chosen: Tensor) -> Tensor:
    """Return the log-probability, in nats, of chosen tokens [...] at temperature 1 from logits [..., vocabulary]."""
    return logits.gather(-1, chosen[..., None])[..., 0] - logits.logsumexp(-1)


def _check_sampling(
    rows: Sequence[object], max_new_tokens: int, temperature: float, top_p: float, seeds: Sequence[int] | None
) -> None:
    if max_new_tokens < 1:
        raise DitError(f"The number of new tokens must be at least 1, not {max_new_tokens}.")
    if not 0 <= temperature < float("inf"):
        raise DitError(f"The temperature must be a number of at least 0, not {temperature}.")
    if not 0 < top_p <= 1:
        raise DitError(f"top_p must be above 0 and at most 1, not {top_p}.")
    if temperature > 0 and (seeds is None or len(seeds) != len(rows)):
        raise DitError("Sampling needs a seed for every row: give as many seeds as rows.")
