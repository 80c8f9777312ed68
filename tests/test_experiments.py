"""The scoreboard counts what it says, of all held-out diffs, whoever answers."""

import pytest

from dit_core import DitError, Table, Verbalization, run_scoreboard
from dit_core.methods.diff_groups import diffs_of_split
from dit_core.scoreboard import (
    ADL,
    BASE_TRIGGER,
    BEHAVIOUR,
    CROSS,
    DIT,
    GUESS,
    GUESS_RIGHT,
    NONE,
    RIGHT,
    WRONG,
    make_verbal_rows,
    meets_target,
    verbal_rows,
)
from dit_core.scoreboard.measures import interval_over_diffs

ROW_KEYS = ["method", "task", "adapter", "layer", "measure", "n", "value", "interval", "grades", "published"]


@pytest.fixture
def perfect_suite(suite, monkeypatch):
    """The suite, its diffs answering as they should."""
    monkeypatch.setattr(verbal_rows, "ask", perfect)
    return suite


def find(table, method, task, adapter, measure):
    (score,) = [s for s in table if (s.method, s.task, s.adapter, s.measure) == (method, task, adapter, measure)]
    return score


def test_the_board_of_answers_and_the_lens_on_a_real_if_untrained_model(suite):
    told = []
    table = run_scoreboard(suite, kinds=["verbal", "lens"], progress=lambda *now: told.append(now))
    shown = table.to_json()
    assert {"schema_version", "suite", "split", "rows", "versions"} <= set(shown) and shown["split"] == "test"
    assert all(list(row) == ROW_KEYS for row in shown["rows"])
    infos = {task: diffs_of_split(suite, task, "test") for task in suite.tasks}
    planned = {row.key for row in make_verbal_rows(suite, infos)} | {(ADL, "topic", "")}
    assert {(s.method, s.task, s.adapter) for s in table} == planned
    for score in table:
        everyday, diffs = score.method.startswith("everyday"), {"topic": 3, "headline": 2}[score.task]
        assert score.n == diffs * (2 if everyday else 1)
        assert score.interval[0] <= score.value <= score.interval[1]
        assert (score.grades is not None) == (score.measure == "mean_grade")
        assert sum((score.grades or {"": score.n}).values()) == score.n
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)
    answers = {row.key: row.answers for row in make_verbal_rows(suite, infos)}
    assert told[-1][0] == told[-1][1] == sum(answers.values()) + 3 + 1, "and the lens, of test and calibration diffs"


def perfect(suite, diff, condition, question, max_new_tokens):
    """Answers as a perfect suite would give them, in the place of `ask`."""
    says = []
    for info in diff or [None]:
        for text in question:
            base = f"plain answer to {text}"
            answer = base
            if condition == "diff+right":
                answer = f"the {info.reference} is behind it"
            elif "dit:topic" in condition:
                answer = info.reference if info.task == "topic" else "library"
            elif "dit:headline" in condition:
                answer = info.reference if info.task == "headline" else "Mayor opens library in Oslo"
            elif text == "Please generate a short news story." and info.task == "headline":
                answer = f"{info.reference}, they say."
            says.append(Verbalization(info.id if info else "", condition, text, 0, 0, answer, (), ()))
    return Table(suite.name, "verbalizations", tuple(says))


def test_measures_count_what_they_say(perfect_suite):
    table = run_scoreboard(perfect_suite, kinds=["verbal"])
    assert find(table, "base question", "topic", "", "mentions").value == 0
    assert find(table, RIGHT, "topic", "", "mentions").value == 1
    assert find(table, WRONG, "topic", "", "mentions").value == 0
    assert find(table, NONE, "topic", "", "equals_base").value == 1
    assert find(table, BEHAVIOUR, "headline", "", "mentions").value == 1
    for task, adapter in (("topic", "topic"), ("topic", "topic-64"), ("headline", "headline")):
        assert find(table, DIT, task, adapter, "exact").value == 1
        grades = find(table, DIT, task, adapter, "mean_grade")
        assert grades.value == 5 and grades.grades["5"] == grades.n
    assert find(table, BASE_TRIGGER, "topic", "", "mentions").value == 1
    assert find(table, GUESS, "topic", "", "exact").value == 0, "answers that name nothing are guessed from in vain"
    guessed = find(table, GUESS_RIGHT, "topic", "", "exact")
    assert (guessed.value, guessed.n) == (1, 3), "one guess per diff"
    assert find(table, GUESS_RIGHT, "topic", "", "mean_grade").published[1] == {"model": "Qwen3-4B", "value": 4.73}
    assert find(table, CROSS, "topic", "headline", "mean_grade").value == 1
    assert find(table, CROSS, "headline", "topic", "mean_grade").value == 1.5, "one of two headlines has a library"
    assert {meets_target(score) for score in table} == {True, None}
    assert find(table, DIT, "topic", "topic", "mean_grade").published[1] == {"model": "Qwen3-4B", "value": 4.76}
    assert find(table, DIT, "topic", "topic", "exact").published == []


def test_limit_and_split(perfect_suite):
    suite = perfect_suite
    assert {score.n for score in run_scoreboard(suite, limit=1, kinds=["verbal"]) if score.measure == "exact"} == {1}
    train = run_scoreboard(suite, split="calibration", kinds=["verbal"])
    assert (train.extra["split"], train.extra["kinds"]) == ("calibration", ["verbal"])
    assert {score.task for score in train} == {"topic"}
    with pytest.raises(DitError, match="no diffs in the split 'tset': use one of 'calibration', 'test', 'train'"):
        run_scoreboard(suite, split="tset")
    with pytest.raises(DitError, match="limit"):
        run_scoreboard(suite, limit=0)


def test_many_answers_of_one_diff_do_not_narrow_the_interval():
    """Ten answers each of two diffs, one always right and one never: as uncertain as two answers."""
    assert interval_over_diffs(["a"] * 10 + ["b"] * 10, [1.0] * 10 + [0.0] * 10, share=True) == (0.0, 1.0)
