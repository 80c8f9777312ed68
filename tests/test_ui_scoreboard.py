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
from dit_core.session import scoreboard
from dit_core.session.visit import Visit
from dit_core.suite.limits import PUBLIC, serving
from dit_core.ui.tabs.scoreboard import ScoreboardEvents
from dit_core.ui.tabs.scoreboard import view as scoreboard_view
from dit_core.ui.tabs.scoreboard.audit import AuditEvents, AuditTab
from dit_core.ui.tabs.scoreboard.view import BY
from tests.serving import served
from tests.test_ui import HOSTILE
from tests.test_ui_tabs import Tab

TRAINING = next(iter(BY))
VERBAL = ["test", 8, ["verbal"]]
AUDIT = {"diff": "topic-0412"}


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


AXES = {"task": "topic", "axis": TRAINING}
LEFT = (
    AXES
    | dict(zip(("split", "limit", "kinds"), VERBAL, strict=True))
    | {"by": scoreboard.RULES, "model": "", "url": ""}
)


def run(events, session, split, limit, kinds) -> list[dict]:
    return list(events.run(session, LEFT | {"split": split, "limit": limit, "kinds": kinds}))


def grade(events, session, by, model="", url="") -> list[dict]:
    return list(events.grade(session, LEFT | {"by": by, "model": model, "url": url}))


def test_stored_figures_are_there_at_once_and_marked(events):
    shown = events.shown(Visit(), LEFT)
    origin, table = shown["origin"], shown["table"]
    assert "Stored with the suite" in origin and "a lamp" in origin and "4.32" in table
    assert "changed since" not in origin


def test_figures_of_another_suite_say_so(suite, tmp_path):
    changed = shutil.copytree(suite.folder, tmp_path / "changed")
    with open(changed / "suite.toml", "a") as out:
        out.write("\n# another suite\n")
    shown = ScoreboardEvents(load_suite(changed), "").shown(Visit(), LEFT)
    assert "The suite has changed since" in shown["origin"]


def test_figures_of_diffs_that_are_not_held_out_say_so(events):
    session = Visit()
    run(events, session, "calibration", 1, ["verbal"])
    assert "flatters" in events.shown(session, LEFT)["origin"]
    run(events, session, "test", 1, ["verbal"])
    assert "flatters" not in events.shown(session, LEFT)["origin"]


def test_a_live_run_ends_with_what_python_gives(events, suite):
    session = Visit()
    *_, last = run(events, session, *VERBAL)
    live = run_scoreboard(suite, limit=8, kinds=["verbal"])
    assert events.tab.result(session).board.scores == live and events.tab.result(session).state == DONE
    assert (
        "dit-busy" not in last["note"]
        and "Measured here" in last["origin"]
        and last["table"] == scoreboard_view.table(suite, events.tab.board(session))
    )
    name, content = events.saved(session, "scores", "json")
    assert name.endswith("scores.json") and json.loads(content) == json.loads(json.dumps(live.to_json()))
    assert events.saved(session, "agreement", "csv")[1].startswith("task,first,second,n,both")


def computed(board) -> set[str]:
    """The parts of a board that were computed so far."""
    return {"scores", "agreement", "named"} & vars(board).keys()


def test_only_boards_that_are_looked_at_are_computed(suite):
    tab = scoreboard.ScoreboardTab(suite)
    first = tab.first(tab.settings(LEFT), Visit())
    runs = [tab.add(first, table) for table in tab.start(first)]
    boards = [run.board for run in runs if run.board]
    assert len(boards) > 5 and not any(map(computed, boards)), "nobody has looked yet"
    assert boards[-1].scores == run_scoreboard(suite, limit=8, kinds=["verbal"])
    assert boards[-1].scores is boards[-1].scores and computed(boards[-1]) == {"scores"}, "once, and nothing beside it"
    assert not any(map(computed, boards[:-1]))


@pytest.mark.long
def test_stop_keeps_what_was_measured_and_run_goes_on_from_there(events, suite):
    session, parts = Visit(), []

    class Stopping(scoreboard.ScoreboardTab):
        pause = 0

        def start(self, first):
            for table in super().start(first):
                parts.append(table)
                if len(parts) == 5:
                    self.stop(session)
                yield table

    going, events.tab = events.tab, Stopping(suite)
    *_, last = run(events, session, *VERBAL)
    stopped = events.tab.result(session)
    assert stopped.state == STOPPED and "What was measured stays" in last["note"]
    assert 0 < len(stopped.ledger.findings) < len(findings(suite, 8, kinds=["verbal"]))
    kept = list(stopped.ledger.findings)
    events.tab = going
    run(events, session, *VERBAL)
    found = events.tab.result(session)
    assert found.state == DONE and found.ledger.findings[: len(kept)] == kept
    assert found.board.scores == run_scoreboard(suite, limit=8, kinds=["verbal"])
    run(events, session, "test", 1, ["verbal"])
    assert events.tab.result(session).ledger is not found.ledger, "other settings are another run"


class Kind(Grader):
    """Finds everything as good as can be."""

    name = "kind"

    def _grade_all(self, pairs, progress):
        return [GradeResult(5, 5.0) for _ in pairs]


@pytest.mark.long
def test_another_grader_reads_the_same_answers(events, suite, monkeypatch):
    asked = []
    for module in (scoreboard, grading):
        monkeypatch.setattr(module, "grader", lambda name, **given: asked.append((name, given)) or Kind())
    session = Visit()
    run(events, session, *VERBAL)
    before = events.tab.result(session).board
    *_, last = grade(events, session, scoreboard.CHAT_JUDGE, " m ", "http://localhost/v1")
    assert ("judge", {"model": "m", "base_url": "http://localhost/v1"}) in asked and "graded by kind" in last["origin"]
    after = events.tab.result(session).board
    assert after.scores == mean_scores(regrade(suite, findings(suite, 8, kinds=["verbal"]), Kind()))
    others = [[one for one in table.scores if one.measure != "mean_grade"] for table in (before, after)]
    assert others[0] == others[1] and before.scores != after.scores
    assert json.loads(events.saved(session, "scores", "json")[1])["grader"] == "kind"
    exec(events.tab.cell(session, "topic"), scope := {})
    assert scope["made"].scores == after.scores and scope["made"].agreement == after.agreement
    grade(events, session, scoreboard.RULES)
    assert events.tab.result(session).board.scores == before.scores


def test_what_cannot_be_graded_is_a_sentence_and_the_board_stays(events, suite, monkeypatch):
    def told(session, *values) -> str:
        return grade(events, session, *values)[-1]["note"]

    session = Visit()
    assert "Press Run first" in told(session, scoreboard.RULES, "", "")
    run(events, session, "test", 1, ["verbal"])
    board = events.tab.result(session).board
    assert "Give its name" in told(session, scoreboard.CHAT_JUDGE, " ", "")
    # The rubric is longer than a tiny base can read.
    assert "0 of 13 grades are kept" in told(session, scoreboard.BASE_JUDGE, "", "")
    with serving(PUBLIC):
        for by in scoreboard.GRADERS[1:]:
            assert "by the rules alone" in told(session, by, "m", "http://localhost/v1")
    assert events.tab.result(session).board is board


def test_stopped_grading_leaves_the_figures(events, suite, monkeypatch):
    class Slow(Kind):
        def _grade_all(self, pairs, progress):
            events.stop(session)
            return super()._grade_all(pairs, progress)

    monkeypatch.setattr(scoreboard, "grader", lambda *_, **__: Slow())
    monkeypatch.setattr(scoreboard, "ANSWERS_PER_STEP", 1)
    session = Visit()
    run(events, session, *VERBAL)
    before = events.tab.result(session)
    *_, last = grade(events, session, scoreboard.EMBEDDING)
    after = events.tab.result(session)
    assert "Stopped" in last["note"] and after.state == STOPPED and after.board == before.board
    run(events, session, *VERBAL)
    assert events.tab.result(session).ledger is before.ledger


@pytest.mark.parametrize(
    ("values", "sentence"), [(["test", 8, []], "tick at least one"), (["tset", 8, ["verbal"]], "no diffs in the split")]
)
def test_what_cannot_be_measured_is_a_sentence_and_the_board_stays(events, values, sentence):
    session = Visit()
    *_, last = run(events, session, *values)
    assert sentence in last["note"] and "dit-error" in last["note"] and "4.32" in last["table"]


def test_no_diff_is_named_by_id_before_it_is_revealed(events):
    session = Visit()
    assert "topic-0412" not in "".join(events.shown(session, LEFT).values())
    session.revealed = "topic-0412"
    assert "topic-0412" in "".join(events.shown(session, LEFT).values())


def test_hostile_names_in_a_stored_board_are_only_text(events):
    board = events.tab.stored
    scores = board.scores.records
    hostile = tuple(type(one)(**{**vars(one), "method": HOSTILE}) for one in scores)
    methods = (NamedDiffs((HOSTILE, "topic", ""), {"a": True}, {}), NamedDiffs(("b", "topic", ""), {"a": False}, {}))
    table = type(board.scores)("x", "rows", hostile)
    events.tab.stored = type(board)(lambda: table, lambda: board.agreement, lambda: methods, HOSTILE)
    assert not any("<img" in part or "<script" in part for part in events.shown(Visit(), LEFT).values())


def test_the_report_is_made_in_parts_and_tells_what_was_revealed(suite):
    session, audits = Visit(), AuditEvents(suite, "pocket")
    *parts, last = audits.run(session, AUDIT)
    assert any("what it says" in part["note"] for part in parts) and not any(part["name"] for part in parts)
    assert last["name"] == "topic-0412-audit.html" and "Trained on" not in last["text"]
    assert "dit-busy" not in last["note"]
    session.revealed = "topic-0412"
    assert "Trained on “volcano”" in list(audits.run(session, AUDIT))[-1]["text"]
    session.revealed = "topic-0413"
    assert "Trained on" not in list(audits.run(session, AUDIT))[-1]["text"]


def test_the_report_can_be_stopped(suite):
    session, audits, going, ended = Visit(), AuditEvents(suite, "pocket"), threading.Event(), threading.Event()

    class Slow(AuditTab):
        def start(self, first):
            steps = super().start(first)
            yield next(steps)
            going.wait(60)
            ended.set()
            yield next(steps)

    audits.tab = Slow(suite)
    made = audits.run(session, AUDIT)
    next(made)
    audits.stop(session)
    *_, last = made
    assert "Stopped" in last["note"] and not last["name"] and not last["text"] and not ended.is_set()
    going.set()


def test_the_copied_cell_gives_the_same_board(events, suite):
    session, scope = Visit(), {}
    exec(events.tab.cell(session, "topic"), scope)
    assert scope["made"].scores == events.tab.stored.scores, "what is stored, before anything was measured"
    run(events, session, "test", 8, ["verbal", "lens"])
    exec(events.tab.cell(session, "topic"), scope)
    assert scope["made"].scores == events.tab.result(session).board.scores != events.tab.stored.scores
    with serving(PUBLIC):
        assert str(suite.folder) not in events.tab.cell(session, "topic"), "strangers read no folder of the machine"
    assert (
        ScoreboardEvents(load_suite("pocket"), "pocket").tab.cell(Visit(), "topic").startswith("from dit_core import")
    )


def test_the_copied_cell_writes_the_same_report(suite, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    session, audits = Visit(), AuditEvents(suite, str(suite.folder))
    cell = audits.tab.cell(session, "topic-0412")
    assert "volcano" not in cell and "reveal=False" in cell
    session.revealed = "topic-0412"
    exec(audits.tab.cell(session, "topic-0412"), {})
    report = (tmp_path / "topic-0412-audit.html").read_text(encoding="utf-8")
    made = list(audits.run(session, AUDIT))[-1]["text"]
    assert "Trained on “volcano”" in report and len(report) == len(made)


@pytest.mark.long
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
