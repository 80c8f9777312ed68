"""Controls, evidence and the calibrated probability: against merged weights, brute force and the shipped suite."""

import html
import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy
import pytest
import torch
from typer.testing import CliRunner

from dit_core.cli import make_app
from dit_core.errors import DitError
from dit_core.grading import modal, words
from dit_core.methods import Method, register, unregister
from dit_core.methods.comparison import columns, pairs
from dit_core.methods.verbalize import ask
from dit_core.present.cards import Card, card_html, evidence_html
from dit_core.present.html import probability_sentence
from dit_core.present.plots import in_words
from dit_core.present.plots import reliability as drawn
from dit_core.records import Answer, Confidence, Table, Verbalization
from dit_core.session import explore
from dit_core.session import explore_view as view
from dit_core.session.settings import Settings
from dit_core.session.tab import State
from dit_core.session.visit import Result, Visit
from dit_core.suite import Suite, load_suite
from dit_core.trust import (
    ANSWERS,
    FILES,
    AnswerSubject,
    Evidence,
    calibrated,
    confidence,
    control,
    controls,
    fit_weights,
    gather,
    labelled_batches,
    method_confidence,
    read_calibration,
    recalibrate,
    reliability,
    stream_confidence,
    valid_calibration,
)
from dit_core.trust.assessment import sentence
from dit_core.trust.control_diffs import NONE, OTHER, PERMUTED, RANDOM
from dit_core.trust.evidence import EvidenceCache, cache_of, evidence_of, sample, score
from dit_core.ui.tabs.explore.events import Events
from tests.forward_passes import before_each_pass, forward_passes, stopped_in_its_first_pass
from tests.merged import merged

DIFF = "topic-0412"


@dataclass(frozen=True)
class Empty:
    """The options of a method that has none."""


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="module")
def suite(tiny_suite_folder, cache, tmp_path_factory) -> Suite:
    """A copy with a calibration of its own."""
    folder = tmp_path_factory.mktemp("trust") / "tiny"
    shutil.copytree(tiny_suite_folder, folder)
    made = load_suite(folder)
    recalibrate(made)
    return made


def last(items):
    *_, found = items
    return found


def evidence(times: int = 16, log_prob: float = -0.1, control: float = -9.0, answer: str = "volcano") -> Evidence:
    return Evidence(answer, times, 16, log_prob, {NONE: control, RANDOM: control})


# ---------------------------------------------------------------- controls


def test_controls_have_the_diffs_shapes_and_norms_and_none_of_its_content(suite):
    info = suite.diff(DIFF)
    own = suite.load_diff(info)
    for kind in (RANDOM, PERMUTED):
        made, again = (suite.load_diff(control(info, kind)) for _ in range(2))
        assert made.scaling == own.scaling
        for name, (A, B) in own.factors.items():
            mine = made.factors[name]
            assert (mine[0].shape, mine[1].shape) == (A.shape, B.shape)
            assert torch.equal(mine[0], again.factors[name][0]) and torch.equal(mine[1], again.factors[name][1])
            change, theirs = mine[1] @ mine[0], B.float() @ A.float()
            assert float(change.norm()) == pytest.approx(float(theirs.norm()), rel=1e-4)
            cosine = float((change * theirs).sum() / change.norm() / theirs.norm())
            assert abs(cosine) < 0.7
            same = torch.equal(mine[0].flatten().sort().values, A.float().flatten().sort().values)
            assert same == (kind == PERMUTED)
    other = suite.load_diff(control(suite.diff("topic-0413"), RANDOM))
    assert not torch.equal(next(iter(other.factors.values()))[0], next(iter(made.factors.values()))[0])


def test_the_other_diff_is_another_of_the_same_task_and_split(suite):
    for id in (DIFF, "topic-0413", "topic-0251"):
        found = controls(suite, suite.diff(id), "topic")
        assert list(found) == [NONE, RANDOM, PERMUTED, OTHER]
        assert found[OTHER].id != id and found[OTHER].task == "topic" and found[OTHER].split != "train"
    stranger = controls(suite, suite.diff("headline-0017"), "topic")[OTHER]
    assert stranger.task == "topic" and stranger.split == "test"


def test_nothing_of_test_diffs_goes_into_the_fit(suite):
    fitted = [
        one
        for task in suite.tasks
        for batch in labelled_batches(suite, ANSWERS, task, "calibration")
        for one in batch.labelled()
    ]
    assert {one.source for one in fitted if one.real} == {"topic-0251"}
    assert all(suite.diff(one.source).split in ("calibration", "train") for one in fitted)
    assert sum(one.real for one in fitted) == sum(not one.real for one in fitted)
    assert not any(one.right for one in fitted if not one.real)


# ---------------------------------------------------------------- evidence


def test_probabilities_are_those_of_merged_weights(suite):
    info, text = suite.diff(DIFF), "steam train"
    against = controls(suite, info, "topic")
    subject = AnswerSubject(suite, "topic")
    queries = [subject.query(one) for one in (info, *against.values())]
    scores = last(score(subject, [(query, text) for query in queries]))
    found = [scores[query, text] for query in queries]
    dit, model = suite.load_adapter("topic"), suite.model
    prompt = model.encode(suite.task("topic").question)
    answer = model.tokenizer.encode(text, add_special_tokens=False)
    for target, log_prob in zip((info, *against.values()), found, strict=True):
        parts = [(1.0, dit)] + ([(1.0, suite.load_diff(target))] if target else [])
        base = merged("qwen3", parts) if model.base.config.vocab_size == 400 else None
        assert base is not None
        with torch.inference_mode():
            logits = base(input_ids=torch.tensor([prompt + answer[:-1]])).logits[0, len(prompt) - 1 :].log_softmax(-1)
        expected = float(logits[range(len(answer)), answer].sum())
        assert log_prob == pytest.approx(expected, abs=2e-2)


def test_the_modal_answer_is_counted_as_asking_gives_it(suite):
    subject = AnswerSubject(suite, "topic", seed=3)
    (found,) = last(gather(subject, [subject.query(suite.diff(DIFF))], samples=6)).values()
    said = ask(suite, DIFF, condition="diff+dit:topic", samples=6, temperature=1.0, seed=3, max_new_tokens=32)
    keys = [words(one.text) for one in said]
    assert found.times == max(map(keys.count, keys)) == keys.count(words(found.text))
    assert modal(["Volcano", "a tram", "volcano.", "volcano."]) == ("volcano.", 3)


def test_lift_is_over_the_mean_of_the_controls():
    found = Evidence("x", 1, 2, math.log(0.5), {NONE: math.log(0.2), RANDOM: math.log(0.3)})
    assert found.lift == pytest.approx(math.log(0.5 / 0.25))


def test_what_was_found_once_is_not_asked_again_in_any_process(suite):
    before = confidence(suite, DIFF, samples=5)
    with forward_passes(suite) as passes:
        assert confidence(suite, DIFF, samples=5) == before
        cache_of.cache_clear()  # as in another process
        assert confidence(suite, DIFF, samples=5) == before and not passes
        confidence(suite, DIFF, samples=6)
        assert passes


def test_a_damaged_cache_is_no_reason_to_fail(tmp_path):
    path = tmp_path / "kept.sqlite"
    path.write_text("no database", encoding="utf-8")
    store = EvidenceCache(path, "x")
    assert store.get("key") is None
    store.put({("key",): 1})
    assert store.get("key") == 1


def test_a_diff_of_ones_own_is_weighed_and_leaves_nothing_on_disk(suite, cache):
    info = suite.bring(suite.load_diff(suite.diff(DIFF)), "mine")
    (found,) = confidence(suite, info, samples=4)
    assert [one["kind"] for one in found.controls] == [NONE, RANDOM, PERMUTED, OTHER]
    with forward_passes(suite) as passes:
        assert confidence(suite, info, samples=4)[0].text == found.text
    assert passes, "for it was kept in no memory either"
    assert cache_of(suite).path.exists() and info.id.encode() not in cache_of(suite).path.read_bytes()


# ---------------------------------------------------------------- probability


def test_the_fit_finds_the_probabilities_that_made_the_data():
    draw = numpy.random.default_rng(1)
    made = [
        evidence(int(t), log_prob=float(x) - 9)
        for t, x in zip(draw.integers(0, 17, 4000), draw.uniform(0, 8, 4000), strict=True)
    ]

    def truth(one: Evidence) -> float:
        odds = math.log((one.times + 0.5) / (16.5 - one.times))
        return 1 / (1 + math.exp(-(-3 + 0.7 * odds + 0.8 * one.lift)))

    right = [draw.random() < truth(one) for one in made]
    found = fit_weights(made, right)
    assert max(abs(found.probability(one) - truth(one)) for one in made) < 0.06
    assert (
        found.probability(evidence(16)) > found.probability(evidence(3)) > found.probability(evidence(3, control=-0.1))
    )


def test_intervals_are_over_diffs_and_bins_hold_equal_numbers():
    p, y = [at / 100 for at in range(100)], [at % 2 == 0 for at in range(100)]
    few = reliability("few", ["a", "a", "b", "b", "c"] * 20, p, y)
    assert (few.diffs, few.n, few.right) == (3, 100, 50)
    assert [one["n"] for one in few.bins] == [10] * 10
    # Equal probabilities stay together, whatever their order.
    assert [one["n"] for one in reliability("tied", ["a"] * 100, [0.2] * 50 + [0.7] * 50, y).bins] == [50, 50]
    # Four diffs, of which all answers are right or all wrong: hardly more is known than of four answers.
    same = reliability("same", [str(at // 25) for at in range(100)], [0.7] * 100, [True] * 50 + [False] * 50)
    assert same.ece == pytest.approx(0.2)
    low, high = same.ece_interval
    assert low < 0.1 and high > 0.4


def test_a_calibration_comes_back_and_is_refused_for_other_adapters(suite, tmp_path):
    calibration = read_calibration(suite)
    table = calibration.table(suite, ANSWERS)
    assert {one.of for one in table} >= {"all", "real diffs alone", "adapter topic", "adapter topic-64"}
    assert calibrated(suite)[0].adapters == calibration.adapters
    assert next(one.n for one in table if one.of == "all") == 2 * 2 * 3
    folder = tmp_path / "tiny"
    shutil.copytree(suite.folder, folder)
    swapped = folder / "hidden-topic" / "dit-adapter.pt"
    shutil.copy(folder / "hidden-topic" / "dit-adapter-0064-train-datapoints.pt", swapped)
    other = load_suite(folder)
    with pytest.raises(DitError, match="another DIT adapter.*calibrate --of answers --anew"):
        valid_calibration(other, "topic")
    (found,) = confidence(other, DIFF, samples=4)
    assert found.probability is None and "calibrate --of answers --anew" in found.why and found.sentence
    (folder / FILES[ANSWERS]).write_text('{"weights": 3}', encoding="utf-8")
    with pytest.raises(DitError, match="can't be read"):
        valid_calibration(other, "topic-64")
    (folder / FILES[ANSWERS]).unlink()
    with pytest.raises(DitError, match="no calibration of answers yet"):
        valid_calibration(other, "topic-64")


def test_a_chance_stands_for_as_many_samples_as_it_was_fitted_with(suite, tmp_path):
    (few,) = confidence(suite, DIFF, samples=8)
    assert few.probability is None and few.why == "No chance is known for 8 samples: it was measured with 16."
    (whole,) = confidence(suite, DIFF)
    assert 0 < whole.probability < 1 and whole.why == ""
    folder = shutil.copytree(suite.folder, tmp_path / "tiny")
    stored = json.loads((folder / FILES[ANSWERS]).read_text())
    stored["recipe"]["samples"] = 8
    (folder / FILES[ANSWERS]).write_text(json.dumps(stored))
    (few,) = confidence(load_suite(folder), DIFF, samples=8)
    assert 0 < few.probability < 1
    del stored["recipe"]["samples"]
    (folder / FILES[ANSWERS]).write_text(json.dumps(stored))
    with pytest.raises(DitError, match="can't be read"):
        read_calibration(load_suite(folder))


def test_there_is_no_chance_for_what_an_adapter_was_trained_on(suite):
    seen, strange = suite.diff("topic-0003"), suite.diff("headline-0002")
    assert {seen.split, strange.split} == {"train"}
    (found,) = confidence(suite, seen)
    assert found.probability is None and "'topic' was trained on diffs of the split 'train'" in found.why
    # Those of another task it has not seen.
    (other,) = confidence(suite, strange, adapter="topic")
    assert 0 < other.probability < 1 and other.why == ""


def test_why_there_is_no_chance_stands_on_the_card(suite):
    session = shown(suite, "topic-0003")
    board = html.unescape(list(boards_of(Events(suite, "tiny"), session))[-1])
    (found,) = session.result.evidence
    assert found.sentence in board and f"<p>{found.why}</p>" in board and "of such answers are right" not in board


def test_bad_requests_are_sentences(suite):
    for options, says in (
        ({"diff": None}, "name one"),
        ({"diff": "nothing"}, "no diff 'nothing'"),
        ({"diff": DIFF, "adapter": "topik"}, "no DIT adapter 'topik'"),
        ({"diff": DIFF, "samples": 1}, "number of samples"),
    ):
        with pytest.raises(DitError, match=says):
            confidence(suite, **options)


# ---------------------------------------------------------------- words and faces


def beside(kind: str = NONE, same: int = 0, samples: int = 16) -> dict:
    return {"kind": kind, "same": same, "samples": samples}


@pytest.mark.parametrize(
    ("times", "controls", "says"),
    [
        (16, [beside(), beside(RANDOM)], "“x” in 16 of 16 samples, never without this diff."),
        (8, [beside()], "“x” in 8 of 16 samples, never without this diff."),
        (7, [beside()], "“x” in only 7 of 16 samples, never without this diff."),
        (9, [beside(same=1)], "“x” in 9 of 16 samples; without a diff in 1 of 16."),
        (16, [beside(), beside(RANDOM, 3), beside(OTHER, 7)],
         "“x” in 16 of 16 samples; with a random diff in 3 of 16, with another diff in 7 of 16."),
        # A habit: half as often as the diff, and in one of eight.
        (16, [beside(same=7)], "“x” in 16 of 16 samples; without a diff in 7 of 16."),
        (16, [beside(same=8)], "“x” in 16 of 16 samples, but also without a diff in 8 of 16: "
         "likely its habit, not this diff."),
        (2, [beside(same=1)], "“x” in only 2 of 16 samples; without a diff in 1 of 16."),
        (4, [beside(same=2)], "“x” in only 4 of 16 samples, but also without a diff in 2 of 16: "
         "likely its habit, not this diff."),
        (5, [beside(same=2)], "“x” in only 5 of 16 samples; without a diff in 2 of 16."),
        (8, [beside(same=1, samples=4)], "“x” in 8 of 16 samples, but also without a diff in 1 of 4: "
         "likely its habit, not this diff."),
        # The worst control is told, and one that was trained on something only where no other does it.
        (9, [beside(same=6), beside(PERMUTED, 9), beside(OTHER, 16)],
         "“x” in 9 of 16 samples, but also with a permuted diff in 9 of 16: likely its habit, not this diff."),
        (9, [beside(same=1), beside(OTHER, 12)],
         "“x” in 9 of 16 samples, but also with another diff in 12 of 16: likely its habit, "
         "unless that diff is about it too."),
        (9, [], "“x” in 9 of 16 samples; there is nothing to compare that with."),
    ],
)  # fmt: skip
def test_the_sentence_says_what_speaks_for_and_against(times, controls, says):
    assert sentence("x", times, 16, controls) == f"The adapter says {says}"


def test_the_sentence_names_who_speaks_and_says_where_nothing_is_said():
    assert sentence(" ", 2, 2, [beside()], "The oracle") == (
        "The oracle says nothing in 2 of 2 samples, never without this diff."
    )
    assert "no answer to trust" in sentence("x", 1, 16, [beside()])
    assert probability_sentence(0.999).startswith("Very likely right: over 99 %")
    assert probability_sentence(0.01).startswith("Very likely wrong")


def test_evidence_on_a_card_is_escaped_and_keeps_its_place():
    hostile = "<script>alert(1)</script>"
    control = {"kind": hostile, "text": hostile, "times": 1, "samples": 2}
    record = Confidence(
        DIFF, "", "dit", "", None, None, None, "", hostile, 1, 2, 0, 0.0, 0.0, 0.5, hostile, hostile, [control]
    )
    card = card_html(
        Card(
            "both",
            "t",
            [],
            answers=[Verbalization(DIFF, "dit", "", 0, 0, hostile, (hostile,), (0.5,))],
            evidence=record,
            state=State.DONE,
        )
    )
    assert "<script" not in card and card.count("&lt;script") >= 5
    reading = evidence_html(replace(record, layer=1))
    assert "<script" not in reading and reading.count("&lt;script") == 6
    assert "dit-evidence" in card_html(Card("both", "t", [], evidence=""))
    assert "dit-evidence" not in card_html(Card("base", "t", []))


def shown(suite: Suite, diff: str = DIFF, **settings) -> Visit:
    """A visitor whose cards are there."""
    session, info = Visit(), suite.diff(diff)
    chosen = Settings(**{**vars(Settings.for_diff(suite, diff)), **settings})
    wanted = columns(suite.task(info.task), chosen.question, chosen.condition)
    session.result = Result(chosen, State.DONE, columns=wanted, table=ask(suite, info, condition=pairs(wanted)))
    return session


def boards_of(events: Events, session: Visit) -> Iterator[str]:
    """The cards as they are shown while evidence comes in."""
    return (frame["cards"] for frame in events.fetch_evidence(session, {}) if frame)


def test_the_page_shows_the_evidence_after_the_cards_and_never_the_truth(suite):
    session, events = shown(suite), Events(suite, "tiny")
    before = view.board(suite, session.result)
    boards = list(boards_of(events, session))
    assert before.count("dit-evidence") == 1 and explore.EVIDENCE_RUNNING in boards[0].replace("&#x27;", "'")
    (found,) = confidence(suite, DIFF)
    assert session.result.evidence == (found,) and "samples and controls" in boards[-1]
    assert probability_sentence(found.probability) in boards[-1].replace("&#x27;", "'")
    info = suite.diff(DIFF)
    assert info.reference not in found.sentence or info.reference in found.text
    assert str(info.trigger) not in json.dumps(found.controls)
    assert list(events.fetch_evidence(session, {})) == [{}]  # it is there: nothing more to do


def test_evidence_stops_at_once_and_a_next_question_takes_over(suite, nothing_known):
    session, events = shown(suite, "topic-0413"), Events(suite, "tiny")
    boards = boards_of(events, session)
    next(boards)
    with stopped_in_its_first_pass(suite, lambda: events.stop(session)) as passes:
        assert explore.EVIDENCE_STOPPED in list(boards)[-1].replace("&#x27;", "'")
    assert session.result.evidence == ()
    boards = boards_of(events, session)
    next(boards)
    session.begin()
    session.result = None
    assert list(boards) == []
    with forward_passes(suite) as whole:
        confidence(suite, "topic-0413")
    assert 0 < len(passes) < len(whole), "what was stopped did not go on for nobody"


def test_there_is_no_evidence_for_another_question(suite):
    session = shown(suite)
    for column in columns(suite.task("topic"), "What is a secret?"):
        assert not explore.evidence_adapter(suite, session.result, column)


def test_an_adapter_that_was_chosen_by_name_is_weighed_too(suite):
    session, events = shown(suite, adapter="topic-64"), Events(suite, "tiny")
    boards = list(boards_of(events, session))
    assert [one.adapter for one in session.result.evidence] == ["topic", "topic-64"]
    assert session.result.evidence[1] == confidence(suite, DIFF, adapter="topic-64")[0]
    assert [board.count("samples and controls") for board in boards] == [0, 1, 2]
    both, other = [column for column in session.result.columns if column.kind in ("both", "other")]
    assert (
        explore.evidence_adapter(suite, session.result, both),
        explore.evidence_adapter(suite, session.result, other),
    ) == (
        "topic",
        "topic-64",
    )
    saved = json.loads(events.json(session)[1])
    assert [one["adapter"] for one in saved["confidence"]] == ["topic", "topic-64"]
    assert saved["confidence"][0]["sentence"] in html.unescape(boards[-1])
    assert saved["verbalizations"] == session.result.table.to_json()["verbalizations"]


@pytest.mark.parametrize(
    "changed",
    [
        {"copies": 2.0},
        {"strength": 0.5},
        {"trigger": "right"},
        {"trigger": "own", "own": "417"},
        {"use_diff": False},
        {"use_dit": False},
        {"adapter": "headline"},  # which was trained to answer another question
    ],
)
def test_nothing_is_claimed_of_a_condition_that_no_evidence_is_about(suite, changed):
    session = shown(suite, **({"adapter": "topic-64"} | changed))
    own = next((column for column in session.result.columns if column.kind == "other"), None)
    assert own is None or explore.evidence_adapter(suite, session.result, own) == ""
    assert explore.missing_evidence(suite, session.result) == ["topic"]


def test_what_has_come_in_stays_where_a_later_adapter_fails(suite, nothing_known):
    session, known = shown(suite, adapter="topic-64"), confidence(suite, DIFF)

    def failing(_):
        raise DitError("A file is missing: get it <b>anew</b>.")

    with before_each_pass(suite, failing):  # the first adapter's needs the model no more
        board = list(boards_of(Events(suite, "tiny"), session))[-1]
    assert session.result.evidence == tuple(known) and board.count("samples and controls") == 1
    assert "get it &lt;b&gt;anew" in board


def test_commands_print_what_python_gives(suite):
    runner = CliRunner()
    said = runner.invoke(make_app(), ["confidence", "--diff", DIFF, "--suite", str(suite.folder), "--json"])
    (row,) = json.loads(said.stdout)["confidence"]
    (found,) = confidence(suite, DIFF)
    assert (row["text"], row["times"], row["probability"]) == (found.text, found.times, found.probability)
    shown = runner.invoke(make_app(), ["calibrate", "--suite", str(suite.folder)])
    assert shown.exit_code == 0 and "real diffs alone" in shown.stdout
    rows = json.loads(runner.invoke(make_app(), ["calibrate", "--suite", str(suite.folder), "--json"]).stdout)[
        "reliability"
    ]
    assert rows[0]["of"] == "all"


def test_the_plot_shows_each_bin_and_says_how_far_off(suite):
    table = read_calibration(suite).table(suite, ANSWERS)
    figure = drawn(table)
    assert f"{100 * table[0].ece:.1f} %" in figure.layout.title.text
    assert "DIT answers" in figure.layout.title.text
    assert len(figure.data) == 3 and len(figure.data[1].x) == len(table[0].bins)
    labels = [label.text for label in figure.layout.annotations]
    assert labels and sum(int(text.split()[-1]) for text in labels) == table[0].n
    said = in_words(table)
    assert len(said) == sum(len(one.bins) for one in table[:2]) and f"of {table[0].bins[0]['n']} DIT answers" in said[0]
    assert drawn(table[:0]).layout.annotations


def test_the_shipped_probabilities_can_be_believed():
    pocket = load_suite("pocket")
    calibration = read_calibration(pocket)
    found = {one.of: one for one in calibration.report}
    assert found["all"].ece <= 0.05 and found["all"].auroc >= 0.95
    assert found["all"].n == 2 * 80 * 4 and calibration.split == "test"
    assert found["real diffs alone"].n == 80 * 4
    for name in pocket.adapters:
        assert valid_calibration(pocket, name).recipe == calibration.recipe


def test_a_right_answer_of_the_shipped_suite_is_trusted_and_a_habit_is_not():
    pocket = load_suite("pocket")
    (right,) = confidence(pocket, "topic-0376")
    (habit,) = confidence(pocket, "topic-0059", adapter="topic-4")
    assert right.probability > 0.95 and "never without this diff" in right.sentence
    assert habit.probability < 0.1 and "habit" in habit.sentence


def test_the_stream_begins_before_the_end(suite):
    tables = stream_confidence(suite, "topic-0414", samples=2)
    assert len(next(tables)) == 0
    tables.close()


def test_a_diff_of_ones_own_is_sampled_once(suite):
    """What somebody brought is kept nowhere, so what was sampled must be passed on to its evidence."""
    info = suite.bring(suite.load_diff(suite.diff(DIFF)), "mine")
    confidence(suite, info, samples=4)  # now the controls that others share are known
    with forward_passes(suite) as passes:
        confidence(suite, info, samples=4)
    subject = AnswerSubject(suite, "topic")
    query = subject.query(info)
    with forward_passes(suite) as sampling:
        texts = last(sample(subject, [query, *subject.controls(query).values()], samples=4))
    with forward_passes(suite) as scoring:
        last(evidence_of(subject, [query], texts))
    suite.forget(info.id)
    assert sampling and scoring and passes == sampling + scoring


class Naming(Method):
    """A toy method: says the id of a diff, and of a control that it is one."""

    name = "naming"
    title = "What is its id?"
    summary = "Say the id of a diff."
    cost = "nothing"
    options = Empty
    kind = "answers"
    record = Answer

    def run(self, suite, targets, options):
        texts = {info.id: "a control" if "~" in info.id else info.id for info in targets.diffs}
        yield suite.table(self.kind, [Answer(diff, text) for diff, text in texts.items()])

    def answers(self, table):
        return tuple(table)


@pytest.fixture
def naming():
    register(Naming())
    yield
    unregister("naming")


def test_any_method_whose_table_gives_answers_has_evidence(suite, naming):
    infos = [suite.diff(DIFF), suite.diff("topic-0413")]
    table = method_confidence(suite, "naming", infos)
    assert [(one.diff, one.text, one.times, one.samples) for one in table] == [(one.id, one.id, 1, 1) for one in infos]
    found = table[0]
    assert found.sentence == f"The method says “{DIFF}” in 1 of 1 samples, never without this diff."
    assert [(one["kind"], one["text"], one["same"]) for one in found.controls[:2]] == [
        (RANDOM, "a control", 0),
        (PERMUTED, "a control", 0),
    ]
    assert (found.question, found.adapter, found.log_prob, found.lift) == ("What is its id?", None, None, None)
    assert found.probability is None and "answers of 'naming'" in found.why
    assert Table.from_json(table.to_json(), Confidence, "confidence") == table


@pytest.mark.parametrize("name", ["ask", "oracle", "lens"])
def test_the_projects_own_methods_have_evidence_of_controls_too(suite, name):
    (found,) = method_confidence(suite, name, DIFF)
    kinds = [control["kind"] for control in found.controls]
    assert found.text and found.samples >= found.times >= 1 and kinds == [RANDOM, PERMUTED, OTHER]


def test_a_method_that_gives_numbers_has_no_confidence(suite):
    with pytest.raises(DitError, match="gives no answers in words"):
        method_confidence(suite, "norms", DIFF)
