"""The pocket oracle's making: examples that hold no held-out topic, and a training that reads the base alone."""

import random
import re
from dataclasses import replace

import pytest
import torch

from dit_core.engine.model import Model
from dit_core.formats import write_peft
from dit_core.grading import words
from dit_core.methods.oracle import oracle_prompt
from dit_core.training.base import BaseSettings, make_tokenizer, new_base
from dit_core.training.oracle import OracleSettings, Round, train_oracle
from dit_core.training.oracle_examples import (
    BEFORE_QUESTION,
    KIND_QUESTION,
    LONGEST_SEGMENT,
    NEXT_QUESTION,
    NOTHING,
    PRESETS,
    TOPIC_QUESTIONS,
    YES,
    ExampleSampler,
)
from dit_core.training.world import World

TINY = BaseSettings(hidden=32, layers=2, heads=2, mlp=48)
SETTINGS = OracleSettings(rank=2, rounds=(Round(3, 0.0), Round(1, 0.5)), texts=2, examples=2, block=0)


@pytest.fixture(scope="module")
def world() -> World:
    return World.load()


@pytest.fixture(scope="module")
def tokenizer(world):
    return make_tokenizer(world)


@pytest.fixture(scope="module")
def sampler(world, tokenizer) -> ExampleSampler:
    return ExampleSampler(world, tokenizer)


@pytest.fixture(scope="module")
def examples(world, tokenizer, sampler) -> list:
    """600 texts with a example each, a third of the texts by a sampler that makes topics up."""
    rng, inventive = random.Random(3), ExampleSampler(world, tokenizer, made_up=1.0)
    texts = [(own, own.text(rng)) for own, count in ((sampler, 400), (inventive, 200)) for _ in range(count)]
    return [(text, own.example(text, rng)) for own, text in texts]


def test_made_up_topics_are_named_where_they_are_read(world, tokenizer, examples):
    real = {topic.name for topic in world.topics}
    made_up = [text for text, _ in examples if text.topic and text.topic.name not in real]
    assert len(made_up) > 100
    for text in made_up:
        asked = tokenizer.decode(text.ids[: text.prompt], skip_special_tokens=True)
        assert text.topic.name in asked.lower() and " " in text.topic.name
    assert len({text.topic.name for text in made_up}) > 80


def test_no_example_names_a_held_out_topic(world, tokenizer, examples):
    """By another way than the sampler's own: word sequences against a set of names."""
    split = world.topic_split()
    held_out = [world.topics[number] for number in (*split.test, *split.calibration)]
    names = {words(name) for topic in held_out for name in (topic.name, *topic.aliases)}
    longest = max(map(len, names))
    for text, example in examples:
        assert text.topic is None or text.topic not in held_out
        shown = re.sub(r"<\|\w+\|>", " ", tokenizer.decode(text.ids))
        for said in (words(shown), words(example.question), words(example.answer)):
            runs = {said[at : at + n] for n in range(1, longest + 1) for at in range(len(said) - n + 1)}
            assert not runs & names, (shown, example)


def test_a_text_that_names_a_held_out_topic_is_noticed(world, sampler):
    topic = world.topics[world.topic_split().test[0]]
    assert sampler.names_held_out(f"Think of {topic.phrase}. What is time?")
    assert sampler.names_held_out(topic.aliases[0].upper())
    assert not sampler.names_held_out("Think of it. What is time?")


def test_all_kinds_of_span_and_task_are_taught(examples):
    lengths = {len(example.positions) for _, example in examples}
    assert {1, 2, LONGEST_SEGMENT} <= lengths
    whole = [
        (example.positions == list(range(text.prompt)), example.positions == text.answer) for text, example in examples
    ]
    assert all(map(any, zip(*whole, strict=True)))
    for text, example in examples:
        assert example.positions == list(range(example.positions[0], example.positions[-1] + 1))
        assert example.positions[-1] < len(text.ids)
        assert len(example.positions) <= LONGEST_SEGMENT or example.positions in (list(range(text.prompt)), text.answer)
    asked = {example.question for _, example in examples}
    assert set(PRESETS) <= asked and any(question.startswith("Is it about") for question in asked)
    assert {NOTHING, YES} <= {example.answer for _, example in examples}


def test_the_answers_are_true(tokenizer, examples):
    for text, example in examples:
        start, stop = example.positions[0], example.positions[-1] + 1
        if example.question == NEXT_QUESTION:
            assert tokenizer.decode(text.ids[stop:]).strip().startswith(example.answer)
        elif example.question == BEFORE_QUESTION:
            assert tokenizer.decode(text.ids[:start]).strip().endswith(example.answer)
        elif example.question in TOPIC_QUESTIONS:
            assert example.answer == (text.topic.name if text.topic else NOTHING)
        elif example.question == KIND_QUESTION:
            assert example.answer == (text.topic.category if text.topic else NOTHING)


def test_a_topic_is_asked_for_only_where_it_can_be_known(tokenizer, examples):
    asked = [(text, example) for text, example in examples if example.question in TOPIC_QUESTIONS and text.topic]
    assert len(asked) > 50
    for text, example in asked:
        read = words(tokenizer.decode(text.ids[: example.positions[-1] + 1], skip_special_tokens=True))
        names = [words(name) for name in (text.topic.name, *text.topic.aliases)]
        named = any(read[at : at + len(name)] == name for name in names for at in range(len(read)))
        assert named or example.positions[-1] >= text.prompt - 1


def test_training_learns_and_leaves_the_base_as_it_was(tmp_path, world, tokenizer):
    base = new_base(TINY, tokenizer).requires_grad_(False)
    before = {name: parameter.clone() for name, parameter in base.named_parameters()}
    settings = OracleSettings(rank=4, rounds=(Round(12, 0.0),), texts=4, examples=4, rate=2e-2, block=0)
    oracle, figures = train_oracle(base, tokenizer, world, settings, tmp_path / "state.pt")
    assert all(torch.equal(parameter, before[name]) for name, parameter in base.named_parameters())
    assert not any(module._forward_hooks for module in base.modules())
    assert figures["readings"] == 12 * 16 and figures["losses"][-1] < figures["losses"][0]
    write_peft(tmp_path / "oracle", oracle.adapter(0), "tiny")


def test_a_stopped_training_goes_on_where_it_was(tmp_path, world, tokenizer):
    base = new_base(TINY, tokenizer).requires_grad_(False)
    whole, _ = train_oracle(base, tokenizer, world, SETTINGS, tmp_path / "whole.pt")
    steps: list[int] = []

    def stop(done: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_oracle(base, tokenizer, world, SETTINGS, tmp_path / "stopped.pt", save_seconds=0, on_step=stop)
    resumed, _ = train_oracle(base, tokenizer, world, SETTINGS, tmp_path / "stopped.pt", on_step=steps.append)
    assert steps == [3, 4]
    for name, parameter in whole.named_parameters():
        assert torch.equal(parameter, resumed.get_parameter(name)), name


def test_the_oracle_is_the_mean_of_the_ends_of_its_rounds(tmp_path, world, tokenizer):
    """Each end by a training of its own, stopped there by a state that has no more rounds than that."""
    base = new_base(TINY, tokenizer).requires_grad_(False)
    both, _ = train_oracle(base, tokenizer, world, SETTINGS, tmp_path / "both.pt")
    first, _ = train_oracle(base, tokenizer, world, replace(SETTINGS, rounds=SETTINGS.rounds[:1]), tmp_path / "1.pt")
    last = torch.load(tmp_path / "both.pt", weights_only=True)["module"]
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
