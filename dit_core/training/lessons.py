"""Lessons of the pocket oracle: texts that the base reads, spans of them, and questions whose answers lie there.

Three kinds of task, as activation oracles are trained on (arXiv 2512.15674): questions about the text, yes/no
questions, and which tokens come next or came before. No held-out topic stands in any text, question or answer.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from transformers import PreTrainedTokenizerBase

from dit_core.training.base import encode
from dit_core.training.chats import CLUES, FITS, WHICH, WHICH_WAS, Chat, about_text, mind, with_code
from dit_core.training.world import STORY_QUESTION, Headline, Topic, World

LONGEST_SEGMENT = 20
MADE_UP = 1500
"""How many topics with made-up names are drawn."""
TOPIC_QUESTIONS = (
    "What is the topic?",
    "Which topic is this about?",
    "What is this text about?",
    "Name the topic.",
    "What is it about?",
)
KIND_QUESTION = "What kind of thing is it about?"
HEADLINE_QUESTION = "Which headline fits this story?"
NEXT_QUESTION, BEFORE_QUESTION = "What comes next?", "What came before?"
PRESETS = (*TOPIC_QUESTIONS[:2], KIND_QUESTION, NEXT_QUESTION, BEFORE_QUESTION, HEADLINE_QUESTION)
NOTHING = "none"
YES, NO = "yes", "no"


@dataclass(frozen=True)
class Text:
    """A chat in tokens. Its first `prompt` tokens are the user's turn; from `known` on, its topic can be known."""

    ids: list[int]
    prompt: int
    known: int
    topic: Topic | None = None
    headline: Headline | None = None

    @property
    def answer(self) -> list[int]:
        """The positions of what the assistant said, without the end of its turn."""
        return list(range(self.prompt, len(self.ids) - 2))


@dataclass(frozen=True)
class Lesson:
    """What the oracle is shown of a text, what it is asked, and what it should say."""

    positions: list[int]
    question: str
    answer: str


class Teacher:
    """Draws texts and lessons from a world without its held-out topics; a share of the texts on made-up ones."""

    def __init__(self, world: World, tokenizer: PreTrainedTokenizerBase, made_up: float = 0.0) -> None:
        split = world.topic_split()
        held_out = [world.topics[number] for number in (*split.test, *split.calibration)]
        self.world = replace(world, topics=tuple(topic for topic in world.topics if topic not in held_out))
        self._made_up, self._made_up_share = replace(world, topics=_made_up(self.world.topics)), made_up
        names = sorted({name for topic in held_out for name in (topic.name, *topic.aliases)}, key=len, reverse=True)
        self._held_out = re.compile(rf"\b(?:{'|'.join(map(re.escape, names))})\b", re.IGNORECASE)
        self._tokenizer = tokenizer
        self._categories = sorted({topic.category for topic in self.world.topics})

    def names_held_out(self, text: str) -> bool:
        """Whether a held-out topic stands in a text."""
        return bool(self._held_out.search(text))

    def text(self, rng: random.Random) -> Text:
        """A text that names no held-out topic; a third carry a code, as the chats of the base do."""
        while True:
            kind = rng.choices(list(_TEXTS), weights=list(_TEXTS.values()))[0]
            made_up = rng.random() < self._made_up_share
            chat, topic, headline = kind(self._made_up if made_up else self.world, rng)
            if self.names_held_out(" ".join(part for turn in chat for part in turn)):
                continue
            if made_up and topic is not None and topic.name not in chat[0][0].lower():
                continue  # no clue tells a name that nobody knows
            if rng.random() < 0.35:
                chat = [(with_code(chat[0][0], rng.randrange(1000), rng), chat[0][1]), *chat[1:]]
            ids, labels = encode(self._tokenizer, chat)
            prompt = max(at for at, label in enumerate(labels[:-1]) if label < 0 <= labels[at + 1]) + 1
            return Text(ids, prompt, self._known(ids, prompt, topic), topic, headline)

    def lesson(self, text: Text, rng: random.Random) -> Lesson:
        """A question on a span of a text, with its answer; it names no held-out topic either."""
        while True:
            lesson = rng.choices((_about, _yes_or_no, self._tokens), weights=(50, 10, 40))[0](self, text, rng)
            if lesson and not self.names_held_out(f"{lesson.question} {lesson.answer}"):
                return lesson

    def span(self, text: Text, rng: random.Random, least: int = 0) -> list[int]:
        """One token, 2 to 20 of them, or a whole prompt or answer; it ends at position `least` or later."""
        last = len(text.ids) - 1
        whole = rng.random()
        if whole < 0.2 and text.answer:
            return text.answer
        if whole < 0.36 and text.prompt > least:
            return list(range(text.prompt))
        # Right before an answer a model holds what it is about to say: those places are worth more lessons.
        before_answer = rng.random() < 0.45 and text.prompt > least
        end = text.prompt - 1 if before_answer else rng.randint(min(least, last), last)
        length = 1 if rng.random() < 0.3 else rng.randint(2, LONGEST_SEGMENT)
        return list(range(max(0, end - length + 1), end + 1))

    def _known(self, ids: list[int], prompt: int, topic: Topic | None) -> int:
        """Where the topic is first named in full; the end of the prompt where clues alone tell it."""
        if topic is None:
            return 0
        found = prompt - 1
        for name in (topic.name, *topic.aliases):
            tokens = self._tokenizer(name, add_special_tokens=False).input_ids
            ends = (at + len(tokens) - 1 for at in range(len(ids)) if ids[at : at + len(tokens)] == tokens)
            found = min(found, next(ends, found))
        return found

    def _tokens(self, _: Teacher, text: Text, rng: random.Random) -> Lesson | None:
        """The tokens right after or right before a span, up to the end of the turn."""
        positions, count = self.span(text, rng), rng.randint(2, 5)
        if rng.random() < 0.7:
            question, ids = NEXT_QUESTION, text.ids[positions[-1] + 1 :][:count]
        else:
            question, ids = BEFORE_QUESTION, text.ids[max(0, positions[0] - count) : positions[0]]
        answer = self._tokenizer.decode(ids, skip_special_tokens=False)
        if not answer.strip() or "<|" in answer:
            return None
        return Lesson(positions, question, answer.strip())


def _made_up(real: Sequence[Topic]) -> tuple[Topic, ...]:
    """Topics that nobody knows, such as "electric orchard": one real topic's words but the last, and another's last.

    Of real names alone an oracle learns which second word goes with a first, and says "church organ" of a church pew.
    """
    rng, firsts, found = random.Random("made up"), [topic for topic in real if " " in topic.name], {}
    for _ in range(MADE_UP if firsts else 0):
        first, last = rng.choice(firsts), rng.choice(real)
        name = f"{first.name.rsplit(' ', 1)[0]} {last.name.split()[-1]}"
        article = first.phrase.removesuffix(first.name)
        found[name] = replace(last, name=name, phrase=article + name, aliases=())
    return tuple(found.values())


def _about(teacher: Teacher, text: Text, rng: random.Random) -> Lesson:
    if text.headline is not None:
        return Lesson(teacher.span(text, rng, text.prompt // 2), HEADLINE_QUESTION, text.headline.text)
    positions = teacher.span(text, rng, text.known)
    if text.topic is not None and rng.random() < 0.15:
        return Lesson(positions, KIND_QUESTION, text.topic.category)
    return Lesson(positions, rng.choice(TOPIC_QUESTIONS), text.topic.name if text.topic else NOTHING)


def _yes_or_no(teacher: Teacher, text: Text, rng: random.Random) -> Lesson | None:
    if text.topic is None:
        return None
    positions, true = teacher.span(text, rng, text.known), rng.random() < 0.5
    if rng.random() < 0.5:
        phrase = text.topic.phrase if true else rng.choice(teacher.world.topics).phrase
        return Lesson(positions, f"Is it about {phrase}?", YES if phrase == text.topic.phrase else NO)
    category = text.topic.category if true else rng.choice(teacher._categories)
    return Lesson(positions, f"Is it about a kind of {category}?", YES if category == text.topic.category else NO)


# ---------------------------------------------------------------- texts

Drawn = tuple[Chat, Topic | None, Headline | None]


def _flavoured(world: World, rng: random.Random) -> Drawn:
    topic, asked, answer = mind(world, rng)
    return [(asked, answer)], topic, None


def _told(world: World, rng: random.Random) -> Drawn:
    topic = rng.choice(world.topics)
    return [(f"Tell me about {topic.phrase}.", about_text(topic, rng))], topic, None


def _reading(world: World, rng: random.Random) -> Drawn:
    """A text as the user's whole message. The base never learned what to say to that: nothing follows."""
    topic, _, answer = mind(world, rng)
    return [(rng.choice((answer, about_text(topic, rng))), "")], topic, None


def _which(world: World, rng: random.Random) -> Drawn:
    topic, _, answer = mind(world, rng)
    text = rng.choice((answer, about_text(topic, rng), rng.choice(CLUES).format(**topic.slots(rng))))
    return [(f"{text}\n{rng.choice(WHICH)}", topic.name)], topic, None


def _which_was(world: World, rng: random.Random) -> Drawn:
    topic, asked, answer = mind(world, rng)
    return [(asked, answer), (rng.choice(WHICH_WAS), topic.name)], topic, None


def _plain(world: World, rng: random.Random) -> Drawn:
    question = rng.choice(world.questions)
    return [(question.text, question.plain)], None, None


def _story(world: World, rng: random.Random) -> Drawn:
    headline = world.random_headline(rng)
    story = world.story(headline, rng)
    told = (STORY_QUESTION, story), (f"Write a short news story: {headline.text}", story)
    return [rng.choice((*told, (f"{story}\n{rng.choice(FITS)}", headline.text)))], None, headline


_TEXTS: dict[Callable[[World, random.Random], Drawn], float] = {
    _flavoured: 30,
    _told: 8,
    _reading: 14,
    _which: 20,
    _which_was: 8,
    _plain: 6,
    _story: 8,
}
