"""The tokens of one row's answer as they are generated, with the model's probability of each, and their text."""

from collections.abc import Sequence
from math import exp, log
from typing import Any


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
