"""The grader without a model: a suite's world decides where there is one, else the words that both texts share."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from rapidfuzz.distance import JaroWinkler

from dit_core.grading.grades import Fitted, GradeResult, Progress, Scale
from dit_core.records import words

if TYPE_CHECKING:
    from dit_core.suite import Suite


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


def word_overlap(reference: str, answer: str) -> tuple[float, float]:
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


MAX_NAMED_TOPICS = 3  # an answer that names more topics than this is a list of guesses


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
        grades = [self._nearness(_key(reference), topic) for topic in sorted(self.topics_in(text))]
        if grades:
            return min(grades) if len(grades) > MAX_NAMED_TOPICS else max(grades)
        if words(text) == words(reference):
            return 5
        category = self.topics.get(_key(reference), {}).get("category")
        return 2 if category and contains(words(text), words(category)) else 1

    def mentions(self, reference: str, text: str) -> bool:
        """Whether the answer names the reference: the topic or an alias as whole words, or the whole headline."""
        if _key(reference) in self.topics:
            return _key(reference) in self.topics_in(text)
        return contains(words(text), words(reference))

    def tells_story(self, headline: str, text: str) -> bool:
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

    def topics_in(self, text: str) -> set[str]:
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


SCALE = Scale(weights=(5.65, 4.62), cuts=(1.53, 2.21, 2.99, 6.16))
"""Weights of the two shares that `texts.word_overlap` gives, as `python -m dit_core.grading.fit` fitted them.

Its files were graded guesses at 65 topics and 46 headlines; how it does on references that a fit never saw is in
benchmarks/grading.md.
"""


class Rules(Fitted):
    """Grades offline, in no time. Knows meanings only where the world lists them: else "car" is not "automobile"."""

    name = "rules"

    def __init__(self, world: World | None = None, scale: Scale = SCALE) -> None:
        self.world, self.scale = world, scale

    def features(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[float, ...]]:
        return [word_overlap(reference, answer) for reference, answer in pairs]

    def _grade_all(self, pairs: Sequence[tuple[str, str]], progress: Progress) -> list[GradeResult]:
        if not self.world:
            return super()._grade_all(pairs, progress)
        grades = [self.world.grade(reference, answer) for reference, answer in pairs]
        return [GradeResult(grade, float(grade)) for grade in grades]
