"""How likely a model finds each of several texts behind one prompt, which is read only once for all of them."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from dit_core.engine.generation import Batch, check_rows, log_probability
from dit_core.engine.model import Model
from dit_core.engine.strengths import Strengths
from dit_core.errors import DitError


def choice_log_probabilities(
    model: Model,
    prompts: Sequence[Sequence[int]],
    choices: Sequence[Sequence[Sequence[int]]],
    strengths: Mapping[str, Tensor],
    prefill: AbstractContextManager[object] | None = None,
) -> list[list[list[float]]]:
    """Return the log-probability, in nats, of each token of each choice, had it followed the row's prompt.

    Args:
        prompts: token ids of each row.
        choices: token ids of each text, for each row.
        strengths: as in `Model.strengths`, positions counted in the left-padded batch of prompts.
        prefill: a context that is open while the prompts are read, and not afterwards.

    Returns:
        Per row and choice, a number per token.

    Raises:
        DitError: a row without choices, a choice without tokens, or more tokens than the base can read.
    """
    texts = [tokens for own in choices for tokens in own]
    if not all(map(len, choices)) or not all(map(len, texts)):
        raise DitError("An empty text has no probability: give every row texts of at least one token.")
    room = max(map(len, texts), default=0)
    check_rows(model, prompts, strengths, room)
    batch, acting = Batch(model, prompts, room), model.strengths(strengths)
    with torch.inference_mode():
        acting.at(*batch.window)
        with acting, prefill or nullcontext():
            logits = batch.forward()[:, -1]
        return continuation_log_probabilities(batch, logits, choices, acting)


def continuation_log_probabilities(
    batch: Batch, logits: Tensor, choices: Sequence[Sequence[Sequence[int]]], acting: Strengths
) -> list[list[list[float]]]:
    """Return the same as `choice_log_probabilities` for a batch that has read the prompts; a row may have no choices.

    `logits` are those at the prompts' ends, [rows, vocabulary]. Uses up `batch` and `acting`.
    """
    owners = [row for row, own in enumerate(choices) for _ in own]
    texts = [tokens for own in choices for tokens in own]
    first = torch.tensor([tokens[0] for tokens in texts], dtype=torch.long, device=logits.device)
    scores = [[score] for score in log_probability(logits[owners], first).tolist()]
    longer = [place for place, tokens in enumerate(texts) if len(tokens) > 1]
    if longer:
        batch.keep([owners[place] for place in longer])
        acting.keep([owners[place] for place in longer])
        for place, rest in zip(longer, _rest(batch, acting, [texts[place] for place in longer]), strict=True):
            scores[place] += rest
    in_order = iter(scores)
    return [[next(in_order) for _ in own] for own in choices]


def _rest(batch: Batch, acting: Strengths, texts: Sequence[Sequence[int]]) -> list[list[float]]:
    """Per row, the log-probability of each token of a text after its first; the batch has read what is before."""
    longest = max(map(len, texts))
    # Shorter ones are filled up at their right, where nothing that counts looks.
    tokens = torch.tensor([[*own, *[0] * (longest - len(own))] for own in texts], device=batch.device)
    batch.advance(tokens[:, :-1])
    acting.at(*batch.window)
    with acting:
        logits = batch.forward(longest - 1)
    scores = log_probability(logits, tokens[:, 1:]).tolist()
    return [row[: len(own) - 1] for row, own in zip(scores, texts, strict=True)]
