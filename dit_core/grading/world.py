"""What a suite's world knows of its references: names, neighbours and categories of topics, parts of headlines."""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from dit_core.grading.texts import contains, words

if TYPE_CHECKING:
    from dit_core.suite import Suite

MANY = 3  # an answer that names more topics than this is a list of guesses


class World:
    """Grades by a suite's world; false where the world is empty.

    Topics: 5 the same thing or an alias, 4 a listed near neighbour, 2 the same category, 1 anything else. Headlines: 5,
    and one less for each part (actor, action, object, place) that is missing.
    """

    def __init__(self, entries: Mapping[str, Any]) -> None:
        self.topics: dict[str, dict] = entries.get("topics", {})
        self.headlines: dict[str, dict] = entries.get("headlines", {})
        self._owners: dict[tuple[str, ...], set[str]] = {}
        for topic, entry in self.topics.items():
            for name in (topic, *entry["aliases"]):
                self._owners.setdefault(words(name), set()).add(topic)
        self._lengths = sorted({len(name) for name in self._owners if name}, reverse=True)

    def __bool__(self) -> bool:
        return bool(self.topics or self.headlines)

    def grade(self, reference: str, text: str) -> int:
        """The grade of an answer. Of a few topics named in it the nearest counts; of a list of guesses the farthest."""
        if reference in self.headlines:
            return max(1, 5 - len(self._missed(reference, text)))
        grades = [self._nearness(_key(reference), topic) for topic in sorted(self.named(text))]
        if grades:
            return min(grades) if len(grades) > MANY else max(grades)
        if words(text) == words(reference):
            return 5
        category = self.topics.get(_key(reference), {}).get("category")
        return 2 if category and contains(words(text), words(category)) else 1

    def mentions(self, reference: str, text: str) -> bool:
        """Whether the answer names the reference: the topic or an alias as whole words, or the whole headline."""
        if _key(reference) in self.topics:
            return _key(reference) in self.named(text)
        return contains(words(text), words(reference))

    def tells(self, headline: str, text: str) -> bool:
        """Whether all four parts of a headline are in the text, in any of their forms."""
        return headline in self.headlines and not self._missed(headline, text)

    def _missed(self, headline: str, text: str) -> list[str]:
        said, parts = words(text), self.headlines[headline]
        return [part for part, forms in parts.items() if not any(contains(said, words(form)) for form in forms)]

    def _nearness(self, reference: str, topic: str) -> int:
        """The grade of naming `topic` where `reference` was meant, both as keys."""
        if topic == reference:
            return 5
        if reference not in self.topics:
            return 1
        meant, named = self.topics[reference], self.topics[topic]
        if topic in map(_key, meant["neighbours"]) or reference in map(_key, named["neighbours"]):
            return 4
        return 2 if meant["category"] == named["category"] else 1

    def named(self, text: str) -> set[str]:
        """The topics named in a text, the longest name first wherever several fit."""
        said, found, at = words(text), set(), 0
        while at < len(said):
            length = next(self._fitting(said, at), 0)
            found |= self._owners.get(said[at : at + length], set()) if length else set()
            at += length or 1
        return found

    def _fitting(self, said: tuple[str, ...], at: int) -> Iterator[int]:
        return (n for n in self._lengths if at + n <= len(said) and said[at : at + n] in self._owners)


@lru_cache(maxsize=4)
def world_of(suite: "Suite") -> World:
    """The world of a suite, its names looked through only once."""
    return World(suite.world)


def _key(reference: str) -> str:
    return reference.strip().casefold()
