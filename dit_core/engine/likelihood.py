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
    prefill: AbstractContextManager | None = None,
) -> list[list[list[float]]]:
    """Per row and choice, the log-probability (in nats) of each token of the choice, had it followed the prompt.

    `strengths` count positions in the padded batch of prompts; `prefill` is a context that is open while the prompts
    are read, and not afterwards.

    Raises:
        DitError: a row without choices, or a choice without tokens.
    """
    said = [tokens for own in choices for tokens in own]
    if not all(map(len, choices)) or not all(map(len, said)):
        raise DitError("An empty text has no probability: give every row texts of at least one token.")
    room = max(map(len, said), default=0)
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
    """The same behind prompts that `batch` has read, with the `logits` there; a row may be without choices.

    Uses up `batch` and `acting`, which needs no position moved to.
    """
    owners = [row for row, own in enumerate(choices) for _ in own]
    said = [tokens for own in choices for tokens in own]
    first = torch.tensor([tokens[0] for tokens in said], dtype=torch.long, device=logits.device)
    found = [[one] for one in log_probability(logits[owners], first).tolist()]
    longer = [at for at, tokens in enumerate(said) if len(tokens) > 1]
    if longer:
        batch.keep([owners[at] for at in longer])
        acting.keep([owners[at] for at in longer])
        for at, rest in zip(longer, _rest(batch, acting, [said[at] for at in longer]), strict=True):
            found[at] += rest
    scores = iter(found)
    return [[next(scores) for _ in own] for own in choices]


def _rest(batch: Batch, acting: Strengths, said: Sequence[Sequence[int]]) -> list[list[float]]:
    """Per row, the log-probability of each token of a text after its first; the batch has read what is before."""
    longest = max(map(len, said))
    # Shorter ones are filled up at their right, where nothing that counts looks.
    tokens = torch.tensor([[*own, *[0] * (longest - len(own))] for own in said], device=batch.device)
    batch.advance(tokens[:, :-1])
    acting.at(*batch.window)
    with acting:
        logits = batch.forward(longest - 1)
    found = log_probability(logits, tokens[:, 1:]).tolist()
    return [row[: len(own) - 1] for row, own in zip(found, said, strict=True)]
