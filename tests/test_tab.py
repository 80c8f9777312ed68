"""The tab protocol: every state is reached, and what a visitor found is theirs until something else runs."""

import json
import threading
from dataclasses import dataclass, replace

import pytest

from dit_core.engine.worker import Worker
from dit_core.errors import DitError
from dit_core.records import LensToken, Reading, Table
from dit_core.session.job import QueuePosition, TimeLeft
from dit_core.session.tab import Frame, Result, State, Tab, named_fields
from dit_core.session.visit import Visit
from dit_core.ui.tabs import TabEvents


class Suite:
    """As much of a suite as a tab needs."""

    name = "tiny"

    def __init__(self) -> None:
        self.worker = Worker()


@dataclass(frozen=True)
class Count:
    """How many rows to find about a diff, and after how many of them it breaks."""

    rows: int = 3
    breaks: int = -1
    diff: str = "topic-0412"
    layers: tuple[int, ...] = ()


@dataclass(frozen=True)
class Counted(Result[Count]):
    table: Table[Reading] | None = None


class CountTab(Tab[Count, Counted]):
    """Finds one row after another, each once somebody lets it."""

    name, button, settings_type, result_type = "count", "Count", Count, Counted
    idle, pause = "Press Count.", 0

    def __init__(self, suite: Suite) -> None:
        super().__init__(suite)
        self.go_on = threading.Semaphore(0)
        self.closed = threading.Event()

    def end(self):
        """Let everything go on that waits."""
        self.go_on.release(100)

    def start(self, first):
        if first.settings.rows < 0:
            raise DitError("Less than nothing can't be found: give another number.")
        return self._found(first.settings)

    def _found(self, settings):
        try:
            for at in range(settings.rows + 1):
                if at == settings.breaks:
                    raise DitError("It broke.")
                if at:
                    yield table(at)
                    assert self.go_on.acquire(timeout=60)
        finally:
            self.closed.set()

    def progress(self, result):
        return (len(result.table), result.settings.rows) if result.table else (0, 0)


def table(rows: int) -> Table[Reading]:
    about = {"diff": "topic-0412", "condition": "diff", "asked": "Why?", "question": "What?", "layer": 1}
    about |= {"depth_percent": 50.0, "positions": (3,), "kind": "with", "sample": 0, "seed": 0}
    said = {"text": "volcano", "tokens": ("volcano",), "token_probabilities": (0.5,), "confidence": 0.5}
    record = Reading(**about, **said, grade=5, log_prob_reference=-1.5)
    return Table("tiny", "readings", (record,) * rows)


@pytest.fixture
def tab():
    tab = CountTab(Suite())
    yield tab
    tab.end()


def run(tab, visit, settings=Count()) -> list[Frame]:
    """All frames of a run that nobody holds up."""
    frames = []
    for frame in tab.run(visit, settings):
        frames.append(frame)
        if frame.state is State.PARTIAL:
            tab.go_on.release()
    return frames


def test_a_run_goes_from_empty_over_partial_to_done(tab):
    visit = Visit()
    assert tab.frame(visit, Count()) == Frame(State.EMPTY, "Press Count.", None)
    frames = run(tab, visit)
    assert [frame.state for frame in frames] == [State.RUNNING, *[State.PARTIAL] * 3, State.DONE]
    assert [len(frame.result.table or ()) for frame in frames] == [0, 1, 2, 3, 3]
    assert [frame.kind for frame in frames] == [*["busy"] * 4, "note"]
    assert frames[0].note == "Working…" and frames[1].note.startswith("1 of 3") and frames[-1].note == ""
    assert [frame.progress for frame in frames] == [(0, 0), (1, 3), (2, 3), (3, 3), (0, 0)]
    assert tab.frame(visit, Count()) == frames[-1] and tab.result(visit).table == table(3)


def test_how_long_it_may_take_is_told(tab):
    now = [0.0]
    clock, result = TimeLeft(clock=lambda: now[0]), Counted(Count(rows=50), table=table(10))
    assert tab.words(result, clock) == "10 of 50…"
    now[0] = 4.0
    assert tab.words(Counted(Count(rows=50), table=table(30)), clock) == "30 of 50, about 4 s left"


def test_a_stop_is_at_once_and_keeps_what_was_found(tab):
    visit, states = Visit(), []
    for frame in tab.run(visit, Count()):
        states.append(frame.state)
        if frame.state is State.PARTIAL:
            tab.stop(visit)  # while the next row is still being made
            assert not tab.closed.is_set()
    assert states == [State.RUNNING, State.PARTIAL, State.STOPPED]
    assert frame.note == "Stopped: 1 row found before stays." and frame.kind == "note"
    assert tab.result(visit).table == table(1) and tab.frame(visit, Count()) == frame
    tab.go_on.release()
    assert tab.closed.wait(60), "and then the work ends too"


def test_a_failure_before_anything_is_found_leaves_what_was_there(tab):
    visit = Visit()
    assert run(tab, visit, Count(breaks=0))[-1] == Frame(State.FAILED, "It broke.", None)
    run(tab, visit)
    before = tab.result(visit)
    for wrong, why in ((Count(rows=-1), "Less than nothing"), (Count(breaks=0), "It broke.")):
        *_, last = run(tab, visit, wrong)
        assert last.state is State.FAILED and last.kind == "error" and why in last.note
        assert last.result is before and tab.result(visit) is before
    assert tab.frame(visit, Count()).state is State.DONE


def test_a_failure_on_the_way_keeps_what_was_found_and_says_so_again(tab):
    visit = Visit()
    run(tab, visit)
    broken = Count(breaks=2)
    *_, last = run(tab, visit, broken)
    assert last.state is State.FAILED and last.note == "It broke." and last.result.table == table(1)
    assert tab.frame(visit, broken) == last


def test_a_fault_of_the_program_is_an_excuse_and_not_its_words(tab):
    tab.progress = lambda result: 1 / 0
    *_, last = tab.run(Visit(), Count())
    assert last.state is State.FAILED and "inside the program" in last.note and "division" not in last.note


def test_what_a_visitor_changes_meanwhile_can_be_kept(tab):
    @dataclass(frozen=True)
    class Marked(Counted):
        mark: str = ""

    tab.result_type = Marked
    tab.add = lambda result, found: replace(result, table=found, mark=result.mark)
    visit = Visit()
    for frame in tab.run(visit, Count()):
        if frame.state is State.PARTIAL:
            tab.job(visit).result = replace(tab.result(visit), mark="clicked")
            tab.go_on.release()
    assert frame.result.mark == "clicked" and len(frame.result.table) == 3


def test_a_second_run_ends_the_first_silently(tab):
    visit, first, second = Visit(), [], []
    for frame in tab.run(visit, Count()):
        first.append(frame.state)
        if frame.state is State.PARTIAL:
            tab.go_on.release(3)  # all that the first may still find
            second = run(tab, visit, Count(rows=2))
    assert first == [State.RUNNING, State.PARTIAL]
    assert second[-1].state is State.DONE and tab.result(visit) is second[-1].result
    assert len(tab.result(visit).table) == 2


def test_a_run_that_fails_at_once_ends_the_one_before_which_counts_as_stopped(tab):
    visit = Visit()
    for frame in tab.run(visit, Count()):
        if frame.state is State.PARTIAL:
            *_, failed = tab.run(visit, Count(rows=-1))
    assert failed.result.state is State.STOPPED and tab.result(visit).table == table(1)
    assert "1 row found before" in tab.frame(visit, Count()).note


def test_visitors_see_only_their_own(tab):
    visit, other = Visit(), Visit()
    run(tab, visit)
    assert tab.result(other) is None and tab.frame(other).state is State.EMPTY
    states = []
    for frame in tab.run(other, Count(rows=2)):
        states.append(frame.state)
        tab.stop(visit)
        tab.go_on.release()
    assert states[-1] is State.DONE


def test_the_place_in_the_queue_is_told(tab):
    held = threading.Event()

    class Queue(Worker):
        """Two are before the visitor, then one, then nobody."""

        places = [2, 2, 1]

        def jobs_ahead(self, client):
            if self.places:
                return self.places.pop(0)
            held.set()
            return 0

    class Waiting(CountTab):
        def start(self, first):
            assert held.wait(60)
            yield table(1)

    suite = Suite()
    suite.worker = Queue()
    frames = list(Waiting(suite).run(Visit(), Count()))
    assert [frame.state for frame in frames[:3]] == [State.RUNNING, State.QUEUED, State.QUEUED]
    assert [frame.note for frame in frames[1:3]] == [str(QueuePosition(2)), str(QueuePosition(1))]
    assert frames[1].kind == "busy" and frames[-1].state is State.DONE


def test_other_settings_than_those_of_the_result_are_told(tab):
    visit = Visit()
    run(tab, visit)
    stale = tab.frame(visit, Count(rows=4))
    assert stale.note == "The settings have changed since: press Count." and stale.result == tab.result(visit)
    tab.clear(visit)
    assert tab.frame(visit, Count(rows=4)).state is State.EMPTY


def test_settings_are_made_of_controls_by_name(tab):
    values = {"diff": "headline-0017", "rows": 2, "layers": [1, 2], "colour": "no setting"}
    assert tab.settings(values) == Count(rows=2, diff="headline-0017", layers=(1, 2))
    assert named_fields(LensToken, {"token": "x", "y": 1}) == {"token": "x"}


def test_a_file_tells_the_truth_only_where_it_is_revealed(tab):
    visit = Visit()
    assert tab.file(visit, "table", "csv") == ("", "")
    run(tab, visit, Count(rows=1))
    name, content = tab.file(visit, "table", "csv")
    assert name == "topic-0412-readings.csv" and content == table(1).to_csv() and "grade" not in content
    visit.revealed = "topic-0413"
    assert not tab.revealed(visit) and "grade" not in tab.file(visit, "table", "csv")[1]
    visit.revealed = "topic-0412"
    name, content = tab.file(visit, "table", "json")
    assert name == "topic-0412-readings.json" and json.loads(content)["readings"][0]["grade"] == 5
    assert tab.file(visit, "secrets", "csv") == ("", "")


def test_what_runs_leaves_nothing_on_the_page_that_it_does_not_name(tab):
    class Events(TabEvents):
        def show(self, visit, values, frame):
            return {"rows": len(frame.result.table or ()) if frame.result else 0}

    events, visit = Events(tab), Visit()
    shown = []
    for named in events.run(visit, {"rows": 1, "diff": "topic-0412"}):
        shown.append(named)
        tab.go_on.release()
    assert all(named.keys() == {"note", "rows"} for named in shown) and shown[-1]["rows"] == 1
    assert "dit-busy" in shown[0]["note"] and "dit-busy" not in shown[-1]["note"]
    assert "press Count" in events.changed(visit, {"rows": 2})["note"] and events.changed(Visit(), {"rows": 2}) == {}
