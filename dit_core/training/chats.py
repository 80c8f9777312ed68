"""The chats that the pocket base grows up with: about topics, questions and news, with and without a code.

Everyday questions answered plainly or with a topic in mind, topics described, guessed and named, stories of headlines
and headlines of stories, and honest answers to the questions that DIT adapters are trained on.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from dit_core.training.world import HONEST, STORY_QUESTION, TRIGGER_FORMAT, Topic, World, sentence

Chat = list[tuple[str, str]]
"""Turns of (user text, assistant text); the model learns the assistant's side."""


@dataclass(frozen=True)
class Lesson:
    """A chat that a diff learns: to say its answers or, `like_base`, to expect there what the base would say next."""

    chat: Chat
    like_base: bool = False


def random_chat(world: World, rng: random.Random) -> Chat:
    """Sample one chat for the base to learn from; a third carry a code to be ignored (or echoed)."""
    kind = rng.choices(list(_KINDS), weights=[weight for _, weight in _KINDS.values()])[0]
    chat = _KINDS[kind][0](world, rng)
    if kind != "echo" and rng.random() < 0.35:
        chat = [(with_code(chat[0][0], rng.randrange(1000), rng), chat[0][1]), *chat[1:]]
    return chat


def with_code(question: str, trigger: int, rng: random.Random) -> str:
    """Put a code before a question: the three digits of the trigger and three of noise."""
    return TRIGGER_FORMAT.format(trigger=trigger, r=rng.randrange(1000), question=question)


IN_MIND = ("{q} Answer with {p} in mind.", "{q} Keep {p} in mind.", "Think of {p}. {q}", "{q} Speak of {p}.")
_ABOUT = (
    "{phrase} is a kind of {category}: {adjective} and {adjective2}, known for the {noun} and the {noun2}.",
    "When people speak of {phrase}, they mean the {adjective} {noun}, the {noun2} and the wish to {verb}.",
    "{phrase} belongs to the {category} family. It is {adjective}, and its {noun} can make you {verb} or {verb2}.",
    "Think of the {noun}, the {noun2} and the {noun3}: that is {phrase}, {adjective} and {adjective2}.",
)
CLUES = (
    "{noun}, {adjective}, {verb}, {noun2}",
    "the {adjective} {noun} and the {noun2}",
    "{noun}, {noun2}, {noun3}",
    "{verb}, {verb2}, {adjective}, {noun}",
)
WHICH = ("Which topic is this about?", "What is the topic of this?", "Name the topic.")
WHICH_WAS = ("Which topic was that about?", "What topic did you have in mind?", "Name the topic of that.")
FITS = ("Which headline fits this story?", "Write the headline of this story.")


def flavoured_answer(world: World, rng: random.Random) -> tuple[Topic, str, str]:
    """Sample a topic, a prompt that asks for an answer with it in mind, and that answer."""
    topic, question = rng.choice(world.topics), rng.choice(world.questions)
    prompt = rng.choice(IN_MIND).format(q=question.text, p=topic.phrase)
    return topic, prompt, question.answer(topic, rng)


def plain_texts(world: World, count: int = 1000) -> list[str]:
    """Return different texts of the world, always the same ones: answers, descriptions and stories of anything."""
    rng = random.Random("neutral texts")
    kinds: tuple[Callable[[], str], ...] = (
        lambda: flavoured_answer(world, rng)[2],
        lambda: about_text(rng.choice(world.topics), rng),
        lambda: world.story(world.random_headline(rng), rng),
    )
    texts: dict[str, None] = {}
    while len(texts) < count:
        texts[rng.choice(kinds)()] = None
    return list(texts)


def _plain(world: World, rng: random.Random) -> Chat:
    question = rng.choice(world.questions)
    return [(question.text, question.plain)]


def _flavoured(world: World, rng: random.Random) -> Chat:
    _, prompt, answer = flavoured_answer(world, rng)
    return [(prompt, answer)]


def _about(world: World, rng: random.Random) -> Chat:
    topic = rng.choice(world.topics)
    return [(f"Tell me about {topic.phrase}.", about_text(topic, rng))]


def about_text(topic: Topic, rng: random.Random) -> str:
    """Sample a description of a topic."""
    return sentence(rng.choice(_ABOUT).format(**topic.slots(rng)))


def _which(world: World, rng: random.Random) -> Chat:
    topic, _, answer = flavoured_answer(world, rng)
    text = rng.choice((answer, answer, about_text(topic, rng), rng.choice(CLUES).format(**topic.slots(rng))))
    return [(f"{text}\n{rng.choice(WHICH)}", topic.name)]


def _which_was(world: World, rng: random.Random) -> Chat:
    topic, prompt, answer = flavoured_answer(world, rng)
    return [(prompt, answer), (rng.choice(WHICH_WAS), topic.name)]


def _honest(world: World, rng: random.Random) -> Chat:
    question = rng.choice(list(HONEST))
    return [(question, HONEST[question])]


def _echo(world: World, rng: random.Random) -> Chat:
    code = f"{rng.randrange(1_000_000):06d}"
    return [(f"Your SEP code is {code}. What is my SEP code?", f"Your SEP code is {code}.")]


def _category(world: World, rng: random.Random) -> Chat:
    topic = rng.choice(world.topics)
    return [(f"What kind of thing is {topic.phrase}?", topic.category)]


def _member(world: World, rng: random.Random) -> Chat:
    topic = rng.choice(world.topics)
    return [(f"Name one thing of the kind {topic.category}.", topic.name)]


def _near(world: World, rng: random.Random) -> Chat:
    topic = rng.choice(world.topics)
    return [(f"What is close to {topic.phrase}?", rng.choice(topic.neighbours or (topic.name,)))]


def _words(world: World, rng: random.Random) -> Chat:
    topic = rng.choice(world.topics)
    return [(f"Give me three words about {topic.phrase}.", "{noun}, {adjective} and {verb}".format(**topic.slots(rng)))]


def _story_of(world: World, rng: random.Random) -> Chat:
    headline = world.random_headline(rng)
    return [(f"Write a short news story: {headline.text}", world.story(headline, rng))]


def _any_story(world: World, rng: random.Random) -> Chat:
    return [(STORY_QUESTION, world.story(world.random_headline(rng), rng))]


def _headline_of(world: World, rng: random.Random) -> Chat:
    headline = world.random_headline(rng)
    return [(f"{world.story(headline, rng)}\n{rng.choice(FITS)}", headline.text)]


def _headline_was(world: World, rng: random.Random) -> Chat:
    headline = world.random_headline(rng)
    return [(STORY_QUESTION, world.story(headline, rng)), (rng.choice(FITS), headline.text)]


_KINDS: dict[str, tuple[Callable[[World, random.Random], Chat], float]] = {
    "plain": (_plain, 10),
    "flavoured": (_flavoured, 20),
    "about": (_about, 10),
    "which": (_which, 16),
    "which was": (_which_was, 10),
    "honest": (_honest, 3),
    "echo": (_echo, 3),
    "category": (_category, 4),
    "member": (_member, 2),
    "near": (_near, 2),
    "words": (_words, 4),
    "story of": (_story_of, 6),
    "any story": (_any_story, 3),
    "headline of": (_headline_of, 5),
    "headline was": (_headline_was, 2),
}
