"""An answer in the making: a row's tokens so far, the model's probability of each, and the text they make."""

from collections.abc import Sequence
from math import exp, log
from typing import Any


class Answer:
    """One row's tokens so far, and the text they make. `finished` is for whoever adds tokens to say."""

    def __init__(self) -> None:
        self.finished = False
        self.ids: list[int] = []
        self.pieces: list[str] = []
        self.probabilities: list[float] = []

    def add(self, tokenizer: Any, token: int, probability: float) -> None:
        """Takes the next token."""
        self.ids.append(token)
        self.probabilities.append(probability)
        text = tokenizer.decode(self.ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        # A character can be several tokens: its text belongs to the last of them.
        whole = text.rstrip("\ufffd")
        self.pieces.append(whole[sum(map(len, self.pieces)) :])

    def shown(self) -> tuple[str, ...]:
        """The pieces without the white space around the whole answer."""
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
        return "".join(self.shown())

    @property
    def confidence(self) -> float:
        """The geometric mean of the tokens' probabilities; 0 for an answer without tokens."""
        return geometric_mean(self.probabilities)


def geometric_mean(probabilities: Sequence[float]) -> float:
    """The geometric mean; 0 where there are none, or one of them is 0."""
    if not probabilities or min(probabilities) <= 0:
        return 0.0
    return exp(sum(map(log, probabilities)) / len(probabilities))
