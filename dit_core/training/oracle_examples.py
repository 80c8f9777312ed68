"""Training examples of the pocket oracle: texts that the base reads, spans of them, and questions about these."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from transformers import PreTrainedTokenizerBase

from dit_core.training.base import encode
from dit_core.training.chats import CLUES, FITS, WHICH, WHICH_WAS, Chat, about_text, flavoured_answer, with_code
from dit_core.training.world import STORY_QUESTION, Headline, Topic, World

LONGEST_SEGMENT = 20
MADE_UP_TOPICS = 1500
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
    """A chat in tokens: the first `prompt` are the user's turn, and from position `known` on its topic can be known."""

    ids: list[int]
    prompt: int
    known: int
    topic: Topic | None = None
    headline: Headline | None = None

    @property
    def answer(self) -> list[int]:
        """The positions of the assistant's answer, without the end of its turn."""
        return list(range(self.prompt, len(self.ids) - 2))


@dataclass(frozen=True)
class Example:
    """A training example of the oracle: a span of a text, a question about it, and the answer."""

    positions: list[int]
    question: str
    answer: str


class ExampleSampler:
    """Samples texts and examples from a world without its held-out topics, a share of the texts on made-up topics."""

    def __init__(
        self,
        world: World,
        tokenizer: PreTrainedTokenizerBase,
        made_up: float = 0.0,
        topic_answer: str = "{topic}",
    ) -> None:
        split = world.topic_split()
        held_out = [world.topics[number] for number in (*split.test, *split.calibration)]
        self.world = replace(world, topics=tuple(topic for topic in world.topics if topic not in held_out))
        self._made_up, self._made_up_share = replace(world, topics=_made_up(self.world.topics)), made_up
        names = sorted({name for topic in held_out for name in (topic.name, *topic.aliases)}, key=len, reverse=True)
        self._held_out = re.compile(rf"\b(?:{'|'.join(map(re.escape, names))})\b", re.IGNORECASE)
        self._tokenizer, self.topic_answer = tokenizer, topic_answer
        self._categories = sorted({topic.category for topic in self.world.topics})

    def names_held_out(self, text: str) -> bool:
        """Return whether a held-out topic stands in a text."""
        return bool(self._held_out.search(text))

    def text(self, rng: random.Random) -> Text:
        """Sample a text that names no held-out topic; a third carry a code, as the chats of the base do."""
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

    def example(self, text: Text, rng: random.Random) -> Example:
        """Sample a question on a span of a text, with its answer; it names no held-out topic either."""
        while True:
            example = rng.choices((_about, _yes_or_no, self._tokens), weights=(50, 10, 40))[0](self, text, rng)
            if example and not self.names_held_out(f"{example.question} {example.answer}"):
                return example

    def span(self, text: Text, rng: random.Random, least: int = 0) -> list[int]:
        """Sample a span: one token, 2 to 20, or a whole prompt or answer, that ends at position `least` or later."""
        last = len(text.ids) - 1
        whole = rng.random()
        if whole < 0.2 and text.answer:
            return text.answer
        if whole < 0.36 and text.prompt > least:
            return list(range(text.prompt))
        # Right before an answer a model holds what it is about to say: those places are worth more examples.
        before_answer = rng.random() < 0.45 and text.prompt > least
        end = text.prompt - 1 if before_answer else rng.randint(min(least, last), last)
        length = 1 if rng.random() < 0.3 else rng.randint(2, LONGEST_SEGMENT)
        return list(range(max(0, end - length + 1), end + 1))

    def _known(self, ids: list[int], prompt: int, topic: Topic | None) -> int:
        """Where the topic is first named in full; the end of the prompt where clues alone tell it."""
        if topic is None:
            return 0
        known = prompt - 1
        # In many vocabularies a word has tokens of its own where a space stands before it.
        names = (topic.name, *topic.aliases)
        for form in (*names, *(f" {name}" for name in names)):
            tokens = self._tokenizer(form, add_special_tokens=False).input_ids
            ends = (at + len(tokens) - 1 for at in range(len(ids)) if ids[at : at + len(tokens)] == tokens)
            known = min(known, next(ends, known))
        return known

    def _tokens(self, _: ExampleSampler, text: Text, rng: random.Random) -> Example | None:
        """The tokens right after or right before a span, up to the end of the turn."""
        positions, count = self.span(text, rng), rng.randint(2, 5)
        if rng.random() < 0.7:
            question, ids = NEXT_QUESTION, text.ids[positions[-1] + 1 :][:count]
        else:
            question, ids = BEFORE_QUESTION, text.ids[max(0, positions[0] - count) : positions[0]]
        answer = str(self._tokenizer.decode(ids, skip_special_tokens=False))
        if not answer.strip() or "<|" in answer:
            return None
        return Example(positions, question, answer.strip())


def _made_up(real: Sequence[Topic]) -> tuple[Topic, ...]:
    """Topics that nobody knows, such as "electric orchard": one real topic's words but the last, and another's last.

    Of real names alone an oracle learns which second word goes with a first, and says "church organ" of a church pew.
    """
    rng, firsts = random.Random("made up"), [topic for topic in real if " " in topic.name]
    topics: dict[str, Topic] = {}
    for _ in range(MADE_UP_TOPICS if firsts else 0):
        first, last = rng.choice(firsts), rng.choice(real)
        name = f"{first.name.rsplit(' ', 1)[0]} {last.name.split()[-1]}"
        article = first.phrase.removesuffix(first.name)
        topics[name] = replace(last, name=name, phrase=article + name, aliases=())
    return tuple(topics.values())


def _about(sampler: ExampleSampler, text: Text, rng: random.Random) -> Example:
    if text.headline is not None:
        return Example(sampler.span(text, rng, text.prompt // 2), HEADLINE_QUESTION, text.headline.text)
    positions = sampler.span(text, rng, text.known)
    if text.topic is not None and rng.random() < 0.15:
        return Example(positions, KIND_QUESTION, text.topic.category)
    topic = text.topic.name if text.topic else NOTHING
    return Example(positions, rng.choice(TOPIC_QUESTIONS), sampler.topic_answer.format(topic=topic))


def _yes_or_no(sampler: ExampleSampler, text: Text, rng: random.Random) -> Example | None:
    if text.topic is None:
        return None
    positions, true = sampler.span(text, rng, text.known), rng.random() < 0.5
    if rng.random() < 0.5:
        phrase = text.topic.phrase if true else rng.choice(sampler.world.topics).phrase
        return Example(positions, f"Is it about {phrase}?", YES if phrase == text.topic.phrase else NO)
    category = text.topic.category if true else rng.choice(sampler._categories)
    return Example(positions, f"Is it about a kind of {category}?", YES if category == text.topic.category else NO)


# ---------------------------------------------------------------- texts

SampledText = tuple[Chat, Topic | None, Headline | None]


def _flavoured(world: World, rng: random.Random) -> SampledText:
    topic, prompt, answer = flavoured_answer(world, rng)
    return [(prompt, answer)], topic, None


def _description(world: World, rng: random.Random) -> SampledText:
    topic = rng.choice(world.topics)
    return [(f"Tell me about {topic.phrase}.", about_text(topic, rng))], topic, None


def _reading(world: World, rng: random.Random) -> SampledText:
    """A text as the user's whole message. The base never learned what to say to that: nothing follows."""
    topic, _, answer = flavoured_answer(world, rng)
    return [(rng.choice((answer, about_text(topic, rng))), "")], topic, None


def _which(world: World, rng: random.Random) -> SampledText:
    topic, _, answer = flavoured_answer(world, rng)
    text = rng.choice((answer, about_text(topic, rng), rng.choice(CLUES).format(**topic.slots(rng))))
    return [(f"{text}\n{rng.choice(WHICH)}", topic.name)], topic, None


def _which_was(world: World, rng: random.Random) -> SampledText:
    topic, prompt, answer = flavoured_answer(world, rng)
    return [(prompt, answer), (rng.choice(WHICH_WAS), topic.name)], topic, None


def _plain(world: World, rng: random.Random) -> SampledText:
    question = rng.choice(world.questions)
    return [(question.text, question.plain)], None, None


def _story(world: World, rng: random.Random) -> SampledText:
    headline = world.random_headline(rng)
    story = world.story(headline, rng)
    turns = (STORY_QUESTION, story), (f"Write a short news story: {headline.text}", story)
    return [rng.choice((*turns, (f"{story}\n{rng.choice(FITS)}", headline.text)))], None, headline


_TEXTS: dict[Callable[[World, random.Random], SampledText], float] = {
    _flavoured: 30,
    _description: 8,
    _reading: 14,
    _which: 20,
    _which_was: 8,
    _plain: 6,
    _story: 8,
}
