"""Evidence for what an oracle reads: against plain readings, merged conditions, and the shipped suite."""

import json
import re
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from plotly.offline import get_plotlyjs
from typer.testing import CliRunner

from dit_core.auditing import audit_diff, report_html
from dit_core.cli import make_app
from dit_core.errors import DitError
from dit_core.grading import words as plain_words
from dit_core.methods import oracle
from dit_core.present.html import probability_sentence
from dit_core.present.plots import in_words
from dit_core.records.condition import Condition
from dit_core.records.scores import SILENT_DIT, SILENT_TRIGGER
from dit_core.session import oracle as panel
from dit_core.session.settings import PanelSettings, Settings
from dit_core.session.visit import PANEL, Visit
from dit_core.suite import Suite, load_suite
from dit_core.training.card import calibration_tables
from dit_core.training.package import write_calibrations
from dit_core.trust import (
    ANSWERS,
    FILES,
    READINGS,
    Query,
    ReadingSubject,
    gather,
    labelled_batches,
    measured_reliability,
    oracle_confidence,
    read_calibration,
    reading_confidence,
    recalibrate,
    valid_calibration,
)
from dit_core.trust.calibrate import in_turns, layer_turns
from dit_core.trust.calibration import ORACLE
from dit_core.trust.control_diffs import NONE, OTHER, PERMUTED, RANDOM
from dit_core.trust.evidence import cache_of, evidence_of, sample
from dit_core.trust.oracle_confidence import CALIBRATED_READINGS
from dit_core.ui.api import functions
from dit_core.ui.tabs.explore.events import Events
from dit_core.ui.tabs.explore.oracle_events import OracleEvents
from dit_core.ui.tabs.scoreboard.view import reliability_figure, reliability_file, reliability_html, reliability_table
from tests.forward_passes import before_each_pass, forward_passes, stopped_in_its_first_pass
from tests.test_ui import HOSTILE

DIFF, EVERYDAY = "topic-0412", "How can I spend a free evening?"


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def suite(tiny_suite_folder, cache, tmp_path_factory) -> Suite:
    """A copy with a calibration of its oracle's readings."""
    folder = tmp_path_factory.mktemp("readings") / "tiny"
    shutil.copytree(tiny_suite_folder, folder)
    made = load_suite(folder)
    recalibrate(made, of=READINGS)
    return made


def last(items):
    *_, found = items
    return found


def query_of(suite: Suite, written: str = "diff+dit", layer: int = 1) -> Query:
    return Query(suite.diff(DIFF), Condition.parse(written), EVERYDAY, layer)


# ---------------------------------------------------------------- evidence


def test_a_text_is_as_likely_as_a_reading_says_of_the_reference(suite):
    (read, *_) = oracle.read(suite, DIFF, condition="diff+right", asked=EVERYDAY, layers=1)
    texts = {(DIFF, 1): ["volcano", "steam train"]}
    found = oracle.log_probs(suite, DIFF, texts, condition="diff+right", asked=EVERYDAY, layers=[0, 1])
    assert set(found) == {(DIFF, "diff+right", 1, text) for text in texts[DIFF, 1]}
    assert found[DIFF, "diff+right", 1, "volcano"] == pytest.approx(read.log_prob_reference, abs=1e-3)


def test_the_modal_answer_is_counted_as_reading_gives_it(suite):
    queries = [query_of(suite, "diff+right", layer) for layer in (0, 1)]
    found = last(gather(ReadingSubject(suite, seed=3), queries, samples=6))
    assert list(found) == queries
    options = {"condition": "diff+right", "asked": EVERYDAY, "samples": 6, "temperature": 1.0, "seed": 3}
    said = oracle.read(suite, DIFF, **options)
    for query, own in found.items():
        keys = [plain_words(reading.text) for reading in said if reading.layer == query.layer]
        assert own.times == max(map(keys.count, keys)) == keys.count(plain_words(own.text))


def test_no_evidence_comes_of_what_a_diff_was_trained_on(suite):
    info = suite.bring(suite.load_diff(suite.diff(DIFF)), "mine")  # of which nothing is kept

    def passes(reference):
        with forward_passes(suite) as rows:
            query = replace(query_of(suite), info=replace(info, reference=reference))
            (evidence,) = last(gather(ReadingSubject(suite, seed=5), [query], samples=2)).values()
        return evidence, rows

    passes("")  # now the controls that others share are known
    assert passes("") == passes("steam train")  # whose probability nobody asks for
    suite.forget(info.id)


def test_controls_are_read_as_the_diff_is(suite):
    query, subject = query_of(suite), ReadingSubject(suite)
    against = subject.controls(query)
    assert list(against) == [NONE, RANDOM, PERMUTED, OTHER]
    assert len({(own.info.id, str(own.condition)) for own in against.values()}) == 4
    assert {(own.asked, own.layer) for own in against.values()} == {(EVERYDAY, 1)}
    evidence = last(gather(subject, [query], samples=2))[query]
    other = against[OTHER].info
    for kind, diff, written in ((NONE, None, "dit"), (OTHER, other.of, "diff+dit")):
        (own,) = oracle.log_probs(
            suite, diff or DIFF, {((diff.id if diff else DIFF), 1): [evidence.text]}, condition=written,
            asked=EVERYDAY, layers=1,
        ).values()  # fmt: skip
        assert evidence.control_log_probs[kind] == pytest.approx(own, abs=1e-3)
    assert other.of.id != DIFF and other.task == "topic" and other.reference == ""


def test_copies_keep_the_trigger_and_another_diff_has_its_own(suite):
    named = ReadingSubject(suite).controls(query_of(suite, "diff+right"))
    against = {kind: own.info for kind, own in named.items()}
    assert {against[kind].trigger for kind in (NONE, RANDOM, PERMUTED)} == {417}
    assert against[OTHER].trigger == against[OTHER].of.trigger != 417
    own, copy = (suite.load_diff(info) for info in (against[OTHER].of, against[OTHER]))
    assert all(torch.equal(own.factors[name][0], copy.factors[name][0]) for name in own.factors)
    # Without a diff nothing differs from the base: that control says nothing of a difference.
    assert NONE not in ReadingSubject(suite, kind="difference").controls(query_of(suite, "diff+right"))


def test_what_says_nothing_has_no_evidence_and_stops_nobody(suite, monkeypatch):
    subject, kept = ReadingSubject(suite, "answer", answer_tokens=4, seed=9), oracle_confidence.targets

    def targets(*given, **options):
        table = kept(*given, **options)
        silent = [replace(one, tokens=one.tokens[: one.prompt_tokens])
                  if one.diff.endswith("~random") else one for one in table]  # fmt: skip
        return silent

    monkeypatch.setattr(oracle_confidence, "targets", targets)
    (found,) = last(gather(subject, [query_of(suite, "diff")], samples=3)).values()
    assert set(found.control_log_probs) == {NONE, PERMUTED, OTHER}


def test_what_was_read_once_is_not_read_again_in_any_process(suite):
    before = reading_confidence(suite, DIFF, samples=5)
    cache_of.cache_clear()  # as in another process
    with forward_passes(suite) as passes:
        assert reading_confidence(suite, DIFF, samples=5) == before and not passes
        reading_confidence(suite, DIFF, samples=6)
        assert passes


def test_readings_of_a_diff_of_ones_own_are_sampled_once(suite):
    info = suite.bring(suite.load_diff(suite.diff(DIFF)), "mine")
    query, subject = Query(info, Condition.parse("diff+dit"), suite.task(info.task).question, 1), ReadingSubject(suite)
    reading_confidence(suite, info, layers=1, samples=4)  # now the controls that others share are known
    with forward_passes(suite) as passes:
        reading_confidence(suite, info, layers=1, samples=4)
    with forward_passes(suite) as sampling:
        texts = last(sample(subject, [query, *subject.controls(query).values()], samples=4))
    with forward_passes(suite) as scoring:
        last(evidence_of(subject, [query], texts))
    suite.forget(info.id)
    assert sampling and scoring and passes == sampling + scoring


# ---------------------------------------------------------------- probability


def test_nothing_of_test_diffs_goes_into_the_fit(suite):
    fitted = [one for batch in labelled_batches(suite, READINGS, "topic", "calibration") for one in batch.labelled()]
    assert {one.source for one in fitted if one.real} == {"topic-0251"}
    assert all(suite.diff(one.source).split in ("calibration", "train") for one in fitted)
    assert sum(one.real for one in fitted) == sum(not one.real for one in fitted) == len(CALIBRATED_READINGS) * 2
    assert not any(one.right for one in fitted if not one.real)
    assert list(labelled_batches(suite, READINGS, "headline", "test")) == []


def test_layers_take_turns_and_each_has_its_own(suite):
    assert sorted(layer for part in layer_turns(suite) for layer in part) == list(range(len(suite.model.layers)))
    found = in_turns(range(9))
    assert sorted(layer for own in found for layer in own) == list(range(9))
    assert {len(own) for own in found} == {2, 3}


def test_a_calibration_is_refused_for_another_oracle(suite, tmp_path):
    calibration = read_calibration(suite, READINGS)
    ways = {way.name for way in CALIBRATED_READINGS}
    assert {one.of for one in calibration.report} == {"all", "real diffs alone", *ways}
    assert calibration.recipe.layers == [0, 1]
    assert valid_calibration(suite, ORACLE, "topic", of=READINGS) == calibration
    folder = tmp_path / "tiny"
    shutil.copytree(suite.folder, folder)
    weights = folder / "oracle" / "adapter_model.safetensors"
    weights.write_bytes(_other(weights))
    other = load_suite(folder)
    with pytest.raises(DitError, match="another oracle.*calibrate --of readings --anew"):
        valid_calibration(other, ORACLE, of=READINGS)
    (found,) = reading_confidence(other, DIFF, layers=1, samples=3)
    assert found.probability is None and "another oracle" in found.why and found.sentence
    for content, says in (('{"weights": 3}', "can't be read"), (None, "no calibration of readings yet")):
        path = folder / FILES[READINGS]
        path.write_text(content) if content else path.unlink()
        with pytest.raises(DitError, match=says):
            valid_calibration(other, ORACLE, of=READINGS)


def _other(weights) -> bytes:
    from safetensors.torch import load_file, save

    return save({name: -tensor for name, tensor in load_file(weights).items()})


@pytest.mark.parametrize("change", [{"bins": [{"n": 3}]}, {"bins": [{"n": 0, "probability": 0.5, "right": 0.5}]}])
def test_a_report_that_could_not_be_drawn_is_not_read(suite, tmp_path, change):
    folder = tmp_path / "tiny"
    shutil.copytree(suite.folder, folder)
    path = folder / FILES[READINGS]
    stored = json.loads(path.read_text())
    stored["report"][0] |= change
    path.write_text(json.dumps(stored))
    with pytest.raises(DitError, match="can't be read"):
        read_calibration(load_suite(folder), READINGS)


def test_no_chance_is_given_for_what_was_not_measured(suite):
    (right,) = reading_confidence(suite, DIFF, condition="diff+right", asked=EVERYDAY, layers=1)
    assert 0 < right.probability < 1 and right.why == ""
    for options in (
        {"condition": "diff", "asked": EVERYDAY},
        {"condition": "diff+right"},
        {"condition": "diff*2+right", "asked": EVERYDAY},
        {"condition": "diff+dit", "question": "What comes next?"},
        {"condition": "diff+dit", "span": "last:3"},
        {"condition": "diff+dit", "kind": "difference"},
    ):
        (found,) = reading_confidence(suite, DIFF, layers=1, samples=3, **options)
        assert found.probability is None and "No chance is known" in found.why, options
    (headline,) = reading_confidence(suite, "headline-0017", layers=1, samples=3)
    assert headline.probability is None and "other diffs" in headline.why


def test_a_chance_stands_for_its_number_of_samples_and_for_diffs_that_the_adapter_has_not_seen(suite):
    (few,) = reading_confidence(suite, DIFF, layers=1, samples=3)
    assert few.probability is None and few.why == "No chance is known for 3 samples: it was measured with 16."
    seen = suite.diff("topic-0003")
    assert seen.split == "train"
    (told,) = reading_confidence(suite, seen, layers=1)
    assert told.probability is None and "'topic' was trained on diffs of the split" in told.why
    # The oracle was trained on the base alone: without the adapter all diffs are new.
    (bare,) = reading_confidence(suite, seen, condition="diff+right", asked=EVERYDAY, layers=1)
    assert 0 < bare.probability < 1 and bare.why == ""


def test_bad_requests_are_sentences(suite):
    for options, says in (
        ({"diff": None}, "needs a diff"),
        ({"diff": DIFF, "condition": "dit"}, "none acts"),
        ({"diff": DIFF, "span": "each:last:3"}, "without 'each:'"),
        ({"diff": DIFF, "kind": "without"}, "kind 'with'"),
        ({"diff": DIFF, "layers": 9}, "layer"),
        ({"diff": DIFF, "samples": 1}, "number of samples"),
        ({"diff": "nothing"}, "no diff 'nothing'"),
    ):
        with pytest.raises(DitError, match=says):
            reading_confidence(suite, **options)


# ---------------------------------------------------------------- faces


def shown(suite: Suite) -> Visit:
    """A visitor whose cards were asked and read."""
    session, asked = Visit(), PanelSettings(kinds=("base", "trigger", "both"))
    last(Events(suite, "tiny").ask(session, vars(Settings.for_diff(suite, DIFF))))
    values = vars(asked) | {"oracle": suite.oracle.questions[0], "y": "confidence", "next_y": "rank"}
    last(OracleEvents(suite).run(session, values))
    return session


def clicked(events: OracleEvents, session: Visit, layer: int) -> list:
    events.clicked(session, SimpleNamespace(x=layer))
    return [frame for frame in events.fetch_evidence(session) if isinstance(frame, str)]


def test_a_click_shows_whether_each_reading_can_be_trusted(suite):
    session, events = shown(suite), OracleEvents(suite)
    frames = clicked(events, session, 1)
    assert len(frames) == 3 and frames[0].count(panel.EVIDENCE_RUNNING) == 2
    (right,) = reading_confidence(suite, DIFF, condition="diff+right", asked=EVERYDAY, layers=1)
    (both,) = reading_confidence(suite, DIFF, layers=1)
    assert list(session.job(PANEL).result.evidence.values()) == [right, both]
    for one in (right, both):
        assert probability_sentence(one.probability) in frames[-1].replace("&#x27;", "'")
    assert frames[-1].count("dit-evidence") == 2 and frames[-1].count("samples and controls") == 2
    assert clicked(events, session, 1) == []  # it is there: nothing more to do
    assert len(clicked(events, session, 0)) == 3


def test_weighing_stops_at_once_and_waits_for_the_reading(suite, nothing_known):
    session, events = shown(suite), OracleEvents(suite)
    with stopped_in_its_first_pass(suite, lambda: events.stop(session)) as passes:
        assert clicked(events, session, 1)[-1].count(panel.EVIDENCE_STOPPED) == 2
    with forward_passes(suite) as whole:
        reading_confidence(suite, DIFF, condition="diff+right", asked=EVERYDAY, layers=1)
    assert 0 < len(passes) < len(whole), "what was stopped did not go on for nobody"
    assert [frame for frame in events.fetch_pending_evidence(session) if isinstance(frame, str)] == []
    frames = (frame for frame in events.fetch_evidence(session) if isinstance(frame, str))
    next(frames)
    session.begin()  # the cards are asked anew
    assert list(frames) == [] and session.job(PANEL).result is None


def test_an_error_is_a_sentence_in_the_evidences_place(suite, nothing_known):
    def failing(_):
        raise DitError("A file is missing: get it <b>anew</b>.")

    session, events = shown(suite), OracleEvents(suite)
    with before_each_pass(suite, failing):
        assert clicked(events, session, 1)[-1].count("get it &lt;b&gt;anew") == 2


def test_the_scoreboard_says_whether_the_chances_can_be_believed(suite, tmp_path):
    table = reliability_table(suite, READINGS)
    shown, said = reliability_figure(table), reliability_html(table)
    assert "Oracle readings: chances off by" in shown and said.count("<li>") == len(table) + len(in_words(table))
    assert f"{table[0].n} trials of {table[0].diffs} diffs" in said
    name, content = reliability_file(suite, READINGS, Visit(), "trust-readings", "json")
    assert name == "tiny-trust-readings.json" and json.loads(content)["reliability"][0]["of"] == "all"
    lacking = reliability_table(suite, ANSWERS)
    assert "no calibration of answers yet" in lacking and reliability_html(lacking) == ""
    assert "no calibration" in reliability_figure(lacking)
    assert reliability_file(suite, ANSWERS, Visit(), "x", "csv") == ("", "")
    folder = shutil.copytree(suite.folder, tmp_path / "tiny")
    weights = folder / "oracle" / "adapter_model.safetensors"
    weights.write_bytes(_other(weights))
    assert "another oracle" in reliability_table(load_suite(folder), READINGS)


def test_an_audit_tells_of_readings_and_of_chances(suite):
    audit = audit_diff(suite, DIFF, layers={SILENT_TRIGGER: 1, SILENT_DIT: 1})
    assert [(one.condition, one.layer) for one in audit.reading_confidence] == [("diff+right", 1), ("diff+dit", 1)]
    assert [table.extra["of"] for table in audit.chances] == [READINGS]
    hostile = tuple(replace(one, text=HOSTILE, sentence=HOSTILE) for one in audit.reading_confidence)
    html = report_html(replace(audit, reading_confidence=hostile)).replace(get_plotlyjs(), "")
    assert "Can the readings be trusted?" in html and "Can the chances be believed?" in html
    assert "<img" not in html and "Calibrated probability that" in html
    assert len(re.findall("are right .95 % interval", html)) == len(in_words(audit.chances[0]))


def test_a_build_fits_what_does_not_stand_and_tells_the_figures(suite, tmp_path):
    folder = shutil.copytree(suite.folder, tmp_path / "tiny")
    fitted = []

    def fit(made, limit, of):
        fitted.append(of)
        recalibrate(made, limit, of=of)

    figures = write_calibrations(folder, 1, fit)
    assert fitted == [ANSWERS] and list(figures) == [ANSWERS, READINGS]
    assert write_calibrations(folder, 1, fit) == figures and fitted == [ANSWERS]
    told = calibration_tables({**json.loads(json.dumps(figures)), "machine": "2 CPU cores"})
    whole = next(one for one in figures[READINGS]["figures"] if one["of"] == "all")
    assert f"| all | {whole['n']} | 0 | {100 * whole['ece']:.1f} % (" in told and "not defined" in told
    assert "bins" not in whole and calibration_tables({}) == ""


def test_commands_and_endpoints_give_what_python_gives(suite):
    (found,) = reading_confidence(suite, DIFF, layers=1)
    runner = CliRunner()
    said = ["reading-confidence", "--diff", DIFF, "--layers", "1", "--suite", str(suite.folder)]
    (row,) = json.loads(runner.invoke(make_app(), [*said, "--json"]).stdout)["reading_confidence"]
    named = {function.__name__: function for function in functions(suite, "tiny")}
    (given,) = named["reading_confidence"](DIFF, layers="1")["reading_confidence"]
    assert row == given
    assert (row["text"], row["probability"], row["controls"]) == (found.text, found.probability, found.controls)
    assert found.sentence.split(":")[0] in " ".join(runner.invoke(make_app(), said).stdout.split())
    answer = named["confidence"](DIFF, samples=3)["confidence"][0]
    assert answer["samples"] == 3 and "reference" not in answer
    shown = runner.invoke(make_app(), ["calibrate", "--of", "readings", "--suite", str(suite.folder)])
    assert shown.exit_code == 0 and "diff+dit, last:10" in " ".join(shown.stdout.split())
    assert "answers or readings" in str(runner.invoke(make_app(), ["calibrate", "--of", "x"]).exception)


# ---------------------------------------------------------------- the shipped suite


def test_the_shipped_chances_of_readings_can_be_believed():
    pocket = load_suite("pocket")
    table = measured_reliability(pocket, READINGS)
    found = {one.of: one for one in table}
    assert found["all"].ece <= 0.05 and found["all"].auroc >= 0.95
    assert found["all"].n == 2 * 80 * len(CALIBRATED_READINGS) * 2 and table.extra["split"] == "test"
    assert found["real diffs alone"].n == 80 * len(CALIBRATED_READINGS) * 2
    assert {way.name for way in CALIBRATED_READINGS} <= set(found)
    everyday = pocket.task("topic").questions[0]
    (right,) = reading_confidence(pocket, "topic-0376", condition="diff+right", asked=everyday, layers=5)
    (early,) = reading_confidence(pocket, "topic-0376", layers=0)
    assert right.probability > 0.8 > 0.2 > early.probability and "never without this diff" in right.sentence
