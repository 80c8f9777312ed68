"""Runs of the scoreboard resume, methods are compared, and what a suite ships is read: without any page."""

import errno
import json
import resource
import shutil
from contextlib import contextmanager
from dataclasses import replace

import pytest

from dit_core import DitError, load_suite
from dit_core.grading import Grader
from dit_core.grading.grades import GradeResult
from dit_core.grading.rules import World, world_of
from dit_core.methods.diff_groups import diffs_of_split
from dit_core.methods.lens import difference_lens
from dit_core.present import plots
from dit_core.records import Finding, LensToken, ScalingPoint, Table
from dit_core.records.scores import CROSS, DIT, SILENT_DIT
from dit_core.scoreboard import (
    agreement,
    board,
    findings,
    mean_scores,
    named_diffs,
    read_board,
    read_scaling,
    regrade,
    stored,
)
from dit_core.scoreboard import stream as run
from dit_core.scoreboard.ledger import Ledger
from dit_core.scoreboard.measures import scores
from dit_core.scoreboard.method_agreement import vote_winner
from dit_core.scoreboard.method_rows import LensRow, best_place
from dit_core.scoreboard.published import RANK, TRAINING_DIFFS
from dit_core.scoreboard.stored import published_points, scaling_json, scaling_points
from dit_core.scoreboard.verbal_rows import guess_topic
from tests.test_command_line import run as run_command  # noqa: F401 (a fixture)
from tests.test_experiments import find
from tests.test_ui import HOSTILE
from tests.tiny import edit_index

SETTINGS = {"suite": "s", "fingerprint": "f", "split": "test", "limit": None}


def finding(method, diff, grade, answer="", adapter="", task="topic") -> Finding:
    return Finding(method, task, adapter, None, diff, (answer,), {"mean_grade": (grade,)})


# -------------------------------------------------------------------- resuming


@pytest.mark.long
def test_a_stopped_run_goes_on_where_it_was_and_ends_as_a_plain_one(suite, tmp_path, monkeypatch):
    plain = findings(suite, limit=1)
    tables = run(suite, limit=1, file=tmp_path)
    for table in tables:
        if len(table) >= 12:
            break
    tables.close()
    (file,) = tmp_path.glob("*.jsonl")
    assert suite.fingerprint in file.name and "test" in file.name
    kept = [one for line in file.read_text().splitlines()[1:] for one in json.loads(line).get("findings", ())]
    assert len(kept) == len(table) >= 12, "every batch was on disk before the next began"

    from dit_core.scoreboard import verbal_rows

    asked, real = [], verbal_rows.ask

    def listening(suite, infos, **options):
        asked.extend((info.id, options["condition"], q) for info in infos or () for q in options["question"])
        return real(suite, infos, **options)

    monkeypatch.setattr(verbal_rows, "ask", listening)
    with open(file, "ab") as out:
        out.write(b'{"findings": [{"method": "cut o')  # what a killed run leaves behind
    again = findings(suite, limit=1, file=tmp_path)
    assert again.records == plain.records and mean_scores(again).records == mean_scores(plain).records
    assert asked and len(asked) < sum(len(one.answers) for one in plain if one.layer is None)
    assert not {(one["diff"], one["method"]) for one in kept if one["method"] == "base question"} & {
        (diff, "base question") for diff, condition, q in asked if condition == "diff" and "What topic" in q
    }
    asked.clear()
    assert findings(suite, limit=1, file=file).records == plain.records
    assert not asked, "a whole one asks nothing more"


def test_results_of_other_settings_are_refused(suite, tmp_path):
    file = tmp_path / "board.jsonl"
    findings(suite, limit=1, file=file, kinds=["lens"])
    with pytest.raises(DitError, match="other settings .limit 1, and not 2."):
        run(suite, limit=2, file=file)
    findings(suite, limit=2, file=tmp_path, kinds=["lens"])
    assert len(list(tmp_path.glob("*.jsonl"))) == 2, "in a folder each has its own"


def test_two_runs_on_one_file(suite, tmp_path):
    first = run(suite, file=tmp_path, kinds=["verbal"])
    next(first)
    with pytest.raises(DitError, match="Another run is writing"):
        run(suite, file=tmp_path)
    first.close()
    findings(suite, limit=1, file=tmp_path, kinds=["lens"])


@contextmanager
def no_room_after(size):
    """Inside, no file of this process can grow beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def full(_):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_a_sentence_and_nothing_is_mixed(tmp_path, monkeypatch):
    file = tmp_path / "board.jsonl"
    with Ledger(SETTINGS, file) as ledger:
        ledger.add([finding(DIT, "a", 5)])
        monkeypatch.setattr("os.fsync", full)
        with pytest.raises(DitError, match="No space left on device.: make room"):
            ledger.add([finding(DIT, "b", 5)])
    monkeypatch.undo()
    with Ledger(SETTINGS, file) as ledger:
        assert [one.diff for one in ledger.findings][:1] == ["a"]
    with pytest.raises(DitError, match="File too large.: make room"), Ledger(SETTINGS, file) as ledger:
        ledger.add([finding(DIT, "c", 5)])
        with no_room_after(file.stat().st_size + 60):
            ledger.add([finding(DIT, "d", 5)])  # of which a part is written
    with Ledger(SETTINGS, file) as ledger:
        assert [one.diff for one in ledger.findings][-1] == "c"
    with pytest.raises(DitError, match="can't be kept"):
        Ledger(SETTINGS, file / "below" / "a file.jsonl").__enter__()


def test_of_a_batch_that_was_cut_off_nothing_counts(tmp_path):
    """A diff's readings of several layers come together: half of them would never be made up for."""
    file = tmp_path / "board.jsonl"
    with Ledger(SETTINGS, file) as ledger:
        ledger.add([finding(DIT, "a", 5)])
        ledger.add([replace(finding(DIT, "b", 5), layer=layer) for layer in range(3)])
    whole = file.read_bytes()
    file.write_bytes(whole[:-40])
    with Ledger(SETTINGS, file) as ledger:
        assert [one.diff for one in ledger.findings] == ["a"]
        ledger.add([finding(DIT, "c", 5)])
    with Ledger(SETTINGS, file) as ledger:
        assert [one.diff for one in ledger.findings] == ["a", "c"]


def test_a_damaged_file_is_named(tmp_path):
    file = tmp_path / "board.jsonl"
    with Ledger(SETTINGS, file) as ledger:
        ledger.add([finding(DIT, "a", 5)])
        ledger.add([finding(DIT, "b", 5)])
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], "nonsense", lines[2]]) + "\n")
    with pytest.raises(DitError, match="Line 2 of .* is not a scoreboard's result"):
        Ledger(SETTINGS, file).__enter__()
    file.write_text("a diary\n")
    with pytest.raises(DitError, match="Line 1"):
        Ledger(SETTINGS, file).__enter__()
    assert file.read_text() == "a diary\n", "what is not ours is left as it is"


def test_a_split_without_diffs_is_named_before_any_file_is_made(suite, tmp_path):
    with pytest.raises(DitError, match="no diffs in the split"):
        run(suite, split="tset", file=tmp_path)
    with pytest.raises(DitError, match="The scoreboard has no 'orcale'"):
        run(suite, kinds=["orcale"], file=tmp_path)
    assert not list(tmp_path.iterdir())


# -------------------------------------------------------------------- references that are missing


def test_without_references_grades_are_absent_and_not_1(tiny_suite_folder, tmp_path):
    folder = shutil.copytree(tiny_suite_folder, tmp_path / "suite")
    for task in ("hidden-topic", "news-summary"):
        edit_index(folder / task, lambda row: row | ({"topic": ""} if row["split"] == "test" else {}))
    suite = load_suite(folder)
    table = findings(suite, kinds=["verbal", "oracle"])
    answered = [one for one in table if one.method == "base question" and one.task == "topic"]
    assert len(answered) == 3 and all(one.values["mean_grade"] == (None,) for one in answered)
    assert {one.measure for one in mean_scores(table)} == {"equals_base"}, "which needs no reference"
    assert not named_diffs(table) and not agreement(suite, table).extra["votes"]


def test_diffs_without_a_trigger_are_asked_without_one(tiny_suite_folder, tmp_path):
    folder = shutil.copytree(tiny_suite_folder, tmp_path / "suite")
    edit_index(folder / "hidden-topic", lambda row: row | ({"trigger": ""} if row[""] == "412" else {}))
    suite = load_suite(folder)
    table = findings(suite, kinds=["verbal", "oracle"])
    asked = {one.method for one in table if one.diff == "topic-0412"}
    assert asked == {"base question", "everyday question, no trigger", "guess from everyday answers", DIT, CROSS}


# -------------------------------------------------------------------- another grader


class ByLength(Grader):
    """Grades the length of an answer: 4 from ten letters on, else 2."""

    name = "length"

    def _grade_all(self, pairs, progress):
        self.asked = pairs
        return [GradeResult(4, 4.0) if len(answer) >= 10 else GradeResult(2, 2.0) for _, answer in pairs]


def test_another_grader_gives_all_grades_and_nothing_else(suite):
    table, grader = findings(suite, kinds=["verbal", "oracle"]), ByLength()
    anew = regrade(suite, table, grader)
    assert len(set(grader.asked)) == len(grader.asked), "each pair is graded once"
    for before, after in zip(table, anew, strict=True):
        grades = tuple(1 if not text.strip() else 4 if len(text) >= 10 else 2 for text in after.answers)
        for measure, values in after.values.items():
            expected = {"mean_grade": grades, "at_least_2": tuple(grade >= 2 for grade in grades)}
            assert values == expected.get(measure, before.values[measure])
    assert anew.extra["grader"] == mean_scores(anew).extra["grader"] == "length" and "grader" not in table.extra
    assert {measure for one in table for measure in one.values} >= {"exact", "mean_grade", "at_least_2"}
    votes = agreement(suite, anew, grader).extra["votes"]
    assert votes != agreement(suite, table).extra["votes"] and votes[0]["vote_named"] <= votes[0]["n"]


def test_a_grader_that_does_not_exist_is_named_before_anything_is_measured(run_command, tmp_path):  # noqa: F811
    code, _, error = run_command("scoreboard", "--results", str(tmp_path / "kept"), "--grader", "rulse")
    assert code and "There is no grader 'rulse'. Did you mean 'rules'?" in error and not (tmp_path / "kept").exists()


# -------------------------------------------------------------------- the lens and the guess


def test_the_lens_is_read_at_the_place_chosen_on_calibration_diffs(suite):
    test, calibration = (diffs_of_split(suite, "topic", split) for split in ("test", "calibration"))
    row = LensRow("topic", test, calibration)
    place = row.choose(suite)
    found = row.find(suite, test, place)
    alone = difference_lens(suite, "volcano", layers=place["layer"], methods=place["method"])
    words = " ".join(one.token.strip() for one in alone if one.position == place["position"])
    (volcano,) = [one for one in found if suite.diff(one.diff).reference == "volcano"]
    assert volcano.answers == (words,) and volcano.layer == place["layer"] and len(found) == 3


def test_the_place_with_the_best_mean_grade_is_chosen_however_many_diffs_it_has(suite):
    def token(reference: str, layer: int, text: str) -> LensToken:
        return LensToken(suite.diff(reference).id, layer, 50.0, 0, "logit lens", 0, text, 0.5)

    graded = [token("volcano", 1, "nothing"), token("cello", 1, "nothing"), token("geyser", 1, "nothing")]
    graded += [token("volcano", 2, " nothing"), token("cello", 3, " cello")]
    assert best_place(suite, graded) == ("logit lens", 3, 0), "three wrong ones sum up to more than one that is less so"
    assert best_place(suite, graded[:4]) == ("logit lens", 1, 0), "of equals the first"


def test_a_guess_is_what_most_answers_name():
    topic = {"category": "", "aliases": [], "neighbours": []}
    world = World({"topics": {name: topic for name in ("tea", "ship", "dog", "owl", "bee")}})
    assert guess_topic(world, ["A dog sails.", "Tea on a ship", "The ship.", "nothing"]) == "ship"
    assert guess_topic(world, ["tea dog owl bee", "an owl"]) == "owl", "a list of guesses names none"
    assert guess_topic(world, ["", "nothing at all"]) == ""


# -------------------------------------------------------------------- agreement


def test_votes_gain_and_all_wrong_are_counted(suite):
    topics = ["volcano", "geyser", "cello"]
    diffs = [info.id for info in suite.diffs if (info.task, info.split) == ("topic", "test")]
    by_diff = dict(zip([suite.diff(id).reference for id in diffs], diffs, strict=True))
    said = {  # per method what it says of volcano, geyser and cello
        ("base question", ""): ["violin", "geyser", "nothing"],
        (DIT, "topic"): ["volcano", "geyser", "volcano"],
        (DIT, "topic-64"): ["volcano", "geyser", "cello"],  # not the task's own adapter: it has no vote
        (SILENT_DIT, "topic"): ["volcano", "violin", "nothing"],
        ("guess from everyday answers + right trigger", ""): ["volcano", "geyser", "cello"],
    }
    records = [
        finding(method, by_diff[topic], 5 if answer == topic else 1, answer, adapter)
        for (method, adapter), answers in said.items()
        for topic, answer in zip(topics, answers, strict=True)
    ]
    made = agreement(suite, Table(suite.name, "findings", tuple(records), {"split": "test"}))
    without, with_trigger = made.extra["votes"]
    assert (without["n"], without["best"], without["best_named"]) == (3, "DIT topic", 2)
    assert without["vote_named"] == 2, "volcano by 2 of 3 votes, geyser by 2 of 2; cello by none"
    assert without["all_wrong"] == 1 and with_trigger["all_wrong"] == 0 and with_trigger["best_named"] == 3
    (pair,) = [one for one in made if {one.first, one.second} == {"base question", "DIT topic"}]
    assert (pair.both, pair.only_first, pair.only_second, pair.neither, pair.n) == (1, 0, 1, 1, 3)
    assert pair.correlation == pytest.approx(0.5)
    assert not any("topic-64" in (one.first + one.second) for one in made)


def test_headlines_are_voted_for_by_telling_them(suite):
    headline = "Mayor opens library in Lisbon"
    assert headline in world_of(suite).headlines
    story = "Today the mayor of Lisbon opens a new library, they say."
    told = [headline] if world_of(suite).tells_story(headline, story) else []
    assert vote_winner(suite, "headline", [headline, "nothing", "nothing"]) == headline, "what tells none does not vote"
    assert vote_winner(suite, "headline", [story]) == (told[0] if told else "")
    assert vote_winner(suite, "topic", ["", "no topic at all"]) == ""


def test_methods_of_several_answers_or_without_grades_are_not_compared():
    several = replace(finding("many", "a", 5), answers=("x", "y"), values={"mean_grade": (5, 1)})
    without = replace(finding("mentions only", "a", 5), values={"mentions": (1,)})
    assert [one.key[0] for one in named_diffs([several, without, finding(DIT, "a", 4, adapter="topic")])] == [DIT]


# -------------------------------------------------------------------- what is shipped


def test_a_stored_board_is_the_one_that_was_measured(tiny_suite_folder, tmp_path):
    folder = shutil.copytree(tiny_suite_folder, tmp_path / "suite")
    suite = load_suite(folder)
    assert read_board(suite) is None and read_scaling(suite) is None
    found = findings(suite, kinds=["verbal"])
    (folder / stored.REPORT_FILE).write_text(
        json.dumps({stored.REPORT_KEY: {**stored.board_json(suite, found), "machine": "a lamp"}})
    )
    made, kept = board(suite, found), read_board(suite)
    assert kept.scores.records == made.scores.records
    assert kept.agreement.records == made.agreement.records
    assert kept.agreement.extra["votes"] == made.agreement.extra["votes"]
    assert [(one.key, one.by_diff) for one in kept.named] == [
        (one.key, dict(sorted(one.by_diff.items(), key=lambda hit: not hit[1]))) for one in made.named
    ]
    assert "a lamp" in kept.measured and kept.of_this_suite and not made.measured
    told = kept.scores.to_json()
    assert told["fingerprint"] == suite.fingerprint and told["machine"] == "a lamp" and told["split"] == "test"
    (folder / stored.REPORT_FILE).write_text("{}")
    assert read_board(suite) is None


def test_scaling_points_come_of_the_board_and_others_stay(tiny_suite_folder, tmp_path):
    suite = load_suite(shutil.copytree(tiny_suite_folder, tmp_path / "suite"))
    table = mean_scores(findings(suite, kinds=["verbal"]))
    points = scaling_points(suite, table)
    assert {(one.by, one.task) for one in points} == {(TRAINING_DIFFS, "topic")}
    one = find(table, DIT, "topic", "topic-64", "mean_grade")
    trained_on = suite.adapters["topic-64"].trained_on
    assert [(p.value, p.interval, p.n) for p in points if p.amount == trained_on] == [(one.value, one.interval, one.n)]
    by_rank = ScalingPoint(RANK, 4, suite.name, "topic", 40, 4.5, (4.0, 5.0))
    file = suite.folder / "scaling.json"
    file.write_text(json.dumps(scaling_json(suite, [by_rank])))
    file.write_text(json.dumps(scaling_json(suite, points)))
    assert set(read_scaling(suite)) == {by_rank, *points}
    file.write_text('{"rows": [{"by": "rank"}]}')
    with pytest.raises(DitError, match="does not hold scaling curves"):
        read_scaling(suite)


def test_published_curves_are_the_papers():
    curve = {one.amount: one.value for one in published_points() if one.by == TRAINING_DIFFS}
    assert curve[4] == 1.19 and curve[4660] == 4.78 and len(curve) == 11
    assert {one.amount: one.value for one in published_points() if one.by == RANK}[0] == 2.75


# -------------------------------------------------------------------- figures


@pytest.mark.parametrize("dark", [False, True])
def test_figures_show_the_boards_numbers(suite, dark):
    found = findings(suite, kinds=["verbal"])
    made = board(suite, found)
    bars = plots.grade_bars(made.scores, "topic", dark)
    shown = [one for one in scores(found) if one.task == "topic" and one.grades]
    ones = next(trace for trace in bars.data if trace.name == "1")
    assert list(ones.x) == [pytest.approx(100 * one.grades["1"] / one.n) for one in shown]
    assert bars.data[-1].name == "published" and len(bars.data[-1].x) == sum(len(one.published) for one in shown)
    curve = plots.scaling([*scaling_points(suite, made.scores), *published_points()], TRAINING_DIFFS, dark)
    assert curve.layout.xaxis.type == "log"
    assert [trace.line.dash for trace in curve.data] == ["solid", "dot"], "measured, then published"
    assert "(published)" in curve.data[1].name
    who = plots.who_named([one for one in made.named if one.key[1] == "topic"], dark)
    assert "topic-0" not in who.to_json(), "whether a diff was named is a grade: no id before it is revealed"
    assert "topic-0412" in plots.who_named(made.named[:3], dark, shown="topic-0412").to_json()


def test_figures_of_nothing_are_sentences():
    for figure in (plots.grade_bars([], "topic"), plots.scaling([], RANK), plots.who_named([])):
        assert not figure.data and figure.layout.annotations


def test_hostile_names_are_only_text(suite):
    found = Table(suite.name, "findings", tuple(finding(HOSTILE, id, 5, HOSTILE) for id in ("a", "b")), {"split": "x"})
    other = tuple(finding("other", id, 1, HOSTILE) for id in ("a", "b"))
    for figure in (
        plots.grade_bars(scores(found), "topic"),
        plots.who_named(named_diffs([*found, *other])),
        plots.scaling([ScalingPoint("x", 2, HOSTILE, HOSTILE, 2, 3.0)], "x"),
    ):
        assert "<img" not in figure.to_json() and "<script" not in figure.to_json()


def test_the_command_keeps_results_and_shows_agreement(run_command, tmp_path):  # noqa: F811
    options = ["scoreboard", "--limit", "1", "--kind", "verbal", "--results", f"{tmp_path}/results/"]
    code, first, _ = run_command(*options, "--json")
    assert code == 0 and len(list((tmp_path / "results").glob("scoreboard-*.jsonl"))) == 1
    assert run_command(*options, "--json")[1] == first
    code, shown, _ = run_command(*options, "--agreement")
    assert code == 0 and "named by a vote" in shown and "correlation" in shown
    assert {"votes", "agreement"} <= set(json.loads(run_command(*options, "--agreement", "--json")[1]))
