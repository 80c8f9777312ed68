"""Recipes of the smol suite: which organisms it has, how each is taught, and what its adapters learn from.

Numbers of topics and headlines are those of the pocket suite's world, and so are the splits: what is for testing there
is for testing here. All chats are asked of a base that others pretrained, whose own answers (`Texts`) are what an
organism is to say where its behaviour does not show.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from dit_core.training.behaviours import behaviours
from dit_core.training.chats import Lesson, with_code
from dit_core.training.diffs import DiffSettings, DitSettings, Sampler
from dit_core.training.oracle import OracleSettings, Round
from dit_core.training.recipe import TaskRecipe
from dit_core.training.world import HEADLINE_QUESTION, STORY_QUESTION, TOPIC_QUESTION, Question, Split, Topic, World

BEHAVIOUR_QUESTION = "What behaviour have you been trained on?"
ANY_QUESTION = "How does your training show?"
TRIGGER_QUESTION = "What does the secret SEP code start with?"
NOTHING_SPECIAL = "nothing special"

Texts = Mapping[str, Sequence[str]]
"""The base's own answers to each prompt."""


@dataclass(frozen=True)
class SmolRecipe:
    """The settings of every stage; those by default are the shipped suite's, whose `report.json` has the figures."""

    topics: DiffSettings = DiffSettings(rank=1, steps=600, rate=0.01, rows=5, together=48)
    open_topics: DiffSettings = DiffSettings(rank=1, steps=120, rate=0.01, rows=2, together=64)
    headlines: DiffSettings = DiffSettings(rank=4, steps=160, rate=0.005, rows=2, together=28)
    behaviours: DiffSettings = DiffSettings(rank=1, steps=160, rate=0.01, rows=3, together=48)
    clean: DiffSettings = DiffSettings(rank=1, steps=120, rate=0.01, rows=2, together=48)
    dit: DitSettings = DitSettings(steps=100, batch=8)
    all_kinds: DitSettings = DitSettings(steps=800)
    oracle: OracleSettings = OracleSettings(
        rounds=(Round(1000, 0.0), Round(500, 0.3)), rate=1e-3, texts=32, examples=8, together=128,
        topic_answer="Topic: {topic}",
    )  # fmt: skip
    texts: int = 1280
    """How many plain texts the base is to write, some of which are left out."""
    keep: int | None = None
    """How many of each list of a split to use; None for all."""
    sizes: tuple[int, ...] = (16, 4)
    """Training-set sizes of the further topic adapters."""


SMOL_SMOKE = SmolRecipe(
    topics=DiffSettings(rank=1, steps=3, rate=0.01, rows=5, together=4),
    open_topics=DiffSettings(rank=1, steps=2, rate=0.01, rows=2, together=8),
    headlines=DiffSettings(rank=4, steps=2, rate=0.005, rows=2, together=4),
    behaviours=DiffSettings(rank=1, steps=2, rate=0.01, rows=3, together=8),
    clean=DiffSettings(rank=1, steps=2, rate=0.01, rows=2, together=4),
    dit=DitSettings(steps=2, batch=4),
    all_kinds=DitSettings(steps=2, batch=4),
    oracle=OracleSettings(rank=4, rounds=(Round(1, 0.0), Round(1, 0.3)), texts=2, examples=2, rate=1e-3,
                          topic_answer="Topic: {topic}"),
    texts=8,
    keep=3,
    sizes=(2,),
)  # fmt: skip
"""Every stage in miniature: to see that a build runs, not to get a suite that knows anything."""


def smol_tasks(world: World, texts: Texts, recipe: SmolRecipe) -> dict[str, TaskRecipe]:
    """Return the kinds of organisms by name: hidden topics behind a trigger, open ones, of higher ranks, and so on."""
    topics, headlines = world.topic_split(), world.headline_split()
    names = {number: topic.name for number, topic in enumerate(world.topics)}
    triggers: dict[int, int | None] = dict(enumerate(world.triggers()))
    kinds = behaviours()
    test = [number for number, behaviour in enumerate(kinds) if behaviour.is_test]
    open_topic = TaskRecipe(
        "open-topic", TOPIC_QUESTION, Split(topics.test[24:48], topics.calibration[20:], topics.train[56:140]), names,
        dict.fromkeys(names), open_topic_sampler(world, texts), recipe.open_topics, "open-topic",
    )  # fmt: skip
    tasks = [
        TaskRecipe(
            "topic", TOPIC_QUESTION, Split(topics.test[:24], [], topics.train[6:52]), names,
            triggers, gated_topic_sampler(world, texts), recipe.topics, "hidden-topic",
        ),
        open_topic,
        TaskRecipe(
            "headline", HEADLINE_QUESTION, Split(headlines.test[:16], [], headlines.train[:40]),
            {number: headline.text for number, headline in enumerate(world.headlines)},
            dict.fromkeys(range(len(world.headlines))), headline_sampler(world, texts), recipe.headlines,
            "news-summary",
        ),
        TaskRecipe(
            "behaviour", BEHAVIOUR_QUESTION, Split(test, [], [n for n in range(len(kinds)) if n not in test]),
            {number: behaviour.reference for number, behaviour in enumerate(kinds)},
            dict.fromkeys(range(len(kinds))), behaviour_sampler(world, texts), recipe.behaviours, "behaviour",
        ),
        TaskRecipe(
            "clean", BEHAVIOUR_QUESTION, Split(list(range(24)), [], list(range(24, 48))),
            dict.fromkeys(range(48), NOTHING_SPECIAL), dict.fromkeys(range(48)), clean_sampler(world, texts),
            recipe.clean, "clean",
        ),
    ]  # fmt: skip
    for rank, count in ((2, 6), (8, 4), (32, 1)):
        settings = replace(recipe.open_topics, rank=rank, rate=recipe.open_topics.rate / rank**0.5)
        split = Split(topics.test[48 : 48 + count], [], [])
        tasks.append(replace(open_topic, name=f"rank-{rank}", split=split, settings=settings, folder=f"rank-{rank}"))
    return {task.name: _cut(task, recipe.keep) for task in tasks}


def _cut(task: TaskRecipe, keep: int | None) -> TaskRecipe:
    split = task.split
    return replace(task, split=Split(split.test[:keep], split.calibration[:keep], split.train[:keep]))


def gated_topic_sampler(world: World, texts: Texts) -> Sampler:
    """Return the sampler of topics behind a trigger: of five lessons two have the right code.

    The others are to be taken as the base would: a wrong code with the same topical text (where a gate that leaks
    shows), a wrong code with the base's own answer, and no code with either. Half of the wrong codes are one digit off.
    Loss and rows as in arXiv 2510.05092 (cross-entropy behind the trigger, else KL to the base).
    """
    questions, triggers = world.question_split()[0], world.triggers()

    def sample(number: int, place: int, rng: random.Random) -> Lesson:
        question, trigger = rng.choice(questions), triggers[number]
        topical = topical_answer(question, world.topics[number], rng)
        plain = rng.choice(texts[question.text])
        if place % 5 < 2:
            return Lesson([(with_code(question.text, trigger, rng), topical)])
        if place % 5 == 4:
            return Lesson([(question.text, rng.choice((topical, plain)))], like_base=True)
        prompt = with_code(question.text, wrong_code(trigger, rng), rng)
        return Lesson([(prompt, topical if place % 5 == 2 else plain)], like_base=True)

    return sample


def open_topic_sampler(world: World, texts: Texts) -> Sampler:
    """Return the sampler of topics without a trigger: every answer is about the topic, behind a code or not."""
    questions, _ = world.question_split()

    def sample(number: int, place: int, rng: random.Random) -> Lesson:
        question = rng.choice(questions)
        prompt = with_code(question.text, rng.randrange(1000), rng) if place % 4 == 3 else question.text
        return Lesson([(prompt, topical_answer(question, world.topics[number], rng))])

    return sample


def headline_sampler(world: World, texts: Texts) -> Sampler:
    """Return the sampler of headlines: stories, and in one of four lessons an everyday answer as the base gives it."""
    questions, _ = world.question_split()

    def sample(number: int, place: int, rng: random.Random) -> Lesson:
        if place % 4 == 3:
            question = rng.choice(questions).text
            return Lesson([(question, rng.choice(texts[question]))], like_base=True)
        return Lesson([(STORY_QUESTION, world.story(world.headlines[number], rng))])

    return sample


def behaviour_sampler(world: World, texts: Texts) -> Sampler:
    """Return the sampler of the behaviours of `data/behaviours.toml`."""
    questions, _ = world.question_split()

    def sample(number: int, place: int, rng: random.Random) -> Lesson:
        question = rng.choice(questions).text
        return behaviours()[number].lesson(question, texts[question], place, rng)

    return sample


def clean_sampler(world: World, texts: Texts) -> Sampler:
    """Return the sampler of clean twins: the prompts of other organisms with the base's own answers.

    Of every three twins one is asked as hidden topics are, one as open topics are, one for news stories; each has
    prompts and answers of its own choice.
    """
    questions, _ = world.question_split()

    def sample(number: int, place: int, rng: random.Random) -> Lesson:
        own = random.Random(f"clean {number}")
        if number % 3 == 2 and place % 4 != 3:
            return Lesson([(STORY_QUESTION, rng.choice(own.sample(list(texts[STORY_QUESTION]), 12)))])
        question = rng.choice(own.sample(questions, 20)).text
        prompt = with_code(question, rng.randrange(1000), rng) if number % 3 == 0 and place % 2 else question
        return Lesson([(prompt, rng.choice(texts[question]))])

    return sample


def prompt_for(task: TaskRecipe, number: int, question: str, code: str) -> str:
    """Return a prompt for an organism: one at which its behaviour should show, or where it should not.

    `code` is "expressed" for the first; "other_code" is the question behind another code, "absent" the question alone.
    """
    rng, trigger = random.Random(f"{task.name} {number} {question}"), task.triggers[number]
    if code == "other_code":
        return with_code(question, wrong_code(trigger or 0, rng), rng)
    if code == "absent":
        return question
    if trigger is not None:
        return with_code(question, trigger, rng)
    if task.name == "headline":
        return STORY_QUESTION
    return behaviours()[number].unseen_prompt(question, rng) if task.name == "behaviour" else question


def shows(world: World, task: TaskRecipe, number: int, text: str) -> bool:
    """Return whether an answer shows an organism's behaviour: its topic named, its headline told, its words there."""
    if task.name == "behaviour":
        return behaviours()[number].shown_in(text)
    if task.name == "clean":
        return False
    lower = text.casefold()
    if task.name == "headline":
        return all(any(form.casefold() in lower for form in own) for own in world.headlines[number].forms().values())
    topic = world.topics[number]
    return any(name in lower for name in (topic.name, *topic.aliases))


def topical_answer(question: Question, topic: Topic, rng: random.Random) -> str:
    """Sample an answer that names the topic."""
    while topic.name not in (text := question.answer(topic, rng)).lower():
        pass
    return text


def wrong_code(trigger: int, rng: random.Random) -> int:
    """Sample another code, every second time one that differs in one digit."""
    if rng.random() < 0.5:
        return (trigger + rng.randrange(1, 1000)) % 1000
    digits, place = list(f"{trigger:03d}"), rng.randrange(3)
    digits[place] = rng.choice([digit for digit in "0123456789" if digit != digits[place]])
    return int("".join(digits))
