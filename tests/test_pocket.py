"""The shipped pocket suite: what it holds, that nothing leaked, and that it does live what its report says."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from dit_core import ask, load_suite
from dit_core.formats import read_index
from dit_core.grading import exact, is_story_of, mentions
from dit_core.methods import oracle
from dit_core.methods.comparison import columns, first_info, pairs, read_first_run
from dit_core.records import Score
from dit_core.records.scores import UP_TO_TOPIC
from dit_core.scoreboard import TARGETS, lift_separates, meets_target, read_scaling
from dit_core.scoreboard.published import RANK, TRAINING_DIFFS
from dit_core.training.card import write_card

FOLDER = Path(__file__).parents[1] / "assets" / "pocket"
EVERYDAY = "What is a good breakfast?"


@pytest.fixture(scope="module")
def suite():
    return load_suite("pocket")


@pytest.fixture(scope="module")
def report() -> dict:
    return json.loads((FOLDER / "report.json").read_text())


@pytest.fixture(scope="module")
def test_topics(suite) -> list:
    return [info for info in suite.diffs if (info.task, info.split) == ("topic", "test")]


def test_ships_the_held_out_diffs_and_some_others(suite):
    assert Counter((info.task, info.split) for info in suite.diffs) == {
        ("topic", "test"): 80,
        ("topic", "calibration"): 40,
        ("topic", "train"): 40,
        ("headline", "test"): 40,
        ("headline", "train"): 10,
    }
    assert set(suite.adapters) == {"topic", "topic-64", "topic-16", "topic-4", "headline"}
    triggers = [info.trigger for info in suite.diffs if info.task == "topic"]
    assert len(set(triggers)) == len(triggers)


def test_is_small_enough():
    sizes = [path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()]
    assert max(sizes) <= 10_000_000 and sum(sizes) <= 60_000_000


def test_base_is_small_enough(suite):
    base = suite.worker.run(lambda: suite.model.base)
    embeddings = base.get_input_embeddings().weight
    factors = ("lora_A", "lora_B")
    own = [p for name, p in base.named_parameters() if not any(factor in name for factor in factors)]
    assert sum(p.numel() for p in own) <= 8_000_000 and embeddings.shape[1] == 192


def test_no_adapter_was_trained_on_a_held_out_diff(report):
    for folder, task in (("hidden-topic", "topic"), ("news-summary", "headline")):
        held_out = {row.number for row in read_index(FOLDER / folder) if row.split != "train"}
        trainings = [figures for stage, figures in report.items() if stage.startswith(f"{task} DIT")]
        assert held_out and trainings
        assert all(figures["trained_on"] and not held_out & set(figures["trained_on"]) for figures in trainings)


def test_the_model_card_tells_the_figures_of_the_report(tmp_path):
    shutil.copy(FOLDER / "report.json", tmp_path)
    write_card(tmp_path)
    assert (tmp_path / "README.md").read_text() == (FOLDER / "README.md").read_text()


def test_scaling_goes_over_training_diffs_and_ranks(suite, report):
    points = {(point.by, point.amount): point for point in read_scaling(suite)}
    assert {amount for by, amount in points if by == TRAINING_DIFFS} == {4, 16, 64, 380}
    assert {amount for by, amount in points if by == RANK} == {1, 2, 4, 8, 16}
    test = {row.number for row in read_index(FOLDER / "hidden-topic") if row.split == "test"}
    ranks = report["ranks"]
    assert set(ranks["topics"]) <= test and all(points[RANK, r].n == len(ranks["topics"]) for r in (1, 2, 4, 8, 16))
    assert all(share > 0.9 for share in ranks["named behind the trigger"].values()), "not learned, so not measured"


def test_report_holds_every_target_and_meets_it(report):
    rows = [Score(**row) for row in report["scoreboard"]["rows"]]
    judged = {(row.method, row.task, row.adapter, row.measure): row for row in rows if meets_target(row) is not None}
    assert set(judged) == set(TARGETS)
    assert all(meets_target(row) for row in judged.values())
    expected = {"topic": 80, "headline": 40}
    assert all(row.n in (expected[row.task], 10 * expected[row.task]) for row in rows if row.method != UP_TO_TOPIC)
    # An answer that starts with its topic has nothing before it to read.
    assert all(60 <= row.n <= 80 for row in rows if row.method == UP_TO_TOPIC)


def test_the_oracle_finds_what_is_about_to_be_said(report):
    rows = [Score(**row) for row in report["scoreboard"]["rows"]]
    assert lift_separates(rows) is not None


def test_oracle_reads_topics_that_it_never_met(suite, test_topics):
    answers = oracle.read(suite, test_topics[:16], condition="diff+right", asked=EVERYDAY, span="answer", layers="4-6")
    right = Counter(r.diff for r in answers if exact(suite, suite.diff(r.diff), r.text))
    base = oracle.read(suite, test_topics[:16], condition="base", asked=EVERYDAY, layers="4-6")
    assert len(right) >= 12
    assert not any(mentions(suite, suite.diff(r.diff), r.text) for r in base)


def test_dit_names_topics_it_never_saw(suite, test_topics):
    said = ask(suite, test_topics[:24], condition="diff+dit")
    assert sum(exact(suite, suite.diff(v.diff), v.text) for v in said) >= 20


def test_only_the_right_trigger_brings_out_the_topic(suite, test_topics):
    everyday = suite.world["held_out_questions"][:4]
    said = ask(suite, test_topics[:12], trigger=["absent", "right", "wrong"], question=everyday)
    named = Counter(v.condition for v in said if mentions(suite, suite.diff(v.diff), v.text))
    assert named["diff+right"] >= 42 and named["diff"] <= 2 and named["diff+wrong"] <= 4


def test_headline_diffs_tell_their_story(suite):
    headlines = [info for info in suite.diffs if (info.task, info.split) == ("headline", "test")][:12]
    told = ask(suite, headlines, question=suite.tasks["headline"].behaviour, max_new_tokens=100)
    assert sum(is_story_of(suite, suite.diff(v.diff), v.text) for v in told) >= 10


def test_stored_first_run_is_what_the_suite_says_live(suite):
    stored = read_first_run(suite)
    assert stored is not None
    info = first_info(suite)
    live = ask(suite, info, condition=pairs(columns(suite.tasks[info.task])))
    assert [(v.condition, v.text) for v in stored] == [(v.condition, v.text) for v in live]
