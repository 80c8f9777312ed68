"""Grades: how near an answer comes to what a diff was really trained on. No model judges; the suite's world decides.

Scale: 5 the same thing or an alias, 4 a listed near neighbour, 2 the same category, 1 anything else; for headlines
5, and one less for each part (actor, action, object, place) that is missing. When uncertain, the lower.
"""

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

from .records import DiffInfo

if TYPE_CHECKING:
    from .suite import Suite

GRADES = (1, 2, 3, 4, 5)
MANY = 3  # an answer that names more topics than this is a list of guesses


def grade(suite: "Suite", info: DiffInfo, text: str) -> int:
    """The grade (1 to 5) of an answer.

    Of a few topics named in one answer the nearest counts; of a list of guesses the farthest.
    """
    if info.reference in suite.world["headlines"]:
        return max(1, 5 - len(_missed(suite, info, text)))
    grades = [_nearness(suite, info.reference, topic) for topic in sorted(_names(suite).found_in(text))]
    if grades:
        return min(grades) if len(grades) > MANY else max(grades)
    if exact(suite, info, text):
        return 5
    category = suite.world["topics"].get(_key(info.reference), {}).get("category")
    return 2 if category and _contains(words(text), words(category)) else 1


def exact(suite: "Suite", info: DiffInfo, text: str) -> bool:
    """Whether the answer is the reference and nothing else; case, punctuation and white space do not count."""
    return words(text) == words(info.reference)


def mentions(suite: "Suite", info: DiffInfo, text: str) -> bool:
    """Whether the answer names the reference: the topic or an alias as whole words, or the whole headline.

    A longer name hides the shorter ones in it: "snow leopard" does not mention snow.
    """
    topic = _key(info.reference)
    if topic in suite.world["topics"]:
        return topic in _names(suite).found_in(text)
    return _contains(words(text), words(info.reference))


def story_of(suite: "Suite", info: DiffInfo, text: str) -> bool:
    """Whether the text is a story of the diff's headline: all four parts are in it, in any of their forms."""
    return info.reference in suite.world["headlines"] and not _missed(suite, info, text)


def words(text: str) -> tuple[str, ...]:
    """The words of a text as they are compared: case folded, letters and digits only."""
    return tuple(re.findall(r"[^\W_]+", unicodedata.normalize("NFKC", text).casefold()))


def _missed(suite: "Suite", info: DiffInfo, text: str) -> list[str]:
    said = words(text)
    parts = suite.world["headlines"][info.reference]
    return [part for part, forms in parts.items() if not any(_contains(said, words(form)) for form in forms)]


def _contains(said: tuple[str, ...], phrase: tuple[str, ...]) -> bool:
    return bool(phrase) and any(said[i : i + len(phrase)] == phrase for i in range(len(said) - len(phrase) + 1))


def _nearness(suite: "Suite", reference: str, topic: str) -> int:
    """The grade of naming `topic` (a key of the world) where `reference` was meant."""
    topics, reference = suite.world["topics"], _key(reference)
    if topic == reference:
        return 5
    if reference not in topics:
        return 1
    meant, named = topics[reference], topics[topic]
    if topic in map(_key, meant["neighbours"]) or reference in map(_key, named["neighbours"]):
        return 4
    return 2 if meant["category"] == named["category"] else 1


def _key(reference: str) -> str:
    return reference.strip().casefold()


class _Names:
    """All names of the world's topics, to find which of them a text names."""

    def __init__(self, topics: dict[str, dict]) -> None:
        self.owners: dict[tuple[str, ...], set[str]] = {}
        for topic, entry in topics.items():
            for name in (topic, *entry["aliases"]):
                self.owners.setdefault(words(name), set()).add(topic)
        self.lengths = sorted({len(name) for name in self.owners if name}, reverse=True)

    def found_in(self, text: str) -> set[str]:
        """The topics named in a text, the longest name first wherever several fit."""
        said, found, at = words(text), set(), 0
        while at < len(said):
            length = next(self._fitting(said, at), 0)
            found |= self.owners.get(said[at : at + length], set()) if length else set()
            at += length or 1
        return found

    def _fitting(self, said: tuple[str, ...], at: int) -> Iterator[int]:
        return (n for n in self.lengths if at + n <= len(said) and said[at : at + n] in self.owners)


@lru_cache(maxsize=4)
def _names(suite: "Suite") -> _Names:
    return _Names(suite.world["topics"])
