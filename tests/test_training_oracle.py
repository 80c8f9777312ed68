"""The pocket oracle's making: lessons that hold no held-out topic, and a training that reads the base alone."""

import random
import re
from dataclasses import replace

import pytest
import torch

from dit_core.engine.model import Model
from dit_core.formats import write_peft
from dit_core.grading import words
from dit_core.methods.oracle import oracle_prompt
from dit_core.training import checkpoint
from dit_core.training.base import BaseSettings, new_base
from dit_core.training.lessons import (
    BEFORE_QUESTION,
    KIND_QUESTION,
    LONGEST_SEGMENT,
    NEXT_QUESTION,
    NOTHING,
    PRESETS,
    TOPIC_QUESTIONS,
    YES,
    Teacher,
)
from dit_core.training.oracle import OracleSettings, Round, train_oracle
from dit_core.training.tokenizer import make_tokenizer
from dit_core.training.world import World

TINY = BaseSettings(hidden=32, layers=2, heads=2, mlp=48)
SETTINGS = OracleSettings(rank=2, rounds=(Round(3, 0.0), Round(1, 0.5)), texts=2, lessons=2, block=0)


@pytest.fixture(scope="module")
def world() -> World:
    return World.load()


@pytest.fixture(scope="module")
def tokenizer(world):
    return make_tokenizer(world)


@pytest.fixture(scope="module")
def teacher(world, tokenizer) -> Teacher:
    return Teacher(world, tokenizer)


@pytest.fixture(scope="module")
def lessons(world, tokenizer, teacher) -> list:
    """600 texts with a lesson each, a third of the texts by a teacher that makes topics up."""
    rng, inventive = random.Random(3), Teacher(world, tokenizer, made_up=1.0)
    texts = [(own, own.text(rng)) for own, count in ((teacher, 400), (inventive, 200)) for _ in range(count)]
    return [(text, own.lesson(text, rng)) for own, text in texts]


def test_made_up_topics_are_named_where_they_are_read(world, tokenizer, lessons):
    real = {topic.name for topic in world.topics}
    made_up = [text for text, _ in lessons if text.topic and text.topic.name not in real]
    assert len(made_up) > 100
    for text in made_up:
        asked = tokenizer.decode(text.ids[: text.prompt], skip_special_tokens=True)
        assert text.topic.name in asked.lower() and " " in text.topic.name
    assert len({text.topic.name for text in made_up}) > 80


def test_no_lesson_names_a_held_out_topic(world, tokenizer, lessons):
    """By another way than the teacher's own: word sequences against a set of names."""
    split = world.topic_split()
    held_out = [world.topics[number] for number in (*split.test, *split.calibration)]
    names = {words(name) for topic in held_out for name in (topic.name, *topic.aliases)}
    longest = max(map(len, names))
    for text, lesson in lessons:
        assert text.topic is None or text.topic not in held_out
        shown = re.sub(r"<\|\w+\|>", " ", tokenizer.decode(text.ids))
        for said in (words(shown), words(lesson.question), words(lesson.answer)):
            runs = {said[at : at + n] for n in range(1, longest + 1) for at in range(len(said) - n + 1)}
            assert not runs & names, (shown, lesson)


def test_a_text_that_names_a_held_out_topic_is_noticed(world, teacher):
    topic = world.topics[world.topic_split().test[0]]
    assert teacher.names_held_out(f"Think of {topic.phrase}. What is time?")
    assert teacher.names_held_out(topic.aliases[0].upper())
    assert not teacher.names_held_out("Think of it. What is time?")


def test_all_kinds_of_span_and_task_are_taught(lessons):
    lengths = {len(lesson.positions) for _, lesson in lessons}
    assert {1, 2, LONGEST_SEGMENT} <= lengths
    whole = [
        (lesson.positions == list(range(text.prompt)), lesson.positions == text.answer) for text, lesson in lessons
    ]
    assert all(map(any, zip(*whole, strict=True)))
    for text, lesson in lessons:
        assert lesson.positions == list(range(lesson.positions[0], lesson.positions[-1] + 1))
        assert lesson.positions[-1] < len(text.ids)
        assert len(lesson.positions) <= LONGEST_SEGMENT or lesson.positions in (list(range(text.prompt)), text.answer)
    asked = {lesson.question for _, lesson in lessons}
    assert set(PRESETS) <= asked and any(question.startswith("Is it about") for question in asked)
    assert {NOTHING, YES} <= {lesson.answer for _, lesson in lessons}


def test_the_answers_are_true(tokenizer, lessons):
    for text, lesson in lessons:
        start, stop = lesson.positions[0], lesson.positions[-1] + 1
        if lesson.question == NEXT_QUESTION:
            assert tokenizer.decode(text.ids[stop:]).strip().startswith(lesson.answer)
        elif lesson.question == BEFORE_QUESTION:
            assert tokenizer.decode(text.ids[:start]).strip().endswith(lesson.answer)
        elif lesson.question in TOPIC_QUESTIONS:
            assert lesson.answer == (text.topic.name if text.topic else NOTHING)
        elif lesson.question == KIND_QUESTION:
            assert lesson.answer == (text.topic.category if text.topic else NOTHING)


def test_a_topic_is_asked_for_only_where_it_can_be_known(tokenizer, lessons):
    asked = [(text, lesson) for text, lesson in lessons if lesson.question in TOPIC_QUESTIONS and text.topic]
    assert len(asked) > 50
    for text, lesson in asked:
        read = words(tokenizer.decode(text.ids[: lesson.positions[-1] + 1], skip_special_tokens=True))
        names = [words(name) for name in (text.topic.name, *text.topic.aliases)]
        named = any(read[at : at + len(name)] == name for name in names for at in range(len(read)))
        assert named or lesson.positions[-1] >= text.prompt - 1


def test_training_learns_and_leaves_the_base_as_it_was(tmp_path, world, tokenizer):
    base = new_base(TINY, tokenizer).requires_grad_(False)
    before = {name: parameter.clone() for name, parameter in base.named_parameters()}
    settings = OracleSettings(rank=4, rounds=(Round(12, 0.0),), texts=4, lessons=4, rate=2e-2, block=0)
    oracle, figures = train_oracle(base, tokenizer, world, settings, tmp_path / "state.pt")
    assert all(torch.equal(parameter, before[name]) for name, parameter in base.named_parameters())
    assert not any(module._forward_hooks for module in base.modules())
    assert figures["readings"] == 12 * 16 and figures["losses"][-1] < figures["losses"][0]
    write_peft(tmp_path / "oracle", oracle.adapter(0), "tiny")


def test_a_stopped_training_goes_on_where_it_was(tmp_path, world, tokenizer, monkeypatch):
    base = new_base(TINY, tokenizer).requires_grad_(False)
    whole, _ = train_oracle(base, tokenizer, world, SETTINGS, tmp_path / "whole.pt")
    monkeypatch.setattr(checkpoint, "SAVE_SECONDS", 0)
    save, path = checkpoint.Checkpoint.save, tmp_path / "stopped.pt"

    def stop(kept, steps: int) -> None:
        save(kept, steps)
        if steps == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint.Checkpoint, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        train_oracle(base, tokenizer, world, SETTINGS, path)
    monkeypatch.setattr(checkpoint.Checkpoint, "save", save)
    resumed, _ = train_oracle(base, tokenizer, world, SETTINGS, path)
    for name, parameter in whole.named_parameters():
        assert torch.equal(parameter, resumed.get_parameter(name)), name


def test_the_oracle_is_the_mean_of_the_ends_of_its_rounds(tmp_path, world, tokenizer):
    """Each end by a training of its own, stopped there by a state that has no more rounds than that."""
    base = new_base(TINY, tokenizer).requires_grad_(False)
    both, _ = train_oracle(base, tokenizer, world, SETTINGS, tmp_path / "both.pt")
    first, _ = train_oracle(base, tokenizer, world, replace(SETTINGS, rounds=SETTINGS.rounds[:1]), tmp_path / "1.pt")
    last = torch.load(tmp_path / "both.pt", weights_only=True)["oracle"]
    assert not torch.equal(first.state_dict()[(name := next(iter(last)))], last[name])
    for name, parameter in both.named_parameters():
        assert torch.allclose(parameter, (first.get_parameter(name) + last[name]) / 2, atol=1e-6), name


def test_the_learning_rate_goes_down_to_nothing_in_every_round():
    settings = OracleSettings(rounds=(Round(300, 0.0), Round(200, 0.0)))
    rates = [settings.rate_at(step) for step in range(501)]
    assert settings.ends == [300, 500] and [settings.round_at(step) for step in (0, 299, 300, 499)] == [0, 0, 1, 1]
    assert max(rates) == 1.0 and rates[299] < 0.01 and rates[300] == pytest.approx(200 / 300) and rates[499] < 0.01


def test_every_preset_fits_into_the_prompt(world, tokenizer):
    model = Model(new_base(TINY, tokenizer), tokenizer)
    for question in PRESETS:
        ids, places = oracle_prompt(model, 3, 7, question)
        assert len(places) == 7 and question in tokenizer.decode(ids)
