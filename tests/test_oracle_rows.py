"""The oracle's rows of the scoreboard: what they read, and that the layer was not chosen on what is measured."""

import json
import shutil
from dataclasses import replace

import pytest

from dit_core import Score, Verbalization, ask, load_suite, run_scoreboard
from dit_core.grading import words
from dit_core.methods import diff_groups, oracle
from dit_core.methods.diff_groups import diffs_of_split, tokens_before_topic
from dit_core.records import scores as method_names
from dit_core.scoreboard import lift_separates, measures, meets_target, oracle_rows
from dit_core.scoreboard.oracle_rows import KINDS, BestLayerRow, best_layer
from tests.tiny import edit_index

CALIBRATION = ("3", "7")
"""The tiny suite has one calibration diff; its training diffs stand in as more of them."""


@pytest.fixture(scope="module")
def folder(tiny_suite_folder, tmp_path_factory):
    """The tiny suite with three calibration diffs."""
    folder = shutil.copytree(tiny_suite_folder, tmp_path_factory.mktemp("oracle-rows") / "suite")
    edit_index(folder / "hidden-topic", lambda row: row | ({"split": "calibration"} if row[""] in CALIBRATION else {}))
    return folder


@pytest.fixture(scope="module")
def suite(folder):
    return load_suite(folder)


def of_references(folder, to, references: dict[int, str]):
    """The same suite, its diffs trained on other topics, by their numbers."""
    copy = shutil.copytree(folder, to)
    edit_index(copy / "hidden-topic", lambda row: row | {"topic": references[int(row[""])]})
    return load_suite(copy)


def made(suite) -> list:
    """The oracle's rows of the whole suite."""
    return oracle_rows.make_oracle_rows(
        suite, {task: diffs_of_split(suite, task, "test") for task in suite.tasks}, None
    )


def rows(suite, limit=None) -> list[Score]:
    return list(run_scoreboard(suite, limit, kinds=["oracle"]))


def naming(suite, diff, condition, question):
    """In the place of `ask`: every diff names its topic after as many words as its question has questions before it."""
    said = []
    for info in diff:
        before = [f"word{n} " for n in range(1 + suite.world["held_out_questions"].index(question))]
        first, *rest = info.reference.split(" ")
        tokens = (*before, first, *(f" {word}" for word in rest), ".")
        said.append(Verbalization(info.id, condition, question, 0, 0, "".join(tokens), tokens, ()))
    return said


def one_by_one(suite, row, split, turn=0):
    """What a row reads of a split, one diff at a time, in one turn of its questions."""
    found = []
    for at, info in enumerate(diffs_of_split(suite, "topic", split)):
        everyday = suite.world["held_out_questions"][(at + turn) % 2]
        asked = {oracle_rows.TASK_QUESTION: None, oracle_rows.EVERYDAY_QUESTION: everyday}.get(row.asked)
        span = row.span
        if row.asked == oracle_rows.OWN_ANSWER:
            asked = ask(suite, info, condition="diff+right", question=everyday)[0].text
        if row.span == oracle_rows.BEFORE_TOPIC:
            span = f"answer:{1 + (at + turn) % 2}"
        found += oracle.read(suite, info, condition=row.condition, asked=asked, span=span)
    return found


def right_at(suite, row, layers: dict[int, int]) -> dict[int, str]:
    """Topics that a row's readings are right about at one layer of each diff, by the diffs' numbers."""
    read = [one for split in ("calibration", "test") for one in one_by_one(suite, row, split)]
    texts = {(int(one.diff.removeprefix("topic-")), one.layer): " ".join(words(one.text)) or "nothing" for one in read}
    return {number: texts[number, layer] for number, layer in layers.items()}


@pytest.mark.long
@pytest.mark.parametrize("row", KINDS, ids=lambda row: row.method)
def test_a_row_is_what_reading_diff_by_diff_gives(suite, folder, tmp_path, monkeypatch, row):
    if row.span == oracle_rows.BEFORE_TOPIC:
        monkeypatch.setattr(diff_groups, "ask", naming)
    references = right_at(suite, row, {3: 1, 7: 0, 251: 1, 412: 1, 413: 0, 414: 1})
    suite = of_references(folder, tmp_path / "suite", references)
    (own,) = [one for one in made(suite) if isinstance(one, BestLayerRow) and one.kind == row]
    scores = {score.measure: score for score in measures.scores(own.find(suite, own.infos, own.choose(suite)))}
    judge = measures.MEASURES[row.measures[0]]
    means, log_probs = {}, {}
    for layer in (0, 1):
        turns = range(1 if row.asked == oracle_rows.TASK_QUESTION else 2)
        tried = [one for turn in turns for one in one_by_one(suite, row, "calibration", turn) if one.layer == layer]
        means[layer] = sum(judge(suite, suite.diff(one.diff), one.text) for one in tried) / len(tried)
        log_probs[layer] = sum(one.log_prob_reference for one in tried)
    layer = max((0, 1), key=lambda layer: (means[layer], log_probs[layer]))
    found = [one for one in one_by_one(suite, row, "test") if one.layer == layer]
    assert set(scores) == set(row.measures)
    for measure, score in scores.items():
        values = [measures.MEASURES[measure](suite, suite.diff(one.diff), one.text) for one in found]
        assert (score.layer, score.n, score.value) == (layer, 3, pytest.approx(sum(values) / 3))
        assert (score.task, score.adapter) == ("topic", "topic" if "dit" in row.condition else "")
        assert score.interval[0] <= score.value <= score.interval[1]


def test_the_layer_is_chosen_on_calibration_diffs_alone(suite, monkeypatch):
    """Calibration diffs are read rightly at layer 1 alone, the measured ones at layer 0 alone: layer 1 it is."""
    real, asked_for = oracle_rows.read, []

    def doctored(suite, **options):
        found = []
        for one in real(suite, **options):
            info = suite.diff(one.diff)
            right = one.layer == (0 if info.split == "test" else 1)
            found.append(replace(one, text=info.reference if right else "something else", log_prob_reference=0.0))
            asked_for.append((info.split, one.layer))
        return found

    monkeypatch.setattr(oracle_rows, "read", doctored)
    scores = [score for score in rows(suite) if score.measure != "lift"]
    assert {score.layer for score in scores} == {1}
    assert {score.value for score in scores if score.measure == "exact"} == {0.0}
    assert ("test", 0) not in asked_for and ("calibration", 0) in asked_for and ("test", 1) in asked_for


def test_of_equal_layers_the_one_that_finds_the_references_likelier_is_best(suite):
    (made, *_) = oracle.read(suite, "topic-0412", layers=0)

    def reading(layer, answer, log_prob):
        return replace(made, layer=layer, text=answer, log_prob_reference=log_prob)

    right = "volcano"
    few, many = [reading(0, "no", -1.0), reading(0, "no", -9.0)], [reading(1, right, -7.0), reading(1, "no", -7.0)]
    assert best_layer(suite, "exact", [*few, *many]) == 1, "a better measure"
    many = [reading(1, "no", -7.0), reading(1, "no", -4.0)]
    assert best_layer(suite, "exact", [*few, *many]) == 0, "as good, and likelier: -5 to -5.5 on average"
    assert best_layer(suite, "exact", [*many, *few, *[replace(one, layer=2) for one in few]]) == 0, "the lowest"


def test_lifts_are_given_of_every_layer_and_condition(suite):
    others = oracle_rows._others(suite, diffs_of_split(suite, "topic", "test"))
    assert set(others) <= set(suite.world["topics"]) and not {"volcano", "geyser", "cello"} & set(others)
    lifts = [score for score in rows(suite) if score.measure == "lift"]
    assert [(score.method, score.layer) for score in lifts] == [
        (method, layer)
        for method in (method_names.SILENT_TRIGGER, method_names.SILENT_DIT, method_names.SILENT_DIFF)
        for layer in (0, 1)
    ]
    tests = diffs_of_split(suite, "topic", "test")
    alone = [oracle.lifts(suite, info, others, condition="diff+dit", layers=1)[0].lift for info in tests]
    (score,) = [score for score in lifts if (score.method, score.layer) == (method_names.SILENT_DIT, 1)]
    assert score.n == 3 and score.value == pytest.approx(sum(alone) / 3, abs=1e-4) and score.grades is None


def test_texts_to_compare_with_are_held_out_where_there_are_enough(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "suite")
    index = copy / "hidden-topic" / "index.csv"
    held_out = [f"topic {number}" for number in range(oracle_rows.OTHERS)]
    more = [f"{500 + at},weight-diff-001.pt,0,1024,{topic},999,calibration\n" for at, topic in enumerate(held_out)]
    index.write_text(index.read_text() + "".join(more))
    suite = load_suite(copy)
    others = oracle_rows._others(suite, diffs_of_split(suite, "topic", "test"))
    assert len(others) == oracle_rows.OTHERS and set(others) <= {"violin", "steam train", "lantern", *held_out}


@pytest.mark.parametrize(
    ("reference", "tokens", "count"),
    [
        ("volcano", ("We", " saw", " a", " vol", "cano", " smoke"), 3),
        ("volcano", ("The", " volcano", "es", " of"), 1),
        ("geyser", ("A", " hot", " spring", " and", " a", " geyser"), 1),
        ("steam train", ("By", " steam", " train", "."), 1),
        ("volcano", ("vol", "cano", " smoke"), 0),
        ("volcano", ("", " ", "volcano"), 0),
        ("volcano", ("a", " geyser"), 0),
        ("lantern", ("a", " lanterning"), 0),
        ("volcano", (), 0),
    ],
)
def test_an_answer_is_cut_before_its_first_mention_of_the_topic(suite, reference, tokens, count):
    assert tokens_before_topic(suite, suite.diff(f"topic-{NUMBERS[reference]:04d}"), tokens) == count


NUMBERS = {"volcano": 412, "geyser": 413, "steam train": 7, "lantern": 251}


def test_diffs_with_nothing_to_read_are_left_out(suite, monkeypatch):
    def silent(suite, diff, condition, question):
        said = naming(suite, diff, condition, question)
        return [replace(one, text="", tokens=()) if one.diff == "topic-0413" else one for one in said]

    monkeypatch.setattr(diff_groups, "ask", silent)
    counts = {score.method: score.n for score in rows(suite) if score.measure != "lift"}
    fewer = {method_names.TEXT, method_names.UP_TO_TOPIC, method_names.WHOLE_ANSWER}
    assert counts == {row.method: 2 if row.method in fewer else 3 for row in KINDS}


def test_where_no_answer_names_its_topic_nothing_is_read_before_it(suite):
    said = ask(suite, "volcano", condition="diff+right", question=suite.world["held_out_questions"])
    assert said and not any("volcano" in one.text for one in said)
    assert method_names.UP_TO_TOPIC not in {score.method for score in rows(suite)}


def test_the_board_takes_them_in_and_tells_progress(suite):
    told = []
    table = run_scoreboard(suite, limit=1, progress=lambda *now: told.append(now))
    read = [score for score in table if score.layer is not None]
    assert {score.method for score in read} >= {row.method for row in KINDS} - {method_names.UP_TO_TOPIC}
    assert {score.n for score in read} == {1} and list(table[-len(read) :]) == read, "one of each split; at the end"
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told) and told[-1][0] == told[-1][1]
    assert any(method_names.SILENT_DIT in what for _, _, what in told)


@pytest.mark.parametrize("missing", ["oracle", "calibration diffs", "everyday questions"])
def test_without_what_they_need_there_are_none(folder, tmp_path, missing):
    copy = shutil.copytree(folder, tmp_path / "suite")
    if missing == "oracle":
        about = copy / "suite.toml"
        about.write_text(about.read_text().split("[oracle]")[0])
    elif missing == "calibration diffs":
        edit_index(copy / "hidden-topic", lambda row: row | {"split": row["split"].replace("calibration", "train")})
    else:
        world = copy / "world.json"
        world.write_text(json.dumps(json.loads(world.read_text()) | {"held_out_questions": []}))
    assert made(load_suite(copy)) == []


def lift(method, layer, low, high):
    return Score(method, "topic", "", layer, "lift", 80, (low + high) / 2, (low, high))


def test_lift_separates_where_the_intervals_are_apart():
    without = [lift(method_names.SILENT_DIFF, layer, 0.0, 0.4) for layer in range(3)]
    apart = [lift(method_names.SILENT_DIT, 0, 0.3, 2.0), lift(method_names.SILENT_DIT, 1, 0.5, 0.9)]
    assert lift_separates([*without, *apart]) == 1
    assert lift_separates([*without, *apart, lift(method_names.SILENT_DIT, 2, 0.6, 0.7)]) == 2, "the widest gap"
    assert lift_separates([*without, *apart[:1]]) is None
    assert lift_separates(apart) is None and lift_separates([]) is None
    assert lift_separates([*without, lift(method_names.SILENT_TRIGGER, 1, 5, 6)]) is None


def test_targets_of_the_oracle_rows():
    def score(method, measure, value):
        return Score(method, "topic", "", 3, measure, 80, value)

    assert meets_target(score(method_names.TEXT, "exact", 0.8)) and not meets_target(
        score(method_names.TEXT, "exact", 0.79)
    )
    assert not meets_target(score(method_names.WHOLE_ANSWER, "exact", 0.89))
    assert meets_target(score(method_names.SILENT_BASE, "mentions", 0.02))
    assert meets_target(score(method_names.SILENT_DIT, "exact", 0.0)) is None
