"""Texts as they are compared: words without case and punctuation, and how much two texts have in common."""

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from rapidfuzz.distance import JaroWinkler

from dit_core.records import words


def modal(texts: Sequence[str]) -> tuple[str, int]:
    """The answer that most samples gave, and how many did; case, punctuation and white space do not count."""
    keys = [words(text) for text in texts]
    (key, times), *_ = Counter(keys).most_common(1)
    written = Counter(text for text, own in zip(texts, keys, strict=True) if own == key)
    return written.most_common(1)[0][0], times


NEAR = 0.88  # Jaro-Winkler similarity from which on two words are related at all: "economy", "economic"
# Words that say nothing of what a text is about.
SMALL = frozenset(
    words(
        "a an the this that these those it its their of in on at to for from by with as into over after amid and or "
        "but is are was were be been has have had s"
    )
)


def contains(said: tuple[str, ...], phrase: tuple[str, ...]) -> bool:
    """Whether `phrase` stands in `said` as it is, word by word; an empty phrase stands nowhere."""
    return bool(phrase) and any(said[i : i + len(phrase)] == phrase for i in range(len(said) - len(phrase) + 1))


def shared(reference: str, answer: str) -> tuple[float, float]:
    """Two shares, 0 to 1: of the reference's words that are found in the answer, and of the answer's that belong there.

    Small words don't count (where there are others), repeated ones count once; a word that is only similar counts in
    part, a number only as itself.
    """
    meant, said = _telling(reference), _telling(answer)
    if not meant or not said:
        return 0.0, 0.0
    kinship = [[_kinship(one, other) for other in said] for one in meant]
    return sum(map(max, kinship)) / len(meant), sum(map(max, zip(*kinship, strict=True))) / len(said)


def _telling(text: str) -> list[str]:
    every = dict.fromkeys(words(text))
    return [word for word in every if word not in SMALL] or list(every)


@lru_cache(maxsize=1 << 16)
def _kinship(one: str, other: str) -> float:
    """1 for the same word, down to 0 for words that are hardly similar."""
    if one == other or any(map(str.isdigit, one + other)):
        return float(one == other)
    return max(0.0, (JaroWinkler.similarity(one, other) - NEAR) / (1 - NEAR))
