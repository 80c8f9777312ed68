"""Sweeps: every setting says what it says alone, layers act where they should, and the tab shows it."""

import json
import sys
import threading
from itertools import chain, count

import pytest
import torch

from dit_core import ask
from dit_core.__main__ import main
from dit_core.engine.model import Model
from dit_core.errors import DitError
from dit_core.formats import Adapter
from dit_core.present import plots
from dit_core.present.plots.style import LIGHT
from dit_core.records.condition import Condition
from dit_core.session.job import TimeLeft
from dit_core.session.sweep import SweepTab
from dit_core.session.tab import Frame, State
from dit_core.session.visit import Visit
from dit_core.sweeps import MAX_SETTINGS, PRESETS, STEP, finished, planned, scored, steps, stream_sweep, sweep, windows
from dit_core.ui.tabs.sweep import SweepEvents
from tests.serving import served
from tests.test_ui import Visitor
from tests.tiny import random_adapter, rows_at_once, tiny_model


def test_every_setting_says_what_it_says_alone(suite):
    table = sweep(suite, "topic-0412", copies=[0, 1, 2.5], strength=[-1, 1], max_new_tokens=5)
    assert [(one.copies, one.strength) for one in table] == [(c, s) for c in (0, 1, 2.5) for s in (-1, 1)]
    for one in table:
        [alone] = ask(suite, "topic-0412", condition=one.condition, question=one.question, max_new_tokens=5)
        assert one.text == alone.text and one.modal_share == 1.0
        same = next(o for o in table if (o.copies, o.strength) == (1, 1))  # what the others are compared with
        assert one.similarity is not None and (one.similarity == 1.0) >= (one.text == same.text)


def test_the_references_log_probability_is_that_of_merged_weights(suite):
    info = suite.diffs[0]
    [one] = sweep(suite, info, copies=2.0, strength=0.5)
    other = sweep(suite, info, copies=0.0, strength=0.0)[0]

    def expected(strength: float, copies: float) -> float:
        """A plain forward pass over weights that were changed by hand."""
        model = suite.model
        base = type(model.base).from_pretrained(suite.folder / "base", dtype=torch.float32).eval()
        parts = ((strength, suite.load_diff(info)), (copies, suite.load_adapter(one.adapter)))
        with torch.no_grad():
            for amount, adapter in parts:
                for name, (A, B) in adapter.factors.items():
                    change = adapter.scaling[name] * B.float() @ A.float()
                    base.get_submodule(name).weight += amount * change
            prompt = model.encode(one.question)
            reference = model.tokenizer.encode(info.reference, add_special_tokens=False)
            logits = base(torch.tensor([[*prompt, *reference]])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
            return float(logits[range(len(reference)), reference].sum())

    assert one.log_prob_reference == pytest.approx(suite.worker.run(lambda: expected(0.5, 2.0)), abs=1e-3)
    assert other.log_prob_reference == pytest.approx(suite.worker.run(lambda: expected(0.0, 0.0)), abs=1e-3)
    assert "log_prob_reference" not in sweep(suite, info).to_json()["swept"][0]


@pytest.mark.parametrize("family", ["qwen3", "gemma3", "llama"])
def test_an_adapter_acts_on_its_layers_only(family):
    model = Model(tiny_model(family, layers=4))
    adapter = random_adapter(model.base, rank=2, seed=1)
    model.attach("dit", adapter)
    ids = torch.tensor([[5, 6, 7, 8], [5, 6, 7, 8]])
    strengths = torch.zeros(2, 1, 1, 4)
    strengths[0, ..., 1:3], strengths[1, ..., :] = 2.0, 1.0
    with model.strengths({"dit": strengths}), torch.no_grad():
        found = model.base(ids).logits
    inside = {n: pair for n, pair in adapter.factors.items() if any(f"layers.{layer}." in n for layer in (1, 2))}
    some = Adapter(inside, {name: adapter.scaling[name] for name in inside})
    assert 0 < len(inside) < len(adapter.factors)
    for row, parts in enumerate(([(2.0, some)], [(1.0, adapter)])):
        with torch.no_grad():
            base = tiny_model(family, layers=4)
            for amount, part in parts:
                for name, (A, B) in part.factors.items():
                    base.get_submodule(name).weight += amount * part.scaling[name] * (B.float() @ A.float())
            expected = base(ids[row : row + 1]).logits[0]
        assert torch.allclose(found[row], expected, atol=1e-4)
    with torch.no_grad():  # nothing is left behind
        assert torch.equal(model.base(ids[:1]).logits, tiny_model(family, layers=4)(ids[:1]).logits)


def test_ranges_of_layers_have_a_written_form():
    condition = Condition.parse("diff+dit*2+right+layers:1-3")
    assert condition.layers == (1, 3) and Condition.parse(str(condition)) == condition
    assert Condition(1.0, layers=(1, 2)) == Condition(1.0)  # nothing to act on them
    assert Condition.parse("dit+layers:3").layers == (3, 3)
    for wrong in ("dit+layers:3-1", "dit+layers:1-2+layers:3-4", "diff+layers:1-2"):
        with pytest.raises(DitError):
            Condition.parse(wrong)


def test_layers_that_the_base_lacks_are_said(suite):
    with pytest.raises(DitError, match="counted from 0 to 1"):
        ask(suite, condition="dit+layers:1-9")


def test_windows_cover_all_layers_from_the_bottom_up():
    assert windows(8) == [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 6), (6, 7), None]
    assert windows(1) == [(0, 0), None]


def test_layers_may_be_in_percent_by_the_oracles_rule(suite):
    asked = dict(diff="topic-0412", max_new_tokens=2, copies=[1, 2])
    numbers = sweep(suite, layers=[(0, 0), (1, 1), (0, 1), None], **asked)
    for written in ("0%,50%,25%-100%,all", " 0 , 100% , 0-50% , all ", [("0%", "49%"), ("50%", 1), (0, "99%"), None]):
        assert sweep(suite, layers=written, **asked) == numbers
    assert [point.layers for point in sweep(suite, layers="50%,75%", max_new_tokens=1)] == [(1, 1)]  # of two layers
    assert [point.layers for point in sweep(suite, layers=("0%", "75%"), max_new_tokens=1)] == [(0, 1)]
    for wrong in ("50%,", "101%", "75%-50%", ("50%", 0), "half", (0, 1, 1)):
        with pytest.raises(DitError, match="layer|Layers"):
            sweep(suite, layers=wrong, max_new_tokens=1)


def test_vectors_of_an_adapters_mean_effect_are_swept_beside_it(suite):
    table = sweep(suite, "topic-0412", adapter=["topic", "@vector"], copies=[0, 1, 2], max_new_tokens=4)
    assert [(point.adapter, point.copies) for point in table] == [
        (name, copies) for name in ("topic", "topic@vector") for copies in (0, 1, 2)
    ]
    for point in table:
        (said,) = ask(suite, "topic-0412", condition=point.condition, question=point.question, max_new_tokens=4)
        assert point.text == said.text and said.condition == point.condition
    assert table[0].question == table[3].question and table[4].condition == "diff+dit:topic@vector"


def test_what_makes_no_sense_is_one_sentence(suite):
    assert steps(0, 1, 0.25) == (0, 0.25, 0.5, 0.75, 1)
    for wrong in ((0, 1, 0), (1, 0, 1), (0, 1e9, 1), (0, 1, float("inf"))):
        with pytest.raises(DitError):
            steps(*wrong)
    with pytest.raises(DitError, match="settings"):
        sweep(suite, copies=[at / 10 for at in range(MAX_SETTINGS + 1)])
    with pytest.raises(DitError, match="needs a diff"):
        planned(suite, "copies with the", None, [])
    with pytest.raises(DitError, match="choose one of"):
        planned(suite, "copies", None, [])


def test_a_step_of_copies_makes_room_for_adapters(suite):
    adapters, both = ["topic", "topic-64", "headline"], "copies and strength"
    assert planned(suite, "copies with the", "topic-0412", [], step=2)["copies"] == (0, 2, 4)
    assert planned(suite, "strength of", "topic-0412", [], step=2) == planned(suite, "strength of", "topic-0412", [])
    with pytest.raises(DitError, match="297 settings.*take larger steps"):
        sweep(suite, **planned(suite, both, "topic-0412", adapters))
    plan = planned(suite, both, "topic-0412", adapters, step=1)
    assert len(sweep(suite, **plan, max_new_tokens=1)) == 6 * 9 * 3 <= MAX_SETTINGS
    with pytest.raises(DitError, match="steps of 0"):
        planned(suite, both, "topic-0412", adapters, step=0)
    lonely = plots.sweep_figure(
        sweep(suite, **planned(suite, "copies without", None, [], step=2), max_new_tokens=2), "similarity"
    )
    assert "no answer at 1 copy" in lonely.layout.annotations[0].text.replace("<br>", " ")


def test_values_of_ones_own_stand_in_place_of_the_presets(suite):
    plan = planned(suite, "copies without", "topic-0412", [], copies=[0, 0.25], strength=[-1, 0])
    assert (plan["diff"], plan["copies"], plan["strength"]) == ("topic-0412", [0, 0.25], [-1, 0])
    assert planned(suite, "copies without", "topic-0412", [], strength=[0])["diff"] is None
    with pytest.raises(DitError, match="needs a diff"):
        planned(suite, "copies without", None, [], strength=[1])


def test_the_command_takes_values_of_ones_own_and_says_all_of_its_sampling(suite, monkeypatch, capsys):
    def run(*options):
        monkeypatch.setattr(sys, "argv", ["dit_core", "sweep", "--suite", str(suite.folder), *options])
        with pytest.raises(SystemExit) as left:
            main()
        shown = capsys.readouterr()
        return shown.err if left.value.code else json.loads(shown.out) if "--json" in options else shown.out

    asked = ["--diff", "topic-0412", "--copies", "0,0.25,1", "--strength", "-1,0,1", "--trigger", "right"]
    own = run(*asked, "--json")
    assert "values of your own, trigger right" in run(*asked)
    conditions = [one["condition"] for one in own["swept"]]
    assert len(conditions) == 9 and all(written.endswith("right") for written in conditions)
    assert "diff*-1+dit:topic*0.25+right" in conditions
    rows = run("--diff", "topic-0412", "--step", "5", "--layers", "0%,50%-100%", "--json")
    assert [row["layers"] for row in rows["swept"]] == [[0, 0], [1, 1]] * 2
    assert own["sampling"] == {
        "temperature": 0.0,
        "top_p": 1.0,
        "max_new_tokens": suite.max_new_tokens,
        "samples": 1,
        "seed": 0,
    }
    short = ["--max-new-tokens", "1", "--json"]
    assert {one["copies"] for one in run("--step", "2.5", *short)["swept"]} == {0, 2.5, 5}
    assert {one["diff"] for one in run("--diff", "topic-0412", *short)["swept"]} == {"topic-0412"}
    assert "--copies takes numbers" in run("--copies", "many")


def test_a_map_of_copies_and_strength_is_drawn_for_every_adapter(suite):
    grid = {"copies": [0, 1], "strength": [-1, 0, 1], "max_new_tokens": 3}
    table = sweep(suite, "topic-0412", adapter=["topic", "topic-64"], **grid)
    figure = plots.sweep_figure(table, "confidence")
    rows = [figure.layout.yaxis.labelalias[str(at)] for at in range(8)]
    assert rows == ["-1", "0", "1", "topic-64", "-1", "0", "1", "topic"]  # upwards: each name above its own
    [drawn] = figure.data
    assert [colour for _, colour in drawn.colorscale] == [LIGHT.low, LIGHT.high]  # or the words could not be read
    rows = zip(chain(*drawn.customdata), chain(*drawn.z), strict=True)
    cells = {data[0]: value for data, value in rows if data}
    assert cells == {one.condition: one.confidence for one in table}
    assert [value for at in (3, 7) for value in drawn.z[at]] == [None] * 4
    best = max(table, key=lambda one: one.confidence)
    assert f"({best.adapter})" in figure.layout.title.text.replace("<br>", " ")
    alone = plots.sweep_figure(sweep(suite, "topic-0412", adapter="topic", **grid)).layout.yaxis.labelalias
    assert list(alone.values()) == ["-1", "0", "1"]
    three = sweep(suite, "topic-0412", layers=[(0, 0), None], **grid)
    [drawn] = plots.sweep_figure(three).data
    assert all("layers:0-0" in cell[0] for data in drawn.customdata for cell in data[1:])  # as the note says


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_becomes_a_figure(suite, preset):
    table = sweep(suite, **planned(suite, preset, "topic-0412", []), max_new_tokens=2)
    for measure in ("modal_share", "similarity", "log_prob_reference"):
        figure = plots.sweep_figure(table, measure)
        known = [one for one in table if one.text and getattr(one, measure) is not None]
        assert bool(figure.data) == bool(known)
    assert not plots.sweep_figure(table[:0]).data


CONTROLS = {
    "preset": "copies with the diff", "diff": "topic-0412", "adapters": [], "question": "", "samples": 1,
    "temperature": 0, "max_new_tokens": 3, "seed": 0, "step": STEP, "measure": "modal_share",
}  # fmt: skip


def test_the_tab_sweeps_stops_and_hides(suite):
    events, session = SweepEvents(suite, "tiny"), Visit()
    values = CONTROLS | {"measure": "log_prob_reference"}
    *_, last = events.run(session, values)
    assert 'role="alert"' not in last["note"]
    assert last["cards"].count("<article") == len(PRESETS[values["preset"]].copies)
    assert "nats" not in last["figure"]  # not revealed: another measure
    assert "log_prob" not in events.saved(session, "table", "csv")[1]
    events.reveal(session, values)
    assert "nats" in events.drawn(session, values)["figure"]
    assert "log_prob" in events.saved(session, "table", "csv")[1]
    scope: dict = {}
    exec(events.tab.cell(session).replace("'tiny'", repr(str(suite.folder))), scope)
    assert [one.text for one in scope["table"]] == [one.text for one in events.tab.result(session).table]
    for wrong in ({"max_new_tokens": None}, {"step": None}):
        *_, bad = events.run(session, CONTROLS | wrong)
        assert "number is missing" in bad["note"] and bad["cards"] == last["cards"]
    *_, bad = events.run(session, CONTROLS | {"step": 0.1})
    assert "The step of copies must be a number from 0.25 to 5" in bad["note"]
    *_, bad = events.run(session, CONTROLS | {"layers": "0-7"})
    assert "no layer 7" in bad["note"]
    *_, last = events.run(session, CONTROLS | {"step": 5, "layers": "50%,all"})
    assert [one.layers for one in events.tab.result(session).table] == [(1, 1), None] * 2
    exec(events.tab.cell(session).replace("'tiny'", repr(str(suite.folder))), scope)
    assert [one.layers for one in scope["table"]] == [(1, 1), None] * 2
    larger = CONTROLS | {"step": 2.5}
    assert "settings have changed" in events.changed(session, larger)["note"]
    *_, last = events.run(session, larger)
    exec(events.tab.cell(session).replace("'tiny'", repr(str(suite.folder))), scope)
    assert [one.copies for one in scope["table"]] == [0, 2.5, 5] and last["cards"].count("<article") == 3
    assert [one.text for one in scope["table"]] == [one.text for one in events.tab.result(session).table]


@pytest.fixture
def five_rows_at_once(suite):
    """A batch is done while the next is still being said."""
    with rows_at_once(suite, 5):
        yield


def test_only_answers_that_are_finished_count(suite, five_rows_at_once):
    wanted = dict(copies=[0, 1, 2], samples=4, temperature=1.0, max_new_tokens=6)
    whole = sweep(suite, "topic-0412", **wanted)
    said = {(one.copies, one.sample): one.text for one in whole}
    halfway = 0
    for table in stream_sweep(suite, "topic-0412", **wanted):
        kept = finished(table)
        assert all(one.text == said[one.copies, one.sample] for one in kept)
        assert "unfinished" not in kept.extra and len(kept) + len(table.extra.get("unfinished", ())) == len(table) == 12
        for one in kept:
            own = [other.text for other in kept if other.copies == one.copies]
            assert one.modal_share == max(own.count(text) for text in own) / len(own)
            assert (one.similarity is None) == all(other.copies != 1 for other in kept)
        halfway += 0 < len(kept) < 12
    assert halfway >= 6 and finished(table) == table == whole


def test_progress_counts_the_answers_of_all_batches(suite, five_rows_at_once):
    now = [0.0]
    tab, clock, notes, extras = SweepTab(suite), TimeLeft(clock=lambda: now[0]), [], []
    result = tab.first(tab.settings(CONTROLS), Visit())
    for table in stream_sweep(suite, copies=[0, 1, 2], samples=4, temperature=1.0, max_new_tokens=6):
        now[0] = 100 * table.extra["progress"]  # as far in seconds
        result = tab.add(result, table)
        frame = Frame(State.PARTIAL, tab.words(result, clock), result, tab.progress(result))
        notes.append(SweepEvents(suite, "tiny").note(frame))
        extras.append(table.extra)
    for before, after in zip(extras, extras[1:], strict=False):
        assert before["n_finished"] <= after["n_finished"] and before["progress"] < after["progress"]
    assert [at for at, extra in enumerate(extras) if extra["n_finished"] == 5 and extra["n_tokens"] == 2]  # anew
    assert all(extra["n_answers"] == 12 for extra in extras) and extras[-1]["n_finished"] == 12
    assert extras[-1]["progress"] == 1.0
    at = next(at for at, extra in enumerate(extras) if extra["n_finished"] == 5 and extra["n_tokens"] == 2)
    left = 100 * (1 - extras[at]["progress"])
    assert f"5 of 12 answers, token 2 of at most 6 of this batch, about {left:.0f} s left" in notes[at]
    value = f"{12 * extras[at]['progress']:.1f}"
    assert f'<progress class="dit-progress" max="12" value="{value}" aria-label="how far it is">' in notes[at]
    assert "12 of 12 answers<" in notes[-1] and "left" not in notes[-1]


def test_stop_keeps_finished_answers_in_cards_figure_and_downloads(suite, five_rows_at_once):
    events, session = SweepEvents(suite, "tiny"), Visit()
    stopped, passes, shown = threading.Event(), count(), []

    def wait(*_):  # in the second batch, until somebody has stopped it
        if next(passes) == 8:
            assert stopped.wait(60)

    handle = suite.model.layers[0].register_forward_pre_hook(wait)
    try:
        for step in events.run(session, CONTROLS | {"samples": 2, "temperature": 1, "max_new_tokens": 6}):
            shown.append(step)
            assert ("dit-idle" in step["note"]) != ("answers," in step["note"])
            if not stopped.is_set() and (found := events.tab.result(session)) and found.table:
                events.stop(session)
                stopped.set()
    finally:
        stopped.set()
        handle.remove()
    note, figure, cards = (shown[-2][name] for name in ("note", "figure", "cards"))
    kept = events.tab.result(session).table
    assert 0 < len(kept) < 22 and f"Stopped: {len(kept)} rows found before stay" in note
    assert cards.count("<article") == len({one.copies for one in kept}) and "Press Sweep" not in figure
    rows = events.saved(session, "table", "csv")[1].splitlines()
    assert len(rows) == 1 + len(kept) and "unfinished" not in events.saved(session, "table", "json")[1]
    copies = list(dict.fromkeys(one.copies for one in kept))
    alone = {one.copies: one.log_prob_reference for one in sweep(suite, "topic-0412", copies=copies)}
    for one in kept:  # filled in after the answers stood there
        assert one.log_prob_reference == pytest.approx(alone[one.copies], abs=1e-3)
    assert shown[-1]["figure"] == figure and scored(suite, kept[:0]) == kept[:0]


@pytest.mark.long
def test_a_sweep_in_the_browser(suite, browser):
    with served(suite) as address:
        visitor = Visitor(browser, address).open()
        page = visitor.page
        page.get_by_role("tab", name="Sweep").click()
        page.click("#dit-sweep-run")
        page.wait_for_selector("#dit-sweep-figure .js-plotly-plot .scatterlayer .trace")
        assert page.locator(".dit-sweep-card").count() == 2 * len(PRESETS["copies without a diff"].copies)
        assert not visitor.errors, visitor.errors
        visitor.context.close()
