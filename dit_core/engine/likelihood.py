"""Tokens and their probabilities: of answers, and of given texts after one prompt, which is read only once for all."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from math import exp, log
from typing import Any

import torch
from torch import Tensor

from dit_core.engine.generation import Batch, check_rows, log_probability
from dit_core.engine.model import Model
from dit_core.engine.strengths import Strengths
from dit_core.errors import DitError


class AnswerTokens:
    """The tokens that one row has generated so far.

    Attributes:
        ids: token ids.
        probabilities: the model's probability of each token at temperature 1.
        pieces: the text that each token adds; a character of several tokens belongs to the last of them.
        finished: whether the answer is complete; set by whoever appends the tokens.
    """

    def __init__(self) -> None:
        self.finished = False
        self.ids: list[int] = []
        self.pieces: list[str] = []
        self.probabilities: list[float] = []

    def append(self, tokenizer: Any, token: int, probability: float) -> None:
        """Append the next token and decode the text that it adds."""
        self.ids.append(token)
        self.probabilities.append(probability)
        text = tokenizer.decode(self.ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        complete = text.rstrip("\ufffd")  # a character of which tokens are still to come
        self.pieces.append(complete[sum(map(len, self.pieces)) :])

    def stripped(self) -> tuple[str, ...]:
        """Return the text of each token, without the white space around the whole answer."""
        text = "".join(self.pieces)
        start, stop = len(text) - len(text.lstrip()), len(text.rstrip())
        pieces, at = [], 0
        for piece in self.pieces:
            pieces.append(piece[max(0, start - at) : max(0, stop - at)])
            at += len(piece)
        return tuple(pieces)

    @property
    def text(self) -> str:
        """The answer without the white space around it."""
        return "".join(self.stripped())

    @property
    def confidence(self) -> float:
        """The geometric mean of the tokens' probabilities; 0 for an answer without tokens."""
        return geometric_mean(self.probabilities)


def geometric_mean(probabilities: Sequence[float]) -> float:
    """Return the geometric mean of probabilities; 0 where there are none, or one of them is 0."""
    if not probabilities or min(probabilities) <= 0:
        return 0.0
    return exp(sum(map(log, probabilities)) / len(probabilities))


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
