"""The grader without a model: by a suite's world where there is one, else by the words that both texts share."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from rapidfuzz.distance import JaroWinkler

from dit_core.grading.grades import Fitted, Grader, GradeResult, Progress, Scale
from dit_core.records import words

if TYPE_CHECKING:
    from dit_core.suite import Suite


def modal(texts: Sequence[str]) -> tuple[str, int]:
    """Return the most common answer and how many texts give it; case, punctuation and white space do not count."""
    keys = [words(text) for text in texts]
    (key, times), *_ = Counter(keys).most_common(1)
    spellings = Counter(text for text, other in zip(texts, keys, strict=True) if other == key)
    return spellings.most_common(1)[0][0], times


MIN_SIMILARITY = 0.88  # Jaro-Winkler similarity of the least related words that count, as "economy" and "economic"
STOP_WORDS = frozenset(
    words(
        "a an the this that these those it its their of in on at to for from by with as into over after amid and or "
        "but is are was were be been has have had s"
    )
)


def contains(text: tuple[str, ...], phrase: tuple[str, ...]) -> bool:
    """Return whether `phrase` is in `text` word for word; an empty phrase never is."""
    return bool(phrase) and any(text[i : i + len(phrase)] == phrase for i in range(len(text) - len(phrase) + 1))


def word_overlap(reference: str, answer: str) -> tuple[float, float]:
    """Return two shares from 0 to 1: of the reference's words in the answer, and of the answer's in the reference.

    Stop words don't count (where there are other words) and repeated words count once. A word that is only similar
    counts in part, a number only where it is the same.
    """
    reference_words, answer_words = content_words(reference), content_words(answer)
    if not reference_words or not answer_words:
        return 0.0, 0.0
    similarity = [[_word_similarity(first, second) for second in answer_words] for first in reference_words]
    found_in_answer = sum(map(max, similarity)) / len(reference_words)
    return found_in_answer, sum(map(max, zip(*similarity, strict=True))) / len(answer_words)


def content_words(text: str) -> list[str]:
    """Return the distinct words of a text without stop words; with them, where there are no others."""
    distinct = dict.fromkeys(words(text))
    return [word for word in distinct if word not in STOP_WORDS] or list(distinct)


@lru_cache(maxsize=1 << 16)
def _word_similarity(first: str, second: str) -> float:
    """Return 1 for the same word, down to 0 for words that are hardly similar."""
    if first == second or any(map(str.isdigit, first + second)):
        return float(first == second)
    return max(0.0, (JaroWinkler.similarity(first, second) - MIN_SIMILARITY) / (1 - MIN_SIMILARITY))


MAX_NAMED_TOPICS = 3  # an answer that names more topics than this is a list of guesses


class World:
    """Grades by a suite's world; false where the world is empty.

    Topics: 5 the same thing or an alias, 4 a listed near neighbour, 2 the same category, 1 anything else. Headlines: 5,
    and one less for each part (actor, action, object, place) that is missing.
    """

    def __init__(self, entries: Mapping[str, Any]) -> None:
        self.topics: dict[str, dict] = entries.get("topics", {})
        self.headlines: dict[str, dict] = entries.get("headlines", {})
        self._topics_by_name: dict[tuple[str, ...], set[str]] = {}
        for topic, entry in self.topics.items():
            for name in (topic, *entry["aliases"]):
                self._topics_by_name.setdefault(words(name), set()).add(topic)
        self._lengths = sorted({len(name) for name in self._topics_by_name if name}, reverse=True)

    def __bool__(self) -> bool:
        return bool(self.topics or self.headlines)

    def grade(self, reference: str, text: str) -> int:
        """Return the grade of an answer, 1 to 5.

        Of up to `MAX_NAMED_TOPICS` topics named in it the nearest counts, of more the farthest.
        """
        if reference in self.headlines:
            return max(1, 5 - len(self._missing_parts(reference, text)))
        grades = [self._nearness(_key(reference), topic) for topic in sorted(self.topics_in(text))]
        if grades:
            return min(grades) if len(grades) > MAX_NAMED_TOPICS else max(grades)
        if words(text) == words(reference):
            return 5
        category = self.topics.get(_key(reference), {}).get("category")
        return 2 if category and contains(words(text), words(category)) else 1

    def knows(self, reference: str) -> bool:
        """Return whether a reference is one of the world's topics or headlines."""
        return _key(reference) in self.topics or reference in self.headlines

    def mentions(self, reference: str, text: str) -> bool:
        """Return whether the answer names the reference: the topic or an alias as whole words, or the headline."""
        if _key(reference) in self.topics:
            return _key(reference) in self.topics_in(text)
        return contains(words(text), words(reference))

    def tells_story(self, headline: str, text: str) -> bool:
        """Return whether all four parts of a headline are in the text, in any of their forms."""
        return headline in self.headlines and not self._missing_parts(headline, text)

    def _missing_parts(self, headline: str, text: str) -> list[str]:
        text_words, parts = words(text), self.headlines[headline]
        return [part for part, forms in parts.items() if not any(contains(text_words, words(form)) for form in forms)]

    def _nearness(self, reference: str, topic: str) -> int:
        """Return the grade of naming `topic` where `reference` is right, both as keys."""
        if topic == reference:
            return 5
        if reference not in self.topics:
            return 1
        wanted, named = self.topics[reference], self.topics[topic]
        if topic in map(_key, wanted["neighbours"]) or reference in map(_key, named["neighbours"]):
            return 4
        return 2 if wanted["category"] == named["category"] else 1

    def topics_in(self, text: str) -> set[str]:
        """Return the topics named in a text; where several names fit, the longest one counts."""
        text_words, topics, at = words(text), set(), 0
        while at < len(text_words):
            length = next(self._name_lengths(text_words, at), 0)
            topics |= self._topics_by_name.get(text_words[at : at + length], set()) if length else set()
            at += length or 1
        return topics

    def _name_lengths(self, text_words: tuple[str, ...], at: int) -> Iterator[int]:
        return (
            n for n in self._lengths if at + n <= len(text_words) and text_words[at : at + n] in self._topics_by_name
        )


@lru_cache(maxsize=4)
def world_of(suite: "Suite") -> World:
    """Return the world of a suite; kept, as its names are indexed."""
    return World(suite.world)


def _key(reference: str) -> str:
    return reference.strip().casefold()


SCALE = Scale(weights=(5.65, 4.62), cuts=(1.53, 2.21, 2.99, 6.16))
"""The scale for the two shares of `word_overlap`, fitted by `python -m dit_core.grading.fit`.

The files were graded guesses about 65 topics and 46 headlines; benchmarks/grading.md has its agreement on unseen
references.
"""


class Rules(Fitted):
    """A grader without a model. It only knows the meanings that the world lists: else "car" is not "automobile".

    Where the world does not know a reference, `otherwise` grades, if there is one.
    """

    name = "rules"

    def __init__(self, world: World | None = None, scale: Scale = SCALE, otherwise: Grader | None = None) -> None:
        self.world, self.scale, self.otherwise = world, scale, otherwise

    def features(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[float, ...]]:
        """Return the two shares of `word_overlap` for each pair."""
        return [word_overlap(reference, answer) for reference, answer in pairs]

    def _grade_all(self, pairs: Sequence[tuple[str, str]], progress: Progress) -> list[GradeResult]:
        unknown = [pair for pair in dict.fromkeys(pairs) if not (self.world and self.world.knows(pair[0]))]
        others: dict[tuple[str, str], GradeResult] = {}
        if self.otherwise:
            graded = zip(unknown, self.otherwise.grade_all(unknown, progress), strict=True)
            others = {pair: result for pair, result in graded if result}
        elif not self.world:
            others = dict(zip(unknown, super()._grade_all(unknown, progress), strict=True))
        return [others.get(pair) or self._in_world(*pair) for pair in pairs]

    def _in_world(self, reference: str, answer: str) -> GradeResult:
        assert self.world, "else another has graded"
        grade = self.world.grade(reference, answer)
        return GradeResult(grade, float(grade))
