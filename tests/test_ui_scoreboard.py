"""The tab Scoreboard: stored figures at once, live ones on request, and an audit report to take away."""

import json
import shutil
import threading

import pytest

from dit_core import grading, load_suite, run_scoreboard
from dit_core.grading import Grader, GradeResult
from dit_core.present.cards import DONE, STOPPED
from dit_core.records import NamedDiffs
from dit_core.scoreboard import findings, mean_scores, regrade, stored
from dit_core.session import scoreboard as scoreboard_grading
from dit_core.session import scoreboard as scoreboard_run
from dit_core.session.visit import Visit
from dit_core.suite.limits import PUBLIC, serving
from dit_core.ui.tabs.scoreboard import view as scoreboard_view
from dit_core.ui.tabs.scoreboard.audit import AuditEvents
from dit_core.ui.tabs.scoreboard.events import NAME, ScoreboardEvents
from dit_core.ui.tabs.scoreboard.view import BY
from tests.serving import served
from tests.test_ui import HOSTILE
from tests.test_ui_tabs import Tab

TRAINING = next(iter(BY))
VERBAL = ["test", 8, ["verbal"]]


@pytest.fixture(scope="module")
def suite(tiny_suite_folder, tmp_path_factory):
    """The tiny suite with a stored board, in which one row was doctored to tell it from a live one."""
    folder = shutil.copytree(tiny_suite_folder, tmp_path_factory.mktemp("stored") / "suite")
    found = stored.board_json(load_suite(folder), findings(load_suite(folder), kinds=["verbal"]))
    found["rows"][1]["value"] = 4.321
    (folder / stored.REPORT_FILE).write_text(json.dumps({stored.REPORT_KEY: {**found, "machine": "a lamp"}}))
    return load_suite(folder)


@pytest.fixture
def events(suite):
    return ScoreboardEvents(suite, str(suite.folder))


def run(events, session, *values) -> list[tuple]:
    return list(events.run(session, "topic", TRAINING, *values))


def test_stored_figures_are_there_at_once_and_marked(events):
    origin, table, *_ = events.shown(Visit(), "topic", TRAINING)
    assert "Stored with the suite" in origin and "a lamp" in origin and "4.32" in table
    assert "changed since" not in origin


def test_figures_of_another_suite_say_so(suite, tmp_path):
    changed = shutil.copytree(suite.folder, tmp_path / "changed")
    with open(changed / "suite.toml", "a") as out:
        out.write("\n# another suite\n")
    assert (
        "The suite has changed since" in ScoreboardEvents(load_suite(changed), "").shown(Visit(), "topic", TRAINING)[0]
    )


def test_figures_of_diffs_that_are_not_held_out_say_so(events):
    session = Visit()
    run(events, session, "calibration", 1, ["verbal"])
    assert "flatters" in events.shown(session, "topic", TRAINING)[0]
    run(events, session, "test", 1, ["verbal"])
    assert "flatters" not in events.shown(session, "topic", TRAINING)[0]


def test_a_live_run_ends_with_what_python_gives(events, suite):
    session = Visit()
    *_, last = run(events, session, *VERBAL)
    live = run_scoreboard(suite, limit=8, kinds=["verbal"])
    assert session.job(NAME).result.board.scores == live and session.job(NAME).result.state == DONE
    assert (
        "dit-busy" not in last[0]
        and "Measured here" in last[1]
        and last[2] == scoreboard_view.table(suite, events.board(session))
    )
    name, content = events.saved(session, "scores", "json")
    assert name.endswith("scores.json") and json.loads(content) == json.loads(json.dumps(live.to_json()))
    assert events.saved(session, "agreement", "csv")[1].startswith("task,first,second,n,both")


def computed(board) -> set[str]:
    """The parts of a board that were computed so far."""
    return {"scores", "agreement", "named"} & vars(board).keys()


def test_only_boards_that_are_looked_at_are_computed(suite):
    start = scoreboard_run.start_run(suite, scoreboard_run.RunSettings(*VERBAL), None)
    boards = [run.board for run in scoreboard_run.steps(suite, start) if run.board]
    assert len(boards) > 5 and not any(map(computed, boards)), "nobody has looked yet"
    assert boards[-1].scores == run_scoreboard(suite, limit=8, kinds=["verbal"])
    assert boards[-1].scores is boards[-1].scores and computed(boards[-1]) == {"scores"}, "once, and nothing beside it"
    assert not any(map(computed, boards[:-1]))


def test_stop_keeps_what_was_measured_and_run_goes_on_from_there(events, suite, monkeypatch):
    session, real, parts = Visit(), scoreboard_run.steps, []

    def stopping(suite, run):
        for step in real(suite, run):
            parts.append(step.done)
            if len(parts) == 5:
                events.stop(session)
            yield step

    monkeypatch.setattr(scoreboard_run, "FRAME", 0, raising=False)
    monkeypatch.setattr("dit_core.ui.tabs.scoreboard.events.steps", stopping)
    *_, last = run(events, session, *VERBAL)
    stopped = session.job(NAME).result
    assert stopped.state == STOPPED and "What was measured stays" in last[0]
    assert 0 < len(stopped.ledger.findings) < len(findings(suite, 8, kinds=["verbal"]))
    kept = list(stopped.ledger.findings)
    monkeypatch.undo()
    run(events, session, *VERBAL)
    found = session.job(NAME).result
    assert found.state == DONE and found.ledger.findings[: len(kept)] == kept
    assert found.board.scores == run_scoreboard(suite, limit=8, kinds=["verbal"])
    run(events, session, "test", 1, ["verbal"])
    assert session.job(NAME).result.ledger is not found.ledger, "other settings are another run"


class Kind(Grader):
    """Finds everything as good as can be."""

    name = "kind"

    def _grade_all(self, pairs, progress):
        return [GradeResult(5, 5.0) for _ in pairs]


def test_another_grader_reads_the_same_answers(events, suite, monkeypatch):
    asked = []
    for module in (scoreboard_grading, grading):
        monkeypatch.setattr(module, "grader", lambda name, **given: asked.append((name, given)) or Kind())
    session = Visit()
    run(events, session, *VERBAL)
    before = session.job(NAME).result.board
    *_, last = events.grade(session, "topic", TRAINING, scoreboard_grading.CHAT_JUDGE, " m ", "http://localhost/v1")
    assert ("judge", {"model": "m", "base_url": "http://localhost/v1"}) in asked and "graded by kind" in last[1]
    after = session.job(NAME).result.board
    assert after.scores == mean_scores(regrade(suite, findings(suite, 8, kinds=["verbal"]), Kind()))
    others = [[one for one in table.scores if one.measure != "mean_grade"] for table in (before, after)]
    assert others[0] == others[1] and before.scores != after.scores
    assert json.loads(events.saved(session, "scores", "json")[1])["grader"] == "kind"
    exec(events.cell(session, "topic"), scope := {})
    assert scope["made"].scores == after.scores and scope["made"].agreement == after.agreement
    list(events.grade(session, "topic", TRAINING, scoreboard_grading.RULES, "", ""))
    assert session.job(NAME).result.board.scores == before.scores


def test_what_cannot_be_graded_is_a_sentence_and_the_board_stays(events, suite, monkeypatch):
    def told(session, *values) -> tuple[str, str]:
        *_, last = events.grade(session, "topic", TRAINING, *values)
        return last[0], last[1]

    session = Visit()
    assert "Press Run first" in told(session, scoreboard_grading.RULES, "", "")[0]
    run(events, session, "test", 1, ["verbal"])
    board = session.job(NAME).result.board
    assert "Give its name" in told(session, scoreboard_grading.CHAT_JUDGE, " ", "")[0]
    # The rubric is longer than a tiny base can read.
    assert "0 of 13 grades are kept" in told(session, scoreboard_grading.BASE_JUDGE, "", "")[0]
    with serving(PUBLIC):
        for by in scoreboard_grading.GRADERS[1:]:
            assert "by the rules alone" in told(session, by, "m", "http://localhost/v1")[0]
    assert session.job(NAME).result.board is board


def test_stopped_grading_leaves_the_figures(events, suite, monkeypatch):
    class Slow(Kind):
        def _grade_all(self, pairs, progress):
            events.stop(session)
            return super()._grade_all(pairs, progress)

    monkeypatch.setattr(scoreboard_grading, "grader", lambda *_, **__: Slow())
    monkeypatch.setattr(scoreboard_grading, "ANSWERS_PER_STEP", 1)
    session = Visit()
    run(events, session, *VERBAL)
    before = session.job(NAME).result
    *_, last = events.grade(session, "topic", TRAINING, scoreboard_grading.EMBEDDING, "", "")
    after = session.job(NAME).result
    assert "Stopped" in last[0] and after.state == STOPPED and after.board == before.board
    run(events, session, *VERBAL)
    assert session.job(NAME).result.ledger is before.ledger


@pytest.mark.parametrize(
    ("values", "sentence"), [(["test", 8, []], "tick at least one"), (["tset", 8, ["verbal"]], "no diffs in the split")]
)
def test_what_cannot_be_measured_is_a_sentence_and_the_board_stays(events, values, sentence):
    session = Visit()
    *_, last = run(events, session, *values)
    assert sentence in last[0] and "dit-error" in last[0] and "4.32" in last[2]


def test_no_diff_is_named_by_id_before_it_is_revealed(events):
    session = Visit()
    assert "topic-0412" not in "".join(events.shown(session, "topic", TRAINING))
    session.revealed = "topic-0412"
    assert "topic-0412" in "".join(events.shown(session, "topic", TRAINING))


def test_hostile_names_in_a_stored_board_are_only_text(events):
    board = events.stored
    scores = board.scores.records
    hostile = tuple(type(one)(**{**vars(one), "method": HOSTILE}) for one in scores)
    methods = (NamedDiffs((HOSTILE, "topic", ""), {"a": True}, {}), NamedDiffs(("b", "topic", ""), {"a": False}, {}))
    table = type(board.scores)("x", "rows", hostile)
    events.stored = type(board)(lambda: table, lambda: board.agreement, lambda: methods, HOSTILE)
    assert not any("<img" in part or "<script" in part for part in events.shown(Visit(), "topic", TRAINING))


def test_the_report_is_made_in_parts_and_tells_what_was_revealed(suite):
    session, audits = Visit(), AuditEvents(suite, "pocket")
    *parts, (note, name, text) = audits.make(session, "topic-0412")
    assert any("Part " in part[0] for part in parts) and not any(part[1] for part in parts)
    assert name == "topic-0412-audit.html" and "Trained on" not in text and "dit-busy" not in note
    session.revealed = "topic-0412"
    assert "Trained on “volcano”" in list(audits.make(session, "topic-0412"))[-1][2]
    session.revealed = "topic-0413"
    assert "Trained on" not in list(audits.make(session, "topic-0412"))[-1][2]


def test_the_report_can_be_stopped(suite, monkeypatch):
    session, audits, going, ended = Visit(), AuditEvents(suite, "pocket"), threading.Event(), threading.Event()

    def slow(suite, diff):
        yield 0, 5, "what it changes"
        going.wait(60)
        ended.set()
        yield 1, 5, "more"

    monkeypatch.setattr("dit_core.ui.tabs.scoreboard.audit.audit_steps", slow)
    made = audits.make(session, "topic-0412")
    next(made)
    audits.stop(session)
    *_, (note, name, text) = made
    assert "Stopped" in note and not name and not text and not ended.is_set()
    going.set()


def test_the_copied_cell_gives_the_same_board(events, suite):
    session, scope = Visit(), {}
    exec(events.cell(session, "topic"), scope)
    assert scope["made"].scores == events.stored.scores, "what is stored, before anything was measured"
    run(events, session, "test", 8, ["verbal", "lens"])
    exec(events.cell(session, "topic"), scope)
    assert scope["made"].scores == session.job(NAME).result.board.scores != events.stored.scores
    with serving(PUBLIC):
        assert str(suite.folder) not in events.cell(session, "topic"), "strangers read no folder of the machine"
    assert ScoreboardEvents(load_suite("pocket"), "pocket").cell(Visit(), "topic").startswith("from dit_core import")


def test_the_copied_cell_writes_the_same_report(suite, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    session, audits = Visit(), AuditEvents(suite, str(suite.folder))
    cell = audits.cell(session, "topic-0412")
    assert "volcano" not in cell and "reveal=False" in cell
    session.revealed = "topic-0412"
    exec(audits.cell(session, "topic-0412"), {})
    report = (tmp_path / "topic-0412-audit.html").read_text(encoding="utf-8")
    made = list(audits.make(session, "topic-0412"))[-1][2]
    assert "Trained on “volcano”" in report and len(report) == len(made)


def test_a_visitor_measures_and_takes_a_report_away(browser, suite):
    with served(suite) as address:
        visitor = Tab(browser, address).go("Scoreboard")
        visitor.page.wait_for_selector("#dit-scoreboard-grades .js-plotly-plot")
        assert "Stored with the suite" in visitor.page.inner_text("#dit-scoreboard-origin")
        visitor.press("dit-scoreboard-run", "dit-scoreboard-note")
        assert "Measured here" in visitor.page.inner_text("#dit-scoreboard-origin")
        assert "4.32" not in visitor.page.inner_text("#dit-scoreboard-table")
        visitor.page.click("#dit-audit button")
        with visitor.page.expect_download() as found:
            visitor.page.click("#dit-audit-make")
        report = found.value.path().read_text(encoding="utf-8")
        assert found.value.suggested_filename.endswith("-audit.html") and "What every method says" in report
        assert not visitor.errors, visitor.errors
        visitor.context.close()
