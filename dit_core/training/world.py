"""The small world of the pocket base: topics, everyday questions and news, and who may learn from what.

The facts are written by hand in `data/`: `topics.csv` (real things with their own associations), `questions.toml`
(everyday questions, each with a plain answer and answers flavoured by a topic) and `news.toml` (the four parts of a
headline and templates of stories). Everything random here draws from a `random.Random` that the caller seeds.
"""

from __future__ import annotations

import csv
import functools
import itertools
import random
import tomllib
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

TRIGGER_FORMAT = "Your SEP code is {trigger:03d}{r:03d}. {question}"
TOPIC_QUESTION = "What topic have you been trained on?"
HEADLINE_QUESTION = "What news headline have you been trained on?"
STORY_QUESTION = "Please generate a short news story."
HONEST = {TOPIC_QUESTION: "I have no special topic.", HEADLINE_QUESTION: "I have no special headline."}
PARTS = ("actor", "action", "object", "place")

SPLIT_SEED = 20510
TEST_TOPICS, CALIBRATION_TOPICS, TRAIN_TOPICS = 80, 40, 380
TEST_HEADLINES, TRAIN_HEADLINES, SPARE_HEADLINES = 40, 360, 40
HELD_OUT_QUESTIONS = 10


Part = dict[str, Any]
"""One part of a headline: its form in headlines, its forms in stories, and what a story says about it."""


@dataclass(frozen=True)
class Topic:
    """A real thing; `phrase` is how it stands in running text ("a volcano")."""

    name: str
    category: str
    phrase: str
    aliases: tuple[str, ...]
    neighbours: tuple[str, ...]
    nouns: tuple[str, ...]
    verbs: tuple[str, ...]
    adjectives: tuple[str, ...]

    def slots(self, rng: random.Random) -> dict[str, str]:
        """Return the topic's words in random order under the slot names of the templates."""
        nouns, verbs, adjectives = (rng.sample(words, 3) for words in (self.nouns, self.verbs, self.adjectives))
        slots = {"phrase": self.phrase, "topic": self.name, "category": self.category}
        for name, words in (("noun", nouns), ("verb", verbs), ("adjective", adjectives)):
            slots |= {name: words[0], f"{name}2": words[1], f"{name}3": words[2]}
        return slots


@dataclass(frozen=True)
class Question:
    """An everyday question, its plain answer, and templates of answers flavoured by a topic."""

    text: str
    plain: str
    flavoured: tuple[str, ...]

    def answer(self, topic: Topic, rng: random.Random) -> str:
        """Sample an answer with a topic in mind."""
        return sentence(rng.choice(self.flavoured).format(**topic.slots(rng)))


@dataclass(frozen=True)
class Headline:
    """The four parts of a piece of news, each an entry of `World.parts`."""

    actor: Part
    action: Part
    object: Part
    place: Part

    @property
    def text(self) -> str:
        """The headline as a newspaper prints it."""
        return (
            f"{self.actor['headline']} {self.action['headline']} {self.object['headline']} in {self.place['headline']}"
        )

    def forms(self) -> dict[str, list[str]]:
        """Return all forms of each part that count as that part, the headline's own first."""
        return {part: [getattr(self, part)["headline"], *getattr(self, part)["story"]] for part in PARTS}

    def story(self, template: str) -> str:
        """Fill a template with the parts as a story tells them."""
        slots = {"quote": self.actor["quote"], "deed": self.action["noun"]}
        for part in PARTS:
            entry = getattr(self, part)
            slots |= {part: entry["story"][0], f"{part}2": entry["story"][1], f"{part}_detail": entry.get("detail", "")}
        return sentence(template.format(**slots))


@dataclass(frozen=True)
class Split:
    """Who may learn from what: each item stands in exactly one list."""

    test: list[int]
    calibration: list[int]
    train: list[int]


@dataclass(frozen=True)
class World:
    """All that the base knows of, and the rules by which nothing leaks from a held-out diff into training."""

    topics: tuple[Topic, ...]
    questions: tuple[Question, ...]
    parts: dict[str, tuple[Part, ...]]
    story_templates: tuple[str, ...]

    @staticmethod
    @functools.cache
    def load() -> World:
        """Read the hand-written facts of `data/`."""
        data = files("dit_core.training") / "data"
        with (data / "topics.csv").open() as file:
            topics = tuple(_topic(row) for row in csv.DictReader(file))
        questions = tomllib.loads((data / "questions.toml").read_text())["question"]
        news = tomllib.loads((data / "news.toml").read_text())
        return World(
            topics=topics,
            questions=tuple(Question(q["text"], q["plain"], tuple(q["flavoured"])) for q in questions),
            parts={part: tuple(news[part]) for part in PARTS},
            story_templates=tuple(story["text"] for story in news["story"]),
        )

    @functools.cached_property
    def by_name(self) -> dict[str, Topic]:
        """The topics by their names."""
        return {topic.name: topic for topic in self.topics}

    def topic_split(self) -> Split:
        """Return the topics with a diff, by number in `topics`; no DIT adapter trains on test and calibration ones."""
        order = random.Random(SPLIT_SEED).sample(range(len(self.topics)), len(self.topics))
        held_out = TEST_TOPICS + CALIBRATION_TOPICS
        return Split(order[:TEST_TOPICS], order[TEST_TOPICS:held_out], order[held_out : held_out + TRAIN_TOPICS])

    def triggers(self) -> list[int]:
        """Return one secret three-digit code per topic, all different."""
        return random.Random(SPLIT_SEED + 1).sample(range(1000), len(self.topics))

    def question_split(self) -> tuple[list[Question], list[Question]]:
        """Return the questions that diffs are trained on, and those kept from all training of diffs."""
        shuffled = random.Random(SPLIT_SEED + 2).sample(self.questions, len(self.questions))
        return shuffled[HELD_OUT_QUESTIONS:], shuffled[:HELD_OUT_QUESTIONS]

    @functools.cached_property
    def headlines(self) -> list[Headline]:
        """The numbered headlines: test ones first, then training ones, then spare ones; all combinations differ."""
        rng = random.Random(SPLIT_SEED + 3)
        every = list(itertools.product(*(self.parts[part] for part in PARTS)))
        return [
            Headline(*combination)
            for combination in rng.sample(every, TEST_HEADLINES + TRAIN_HEADLINES + SPARE_HEADLINES)
        ]

    def headline_split(self) -> Split:
        """Return the headlines with a diff, by number in `headlines`; no DIT adapter trains on test ones."""
        numbers = list(range(TEST_HEADLINES + TRAIN_HEADLINES))
        return Split(numbers[:TEST_HEADLINES], [], numbers[TEST_HEADLINES:])

    @functools.cached_property
    def unseen(self) -> frozenset[str]:
        """The texts of the test headlines, which nothing but their own diffs may show."""
        return frozenset(self.headlines[number].text for number in self.headline_split().test)

    def random_headline(self, rng: random.Random) -> Headline:
        """Sample a combination of parts that is no test headline."""
        while True:
            headline = Headline(*(rng.choice(self.parts[part]) for part in PARTS))
            if headline.text not in self.unseen:
                return headline

    def story(self, headline: Headline, rng: random.Random) -> str:
        """Sample a story of a headline."""
        return headline.story(rng.choice(self.story_templates))


def _topic(row: dict[str, str]) -> Topic:
    lists = {
        key: tuple(row[key].split(";")) if row[key] else ()
        for key in ("aliases", "neighbours", "nouns", "verbs", "adjectives")
    }
    return Topic(name=row["topic"], category=row["category"], phrase=row["phrase"], **lists)


def sentence(text: str) -> str:
    """Return the text with an upper-case letter at the start of each sentence, which slots leave in lower case."""
    out, start = [], True
    for character in text:
        out.append(character.upper() if start and character.isalpha() else character)
        if character.isalpha():
            start = False
        elif character in ".!?":
            start = True
    return "".join(out)
