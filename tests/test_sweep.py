"""Sweeps: every setting says what it says alone, layers act where they should, and the tab shows it."""

import threading

import pytest
import torch

from dit_core import ask, plots, verbalize
from dit_core.conditions import Condition
from dit_core.errors import DitError
from dit_core.experiments.sweep import MOST, PRESETS, finished, planned, steps, stream_sweep, sweep, windows
from dit_core.formats import Adapter
from dit_core.model import Model
from dit_core.suite import load_suite
from dit_core.ui import sweep_events
from dit_core.ui.answering import Session
from dit_core.ui.sweep_events import SweepEvents
from tests.serving import served
from tests.test_ui import Visitor, browser  # noqa: F401 (a fixture)
from tests.tiny import random_adapter, tiny_model


@pytest.fixture(scope="module")
def suite(tiny_suite_folder):
    return load_suite(tiny_suite_folder)


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
    for wrong in ("dit+layers:3-1", "dit+layers:3", "dit+layers:1-2+layers:3-4", "diff+layers:1-2"):
        with pytest.raises(DitError):
            Condition.parse(wrong)


def test_layers_that_the_base_lacks_are_said(suite):
    with pytest.raises(DitError, match="layers 0 to 1"):
        ask(suite, condition="dit+layers:1-9")


def test_windows_cover_all_layers_from_the_bottom_up():
    assert windows(8) == [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 6), (6, 7), None]
    assert windows(1) == [(0, 0), None]


def test_what_makes_no_sense_is_one_sentence(suite):
    assert steps(0, 1, 0.25) == (0, 0.25, 0.5, 0.75, 1)
    for wrong in ((0, 1, 0), (1, 0, 1), (0, 1e9, 1)):
        with pytest.raises(DitError):
            steps(*wrong)
    with pytest.raises(DitError, match="settings"):
        sweep(suite, copies=[at / 10 for at in range(MOST + 1)])
    with pytest.raises(DitError, match="needs a diff"):
        planned(suite, "copies with the", None, [])
    with pytest.raises(DitError, match="choose one of"):
        planned(suite, "copies", None, [])


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_becomes_a_figure(suite, preset):
    table = sweep(suite, **planned(suite, preset, "topic-0412", []), max_new_tokens=2)
    for measure in ("modal_share", "similarity", "log_prob_reference"):
        figure = plots.swept(table, measure)
        known = [one for one in table if one.text and getattr(one, measure) is not None]
        assert bool(figure.data) == bool(known)
    assert not plots.swept(table[:0]).data


def test_the_tab_sweeps_stops_and_hides(suite):
    events, session = SweepEvents(suite, "tiny"), Session()
    values = ["copies with the diff", "topic-0412", [], "", 1, 0, 3, 0]
    *_, last = events.run(session, "log_prob_reference", *values)
    assert 'role="alert"' not in last[0] and last[2].count("<article") == len(PRESETS[values[0]].copies)
    assert "nats" not in last[1]  # not revealed: another measure
    events.reveal(session, "topic-0412", "modal_share")
    assert "nats" in events.drawn(session, "log_prob_reference")
    assert "log_prob" not in events.saved(session, "sweep", "csv")[1]
    scope: dict = {}
    exec(events.cell(session).replace("'tiny'", repr(str(suite.folder))), scope)
    assert [one.text for one in scope["table"]] == [one.text for one in session.work("sweep").found.table]
    [bad] = events.run(session, "modal_share", *values[:6], None, 0)
    assert "number is missing" in bad[0] and bad[2] == last[2]


def test_only_answers_that_are_finished_count(suite, monkeypatch):
    monkeypatch.setattr(verbalize, "MAX_ROWS", 5)  # a batch is done while the next is still being said
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


def test_stop_keeps_finished_answers_in_cards_figure_and_downloads(suite, monkeypatch):
    events, session, real = SweepEvents(suite, "tiny"), Session(), sweep_events.stream_sweep
    looked_at = threading.Event()
    monkeypatch.setattr(verbalize, "MAX_ROWS", 5)

    def stopping(*given, **options):
        for at, table in enumerate(real(*given, **options)):
            yield table
            if at == 7:
                looked_at.wait(20)
                events.stop(session)

    monkeypatch.setattr(sweep_events, "stream_sweep", stopping)
    shown = []
    for step in events.run(session, "modal_share", "copies with the", "topic-0412", [], "", 2, 1, 6, 0):
        shown.append(step)
        if (found := session.work("sweep").found) and found.table:
            looked_at.set()
    note, figure, cards = shown[-1]
    kept = session.work("sweep").found.table
    assert 0 < len(kept) < 22 and f"Stopped: {len(kept)} answers were finished" in note
    assert cards.count("<article") == len({one.copies for one in kept}) and "Press Sweep" not in figure
    rows = events.saved(session, "sweep", "csv")[1].splitlines()
    assert len(rows) == 1 + len(kept) and "unfinished" not in events.saved(session, "sweep", "json")[1]


def test_a_sweep_in_the_browser(suite, browser):  # noqa: F811
    with served(suite) as address:
        visitor = Visitor(browser, address).open()
        page = visitor.page
        page.get_by_role("tab", name="Sweep").click()
        page.click("#dit-sweep-run")
        page.wait_for_selector("#dit-sweep-figure .js-plotly-plot .scatterlayer .trace")
        assert page.locator(".dit-sweep-card").count() == 2 * len(PRESETS["copies without a diff"].copies)
        assert not visitor.errors, visitor.errors
        visitor.context.close()
