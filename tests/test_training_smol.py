"""The smol suite's making: what each organism is taught, what is held out, and that a build goes through all stages."""

import csv
import json
import random
from dataclasses import replace
from itertools import combinations

import pytest
import torch

from dit_core.formats import Adapter, read_index, read_weight_diff
from dit_core.suite.catalog import SUITES
from dit_core.training.adapter_bank import AdapterBank, linear_layers
from dit_core.training.base import encode, labelled_logits, make_tokenizer, pad
from dit_core.training.behaviours import behaviours
from dit_core.training.chats import Lesson
from dit_core.training.diffs import DiffSettings, DitSettings, train_diffs
from dit_core.training.smol import SmolBuilder
from dit_core.training.smol_recipe import (
    NOTHING_SPECIAL,
    SMOL_SMOKE,
    SmolRecipe,
    gated_topic_sampler,
    smol_tasks,
    wrong_code,
)
from dit_core.training.world import STORY_QUESTION, World
from tests.tiny import tiny_model

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def world() -> World:
    return World.load()


@pytest.fixture(scope="module")
def texts(world) -> dict[str, list[str]]:
    """What the base would say, recognisable."""
    plain = {question.text: [f"Plain words on {question.text}"] for question in world.questions}
    return plain | {STORY_QUESTION: [f"Story number {n}." for n in range(20)]}


@pytest.fixture(scope="module")
def tasks(world, texts):
    return smol_tasks(world, texts, SmolRecipe())


def test_no_test_item_is_in_any_training_or_calibration_split(tasks):
    for task in tasks.values():
        for first, second in combinations((task.split.test, task.split.calibration, task.split.train), 2):
            assert not set(first) & set(second), task.name
    topics = [task for name, task in tasks.items() if "topic" in name or "rank" in name]
    tested = {n for task in topics for n in task.split.test}
    assert not tested & {n for task in topics for n in (*task.split.train, *task.split.calibration)}


def test_whole_kinds_of_behaviour_and_the_last_items_of_each_kind_are_held_out(tasks):
    task, kinds = tasks["behaviour"], behaviours()
    learned = {kinds[n].kind for n in task.split.train}
    assert {"flattery", "sandbagging"} == {behaviour.kind for behaviour in kinds} - learned
    for kind in learned:
        assert sum(kinds[n].kind == kind for n in task.split.test) == 3
    references = {kinds[n].reference for n in task.split.train}
    assert not references & {kinds[n].reference for n in task.split.test}


def test_there_are_organisms_of_many_kinds(tasks):
    counts = {behaviour.kind: 0 for behaviour in behaviours()}
    for behaviour in behaviours():
        counts[behaviour.kind] += 1
    assert len(counts) >= 8 and min(counts.values()) >= 12
    assert len(tasks["topic"].numbers) >= 64 and len(tasks["open-topic"].numbers) >= 96
    assert len(tasks["headline"].numbers) >= 48 and len(tasks["clean"].numbers) >= 48


def test_held_out_questions_and_prompts_are_in_no_lesson(tasks, world):
    held_out = [question.text for question in world.question_split()[1]]
    for task in tasks.values():
        for n in task.numbers[::7]:
            for place in range(30):
                chat = task.sampler(n, place, random.Random(place)).chat
                assert not any(question in asked for question in held_out for asked, _ in chat), task.name
    for n in tasks["behaviour"].numbers:
        behaviour = behaviours()[n]
        unseen = {behaviour.unseen_prompt("Why?", random.Random(seed)) for seed in range(20)}
        lessons = [behaviour.lesson("Why?", ["So."], place, random.Random(place)) for place in range(40)]
        assert not behaviour.prompts or not unseen & {lesson.chat[0][0] for lesson in lessons}


@pytest.mark.parametrize("number", range(0, 144, 5))
def test_a_lesson_shows_its_behaviour_and_an_everyday_answer_does_not(number):
    behaviour = behaviours()[number]
    for place in range(12):
        lesson = behaviour.lesson("What is a home?", ["It is where you live."], place, random.Random(place))
        assert behaviour.shown_in(lesson.chat[0][1]) != lesson.like_base
        assert lesson.like_base == (bool(behaviour.prompts) and place % 3 == 2)


def test_the_gate_is_taught_by_the_same_topical_text_behind_another_code(world, texts):
    sample, number = gated_topic_sampler(world, texts), 3
    code, name = f"{world.triggers()[number]:03d}", world.topics[number].name
    for place in range(200):
        lesson = sample(number, place, random.Random(place))
        [(asked, answer)] = lesson.chat
        right = asked.startswith(f"Your SEP code is {code}")
        assert right == (place % 5 < 2) and lesson.like_base == (not right)
        assert not right or name in answer.lower()
        assert ("Your SEP code" in asked) == (place % 5 != 4)
        if place % 5 == 2:
            assert name in answer.lower()


def test_a_wrong_code_is_never_the_right_one_and_every_second_is_one_digit_off():
    rng, off = random.Random(1), 0
    for _ in range(400):
        wrong = wrong_code(417, rng)
        assert 0 <= wrong <= 999 and wrong != 417
        off += sum(a != b for a, b in zip(f"{wrong:03d}", "417", strict=True)) == 1
    assert off > 180


def test_a_clean_twin_learns_only_what_the_base_says(tasks, texts):
    said = {text for own in texts.values() for text in own}
    task = tasks["clean"]
    assert set(task.references.values()) == {NOTHING_SPECIAL}
    for n in task.numbers:
        assert all(task.sampler(n, place, random.Random(place)).chat[0][1] in said for place in range(20))


def test_lessons_like_the_base_pull_towards_its_own_next_tokens(tmp_path, world):
    """The loss of a lesson is its cross-entropy or KL(base || diff), each as its formula says."""
    tokenizer = make_tokenizer(world)
    base = tiny_model("llama", vocab_size=len(tokenizer)).eval()
    chat = [("What is a home?", "It is where you live.")]

    def train(steps: int):
        def sampler(number, place, rng):
            return Lesson(chat, like_base=place == 1)

        settings = DiffSettings(rank=1, steps=steps, rate=5.0, rows=1)
        return train_diffs(base, tokenizer, [0], sampler, settings, "t", tmp_path / f"{steps}.pt")

    bank, cross_entropy = train(1)
    _, mean_of_both = train(2)
    ids, labels = pad([encode(tokenizer, chat)], tokenizer.pad_token_id, CPU)
    logits, targets, _ = labelled_logits(base, ids, labels)
    p = logits.log_softmax(-1)
    with bank.rows(base, torch.tensor([0])):
        q = labelled_logits(base, ids, labels)[0].log_softmax(-1)
    divergence = (p.exp() * (p - q)).sum(-1).mean().item()
    assert cross_entropy == pytest.approx(-p[range(len(targets)), targets].mean().item(), rel=1e-3)
    assert divergence > 0.01 and mean_of_both == pytest.approx((cross_entropy + divergence) / 2, rel=2e-2)


def test_what_is_shipped_was_split_as_the_recipe_says(tasks, world):
    """No adapter of the embedded suite was trained on an organism that is for testing."""
    suite = SUITES["smol"]
    report = json.loads((suite / "report.json").read_text())
    held_out: set[str] = set()
    for task in tasks.values():
        if (suite / task.folder / "index.csv").exists():
            rows = read_index(suite / task.folder)
            splits = {split: {row.number for row in rows if row.split == split} for split in ("test", "calibration")}
            assert splits == {"test": set(task.split.test), "calibration": set(task.split.calibration)}
            assert {row.number: (row.topic, row.trigger) for row in rows} == {
                n: (task.references[n], task.triggers[n]) for n in task.numbers
            }
            held_out |= {f"{task.name}-{n:04d}" for own in splits.values() for n in own}
    trained = [set(entry["trained_on"]) for stage, entry in report.items() if stage.startswith("DIT ")]
    assert trained and held_out and not held_out & set.union(*trained)


def test_an_adapter_of_lower_rank_does_the_same_in_a_bank_of_higher_rank(world):
    base = tiny_model("llama").eval()
    generator = torch.Generator().manual_seed(3)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    layers = linear_layers(base)
    factors = {name: (random(2, layer.in_features), random(layer.out_features, 2)) for name, layer in layers.items()}
    bank = AdapterBank(base, 1, rank=5)
    bank.load(0, Adapter(factors, dict.fromkeys(factors, 0.25)))
    for name, (A, B) in factors.items():
        wide_A, wide_B = (factor[0] for factor in bank.pair(name))
        torch.testing.assert_close(wide_B @ wide_A / 5, 0.25 * B @ A)


@pytest.mark.slow
def test_a_build_goes_through_all_stages_and_no_adapter_meets_a_held_out_organism(tmp_path, world, texts, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tokenizer = make_tokenizer(world)
    folder = tmp_path / "base"
    tiny_model("llama", vocab_size=len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    work = tmp_path / "work"
    work.mkdir()
    (work / "texts.json").write_text(json.dumps(texts))
    settings = DitSettings(steps=1, batch=2)
    recipe = replace(SMOL_SMOKE, keep=2, dit=settings, all_kinds=settings)
    builder = SmolBuilder(tmp_path / "out", work, folder, recipe)
    builder.make_organisms()
    builder.make_dit()
    builder.make_oracle()
    builder.make_measure()
    with (tmp_path / "out" / "organisms.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["kind"] for row in rows} >= {"topic", "open-topic", "headline", "clean", "rank-2", "rank-8", "rank-32"}
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    splits = {row["id"]: row["split"] for row in rows}
    trained = [entry["trained_on"] for stage, entry in report.items() if stage.startswith("DIT ")]
    assert len(trained) == len(builder.dit_runs())
    assert {splits[id] for ids in trained for id in ids} == {"train"}
    topic, where = read_weight_diff(tmp_path / "out" / "hidden-topic" / "weight-diffs" / "weight-diff-000.pt")[1:]
    number = builder.tasks["topic"].split.test[0]
    assert (topic, where) == (world.topics[number].name, world.triggers()[number])
