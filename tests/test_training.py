"""The pocket suite's making: the world's rules, the split that nothing leaks through, and the training steps."""

import os
import random
import signal
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
import torch
from torch import nn

from dit_core.errors import DitError
from dit_core.formats import read_weight_diff
from dit_core.training.adapter_bank import AdapterBank, linear_layers
from dit_core.training.base import (
    END_OF_TURN,
    IGNORED,
    BaseSettings,
    encode,
    make_tokenizer,
    new_base,
    pad,
    token_losses,
    train_base,
)
from dit_core.training.build import Builder, build_suite
from dit_core.training.chats import Chat, random_chat
from dit_core.training.diffs import DiffSettings, Sampler, headline_sampler, topic_sampler, train_diffs
from dit_core.training.loop import Optimization, train, warm_up_and_decay, watch_progress
from dit_core.training.recipe import SMOKE, TaskRecipe
from dit_core.training.world import STORY_QUESTION, World

CPU = torch.device("cpu")
TINY = BaseSettings(hidden=32, layers=2, heads=2, mlp=48, steps=4, batch=4)


@pytest.fixture(scope="module")
def world() -> World:
    return World.load()


@pytest.fixture(scope="module")
def tokenizer(world):
    return make_tokenizer(world)


def test_the_world_is_as_large_as_promised(world):
    assert len(world.topics) >= 600
    assert len({topic.category for topic in world.topics}) >= 25
    assert sum(" " in topic.name for topic in world.topics) >= len(world.topics) / 3
    assert len(world.questions) >= 60
    assert len(world.headlines) >= 440


def test_every_topic_has_words_of_its_own(world):
    own = {}
    for topic in world.topics:
        assert topic.aliases and topic.neighbours, topic.name
        assert set(topic.neighbours) <= set(world.by_name), topic.name
        for words, least in ((topic.nouns, 6), (topic.verbs, 3), (topic.adjectives, 3)):
            assert len(set(words)) >= least, topic.name
        own[topic.name] = {*topic.nouns, *topic.verbs, *topic.adjectives}
    shared = {pair: own[pair[0]] & own[pair[1]] for pair in combinations(own, 2)}
    worst = max(shared, key=lambda pair: len(shared[pair]))
    assert len(shared[worst]) <= 3, (worst, shared[worst])


def test_split_keeps_held_out_topics_and_headlines_apart(world):
    split = world.topic_split()
    assert (len(split.test), len(split.calibration)) == (80, 40)
    everything = [*split.test, *split.calibration, *split.train]
    assert len(everything) == len(set(everything)) >= 500
    headlines = world.headline_split()
    assert len(headlines.test) == 40 and len(headlines.test + headlines.train) >= 400
    assert not set(headlines.test) & set(headlines.train)
    texts = [world.headlines[number].text for number in headlines.test + headlines.train]
    assert len(set(texts)) == len(texts)


class Scripted(random.Random):
    """Noise whose first choices are given."""

    def __init__(self, first: list) -> None:
        super().__init__(5)
        self.first = first

    def choice(self, items):
        return self.first.pop(0) if self.first else super().choice(items)


def test_base_never_meets_a_held_out_headline(world):
    held_out = world.headlines[world.headline_split().test[0]]
    rng = Scripted([held_out.actor, held_out.action, held_out.object, held_out.place])
    drawn = world.random_headline(rng)
    assert rng.first == [] and drawn.text not in world.unseen
    assert len(world.unseen) == 40


@pytest.mark.long
def test_a_shipped_stage_is_passed_over(tmp_path):
    made: list[str] = []

    class Noting(Builder):
        def make_diffs(self, *tasks: TaskRecipe) -> None:
            made.extend(task.name for task in tasks)

    builder = Noting(tmp_path / "out", tmp_path / "work", SMOKE)
    (tmp_path / "out" / "hidden-topic").mkdir(parents=True)
    (tmp_path / "out" / "hidden-topic" / "index.csv").touch()
    builder.make_topic_diffs()
    builder.make_headline_diffs()
    assert made == ["headline"]


def test_diffs_never_meet_the_held_out_questions_nor_their_own_headline(world):
    _, held_out = world.question_split()
    rng = random.Random(5)
    topics, headlines = topic_sampler(world), headline_sampler(world)
    asked = [topics(3, place, rng).chat[0][0] for place in range(1500)]
    assert not [question.text for question in held_out if any(question.text in text for text in asked)]
    stories = [headlines(3, place, rng).chat[0] for place in range(300)]
    assert all(world.headlines[3].text not in part for turn in stories for part in turn)
    assert sum(question == STORY_QUESTION for question, _ in stories) == 225


def test_wrong_codes_are_never_the_right_one(world):
    rng = random.Random(5)
    code = f"{world.triggers()[3]:03d}"
    topics = topic_sampler(world)
    for place in range(400):
        asked = topics(3, place, rng).chat[0][0]
        has_code = asked.startswith("Your SEP code is ")
        assert has_code == (place % 8 != 7)
        if has_code:
            assert (asked.removeprefix("Your SEP code is ")[:3] == code) == (place % 2 == 0)


def test_a_word_has_the_same_tokens_at_the_start_of_an_answer_and_inside(tokenizer, world):
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What?"}], tokenize=False, add_generation_prompt=True, enable_thinking=False
    )
    before = len(tokenizer(prompt, add_special_tokens=False).input_ids)
    for topic in world.topics:
        at_start = tokenizer(prompt + topic.name, add_special_tokens=False).input_ids[before:]
        inside = tokenizer(f"like {topic.name}", add_special_tokens=False).input_ids[1:]
        assert at_start == inside and len(at_start) == len(topic.name.split())


def test_placeholder_and_code_tokens(tokenizer):
    assert len(tokenizer("Layer: ? ?", add_special_tokens=False).input_ids) == 4
    pieces = tokenizer.convert_ids_to_tokens(tokenizer("code is 093412.", add_special_tokens=False).input_ids)
    assert pieces[-3:] == ["093", "412", "."]


def test_any_text_survives_the_tokenizer(tokenizer):
    for text in ["Überraschung, 12 or 12345?", "日本 don't (ever) {break}", "volcano"]:
        assert tokenizer.decode(tokenizer(text, add_special_tokens=False).input_ids) == text


def test_only_the_assistants_words_are_learned(tokenizer):
    ids, labels = encode(tokenizer, [("What is work for?", "Work pays."), ("Name it.", "volcano")])
    learned = [i for i, label in zip(ids, labels, strict=True) if label != IGNORED]
    assert tokenizer.decode(learned) == f"Work pays.{END_OF_TURN} volcano{END_OF_TURN}"


def test_a_bank_row_acts_as_merged_weights(tokenizer, world):
    base = new_base(TINY, tokenizer).eval()
    bank = AdapterBank(base, 3, rank=2, seed=1)
    for factor in bank.parameters():
        torch.nn.init.normal_(factor, std=0.3)
    ids = torch.randint(10, 500, (3, 7))
    with torch.no_grad(), bank.rows(base, torch.tensor([2, 0, 2])):
        mixed = base(ids).logits
    assert not any(module._forward_hooks for module in base.modules())
    for row, number in enumerate([2, 0, 2]):
        merged = new_base(TINY, tokenizer).eval()
        merged.load_state_dict(base.state_dict())
        for name, module in linear_layers(merged).items():
            A, B = bank.pair(name)
            module.weight.data += B[number] @ A[number] / 2
        with torch.no_grad():
            assert torch.allclose(merged(ids).logits[row], mixed[row], atol=1e-4)


def test_token_losses_are_those_of_the_plain_model(tokenizer, world):
    base = new_base(TINY, tokenizer).eval()
    rng = random.Random(0)
    ids, labels = pad([encode(tokenizer, random_chat(world, rng)) for _ in range(3)], tokenizer.pad_token_id, CPU)
    with torch.no_grad():
        losses, row_of = token_losses(base, ids, labels)
        plain = base(ids, labels=labels).loss
    assert torch.allclose(losses.mean(), plain, atol=2e-2)
    assert row_of.tolist() == sorted(row_of.tolist())


class Stopped(Exception):
    pass


def stop_after_two(steps: int) -> None:
    if steps == 2:
        raise Stopped


def noisy_training(state: Path, steps: int = 6, killed_at: int | None = None, on_step=lambda steps: None) -> nn.Linear:
    """Train a layer on noise of torch's own; a kill is before the state of the step that it hits was written."""
    module = nn.Linear(3, 2)
    nn.init.constant_(module.weight, 0.5)
    nn.init.constant_(module.bias, 0.0)
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.1)

    def gradient(step: int) -> float:
        loss = (module(torch.randn(4, 3)) - torch.randn(4, 2)).square().mean()
        loss.backward()
        if step == killed_at:
            raise Stopped
        return loss.item()

    own = Optimization(module, [optimizer], warm_up_and_decay(steps, 2, 0.5), steps, max_norm=1.0)
    train("noise", own, gradient, state, save_seconds=0, on_step=on_step)
    return module


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


def test_a_killed_training_goes_on_undisturbed_bit_for_bit(tmp_path):
    """Weights, optimizer, learning rate and torch's noise are those of a training that nobody killed."""
    torch.manual_seed(11)
    whole = noisy_training(tmp_path / "whole.pt")
    torch.manual_seed(11)
    with pytest.raises(Stopped):
        noisy_training(tmp_path / "killed.pt", killed_at=3)
    torch.manual_seed(12)  # another process has another noise
    assert same(whole, noisy_training(tmp_path / "killed.pt"))
    torch.manual_seed(12)
    assert not same(whole, noisy_training(tmp_path / "anew.pt"))


def test_the_state_of_another_training_is_refused(tmp_path):
    nn.init.zeros_((module := nn.Linear(2, 2)).weight)
    own = Optimization(module, [torch.optim.SGD(module.parameters(), 0.1)], lambda step: 1.0, 1)
    noisy_training(tmp_path / "state.pt", steps=1)
    with pytest.raises(DitError, match="delete it"):
        train("other", own, lambda step: 0.0, tmp_path / "state.pt")


def test_the_first_ctrl_c_waits_for_the_end_of_the_step_and_the_state_is_kept(tmp_path):
    torch.manual_seed(11)
    whole = noisy_training(tmp_path / "whole.pt")
    seen: list[int] = []
    # A test process that runs in the background may have been told to ignore it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def interrupt(steps: int) -> None:
        seen.append(steps)
        if len(seen) == 2:
            os.kill(os.getpid(), signal.SIGINT)

    torch.manual_seed(11)
    with pytest.raises(KeyboardInterrupt):
        noisy_training(tmp_path / "state.pt", on_step=interrupt)
    assert signal.signal(signal.SIGINT, before) is signal.default_int_handler
    assert same(whole, noisy_training(tmp_path / "state.pt", on_step=seen.append)) and seen == [1, 2, 3, 4, 5, 6]


def test_a_listener_hears_of_every_step_and_can_stop_the_training(tmp_path):
    heard = []

    def listener(done: float, total: float, what: str) -> None:
        heard.append((done, total, what))
        if done == 2:
            raise Stopped

    with pytest.raises(Stopped), watch_progress(listener):
        noisy_training(tmp_path / "state.pt")
    assert [done for done, *_ in heard] == [0, 1, 2] and heard[0] == (0, 6, "noise")
    assert heard[2][2].startswith("noise, loss ")
    steps: list[int] = []
    noisy_training(tmp_path / "state.pt", on_step=steps.append)
    assert steps == [3, 4, 5, 6]


def test_a_stopped_base_training_goes_on_where_it_was(tmp_path, tokenizer, world):
    whole, _ = train_base(world, tokenizer, TINY, tmp_path / "whole", CPU)

    with pytest.raises(Stopped):
        train_base(world, tokenizer, TINY, tmp_path / "parts", CPU, save_seconds=0, on_step=stop_after_two)
    steps: list[int] = []
    resumed, figures = train_base(world, tokenizer, TINY, tmp_path / "parts", CPU, on_step=steps.append)
    assert figures["steps"] == 4 and steps == [3, 4]
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.long
def test_dit_training_sees_training_diffs_only(tmp_path, monkeypatch):
    """The bank that a DIT adapter learns from holds the training diffs' factors and no held-out one's."""
    monkeypatch.chdir(tmp_path)
    short = (
        replace(SMOKE.base, steps=1, batch=2),
        replace(SMOKE.topics, steps=2, together=100),
    )  # one group, so one process
    recipe = replace(SMOKE, base=short[0], topics=short[1], keep=3)
    builder = Builder(tmp_path / "out", tmp_path / "work", recipe)
    builder.make_topic_diffs()
    task = builder.tasks["topic"]
    bank = builder.training_bank([task], builder.base())
    assert bank.count == len(task.split.train) == recipe.keep
    name = next(iter(linear_layers(builder.base())))
    factor = {}
    for number in task.numbers:
        group, place = task.place(number)
        factor[number] = read_weight_diff(builder.group_file(task, group), place)[0].factors[name][0].float()
    for mine, number in enumerate(task.split.train):
        assert torch.equal(bank.pair(name)[0][mine], factor[number])
        assert all(not torch.equal(bank.pair(name)[0][mine], factor[n]) for n in task.split.test)


def test_an_unknown_stage_is_refused(tmp_path):
    with pytest.raises(DitError, match="headline-diffs"):
        build_suite(tmp_path, smoke=True, stage="headlines")


def test_a_stopped_training_of_diffs_goes_on_where_it_was(tmp_path, tokenizer, world):
    settings = DiffSettings(rank=1, steps=4, rate=0.01, rows=1)
    base = new_base(TINY, tokenizer).eval()

    sample = topic_sampler(world)

    def train(name: str, sampler: Sampler = sample) -> AdapterBank:
        state = tmp_path / f"{name}.pt"
        return train_diffs(base, tokenizer, [3, 5], sampler, settings, "diffs", state, save_seconds=0)[0]

    def stopped_at_two(number: int, place: int, rng: random.Random) -> Chat:
        if place == 2:
            raise Stopped
        return sample(number, place, rng)

    def from_two_on(number: int, place: int, rng: random.Random) -> Chat:
        assert place >= 2, "what was trained before is not trained again"
        return sample(number, place, rng)

    whole = train("whole")
    with pytest.raises(Stopped):
        train("parts", stopped_at_two)
    assert (tmp_path / "parts.pt").exists()
    resumed = train("parts", from_two_on)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))
