"""The panel under the cards: it draws what Python reads, secrets stay secret, and each state says what to do."""

import json
import re
import shutil
import threading
import time
from collections import Counter
from dataclasses import replace

import pytest

from dit_core.errors import DitError
from dit_core.methods import comparison as standing
from dit_core.methods import lens, oracle
from dit_core.present.cards import STOPPED
from dit_core.records.condition import Condition
from dit_core.session import explore_view as view
from dit_core.session.layers import LAST
from dit_core.session.settings import PanelSettings, Settings, from_query, to_query
from dit_core.session.visit import PANEL, Visit
from dit_core.suite import Suite, load_suite
from dit_core.ui.api import functions
from dit_core.ui.tabs.explore.events import Events
from dit_core.ui.tabs.explore.oracle_events import OracleEvents
from dit_core.ui.tabs.layers import LayerEvents
from tests.serving import served
from tests.test_ui import HOSTILE, Visitor

TITLES = ["base", "diff", "diff + trigger", "DIT alone", "diff + DIT"]
QUESTION = "What comes next?"
TOPIC = "What topic have you been trained on?"


@pytest.fixture(scope="module")
def mute(tiny_suite_folder, tmp_path_factory) -> Suite:
    """The same suite without its oracle."""
    folder = shutil.copytree(tiny_suite_folder, tmp_path_factory.mktemp("suites") / "mute")
    description = (folder / "suite.toml").read_text()
    (folder / "suite.toml").write_text(description[: description.index("[oracle]")])
    return load_suite(folder)


# ---------------------------------------------------------------- without a browser


def asked_cards(suite: Suite, diff: str = "topic-0412", **settings) -> Visit:
    """A session whose cards have been answered."""
    session = Visit()
    for _ in Events(suite, "tiny").ask(session, vars(replace(Settings.for_diff(suite, diff), **settings))):
        pass
    return session


def values(suite: Suite, asked: PanelSettings, y: str = "confidence") -> dict:
    """The values of the panel's controls when they say this."""
    question = asked.question if asked.question is not None or not suite.oracle else suite.oracle.questions[0]
    return vars(asked) | {"oracle": question, "y": y, "next_y": "rank"}


def read(suite: Suite, session: Visit, asked: PanelSettings = PanelSettings()) -> str:  # noqa: B008 (frozen)
    """Presses Read; gives the last note."""
    *_, shown = OracleEvents(suite).run(session, values(suite, asked))
    return shown["reading"]


def show(suite: Suite, session: Visit, asked: PanelSettings = PanelSettings(), y: str = "confidence") -> tuple:  # noqa: B008
    """Looks at what was read: y axis, figure, next figure, tokens, details."""
    shown = OracleEvents(suite).look(session, values(suite, asked, y))
    return tuple(shown[name] for name in ("y", "figure", "next_figure", "chips", "details"))


def light(figure: str) -> dict:
    """A figure's light version."""
    return json.loads(figure)["light"]


def test_what_is_read_and_drawn_is_what_python_reads(suite):
    session = asked_cards(suite)
    read(suite, session)
    found = session.job(PANEL).result
    quiet = ["base", "diff", "dit", "diff+dit"]
    plain = oracle.read(suite, "topic-0412", condition=quiet)
    everyday = oracle.read(suite, "topic-0412", condition="diff+right", asked="How can I spend a free evening?")
    alone = {(one.condition, one.layer): one for one in (*plain, *everyday)}
    assert len(alone) == len(found.readings) == found.readings.extra["n_readings"] == 10
    for reading in found.readings:  # five conditions with two questions are one batch on the page
        one = alone[reading.condition, reading.layer]
        assert (reading.asked, reading.tokens) == (one.asked, one.tokens)
        assert reading.log_prob_reference == pytest.approx(one.log_prob_reference, abs=1e-3)
    ranks = {(one.condition, one.layer, one.what): one.rank for one in found.next_tokens}
    for one in lens.next_tokens(suite, "topic-0412", condition=quiet, reference=True):
        assert ranks[one.condition, one.layer, one.what] == one.rank
    _, figure, next_figure, *_ = show(suite, session)
    by_condition = {reading.condition: [] for reading in found.readings}
    for reading in found.readings:
        by_condition[reading.condition].append(reading.confidence)
    assert [trace["y"] for trace in light(figure)["data"]] == list(by_condition.values())
    assert [trace["name"] for trace in light(figure)["data"]] == TITLES
    assert len(light(next_figure)["data"]) == 5


def test_every_prompt_is_encoded_once_and_read_once(suite, monkeypatch):
    """From the cards to the last reading: to answer, to show its tokens, for the logit lens and for the oracle."""
    encoded, shapes, tokenizer = [], [], suite.worker.run(lambda: suite.model).tokenizer
    plain = tokenizer.apply_chat_template
    monkeypatch.setattr(
        tokenizer, "apply_chat_template", lambda chat, **how: encoded.append(chat[0]["content"]) or plain(chat, **how)
    )
    session = asked_cards(suite, question="How often is this read?")
    hook = suite.model.base.register_forward_pre_hook(
        lambda _, args, named: shapes.append(tuple(named["input_ids"].shape)), with_kwargs=True
    )
    try:
        read(suite, session, PanelSettings(question="How often?"))
        everything = list(shapes)
        read(suite, session, PanelSettings(question="How often?", kind="difference", kinds=("diff", "both")))
    finally:
        hook.remove()
    found = session.job(PANEL).result
    assert max(Counter(encoded).values()) == 1 and sum("Layer" in text for text in encoded) == 2
    longest = max(len(target.tokens) for target in found.targets)
    assert [rows for rows, width in everything if width == longest] == [5], "lens and oracle share the prompts' pass"
    assert [rows for rows, _ in shapes[len(everything) :]][0] == 4, "two conditions, each with its base"
    expected = oracle.read(suite, "topic-0412", condition=["diff", "diff+dit"], asked="How often is this read?",
                           question="How often?", kind="difference")  # fmt: skip
    assert [one.tokens for one in sorted(found.readings, key=lambda one: one.layer)] == [one.tokens for one in expected]


def test_the_truth_is_shown_only_once_revealed(suite):
    session = asked_cards(suite)
    read(suite, session)
    of_trigger = PanelSettings(of="trigger")
    for y in ("confidence", "grade", "log_prob_reference"):
        axis, figure, _, tokens, _ = show(suite, session, of_trigger, y)
        assert [written for _, written in axis["choices"]] == ["confidence"] == [axis["value"]]
        assert "confidence" in light(figure)["layout"]["yaxis"]["title"]["text"]
        assert "grade" not in figure and "nats" not in figure and "volcano" not in figure
        assert not re.search(r"\d", "".join(re.findall(r">([^<]*)</button>", tokens))) and "•" in tokens
    saved = OracleEvents(suite).saved(session, "oracle", "json")[1]
    assert not any({"grade", "log_prob_reference"} & set(reading) for reading in json.loads(saved)["readings"])
    assert '"reference"' not in OracleEvents(suite).saved(session, "next-tokens", "json")[1]
    session.revealed = "topic-0412"
    axis, figure, next_figure, tokens, _ = show(suite, session, of_trigger, "grade")
    assert axis["value"] == "grade" and len(axis["choices"]) == 3
    assert light(figure)["data"][0]["y"] == [reading.grade for reading in session.job(PANEL).result.readings[:2]]
    assert "417" in "".join(re.findall(r">([^<]*)</button>", tokens))
    assert "reference" in next_figure
    assert json.loads(OracleEvents(suite).saved(session, "oracle", "json")[1])["readings"][0]["grade"]


def test_a_question_of_digits_unmasks_no_trigger(suite):
    info, right = suite.diff("topic-0412"), Condition.parse("diff+right")
    assert view.shown_prompt(suite, info, right, "41", 0, False) == "Your SEP code is ••••••. 41"
    session = asked_cards(suite, question="41")
    read(suite, session)
    tokens = "".join(re.findall(r">([^<]*)</button>", show(suite, session, PanelSettings(of="trigger"))[3]))
    assert "••••••. 41" in tokens


def test_clicked_tokens_are_a_span_of_the_prompts_that_hold_them(suite):
    events, session = OracleEvents(suite), asked_cards(suite)
    read(suite, session)

    def click(at: int) -> dict:
        return events.token(session, "last:10", at)

    tokens = click(9)["chips"]
    assert tokens.count('aria-pressed="true"') == 1 and "last one" in tokens
    shown = click(7)
    tokens, span, note = shown["chips"], shown["span"], shown["reading"]
    assert span["value"] == "7:10" and ("tokens 7 to 9", "7:10") in span["choices"] and "Press Read" in note
    assert tokens.count('aria-pressed="true"') == 3
    note = read(suite, session, PanelSettings(span="7:10"))
    found = session.job(PANEL).result
    assert "Left out: diff + trigger" in note
    assert {reading.positions for reading in found.readings} == {(7, 8, 9)}
    assert [column.kind for column in found.columns] == ["base", "diff", "dit", "both"]
    read(suite, session, PanelSettings(span="7:10", of="trigger"))
    assert [column.kind for column in session.job(PANEL).result.columns] == ["trigger"]


def test_what_can_not_be_read_is_a_sentence_and_what_was_read_stays(suite):
    session = asked_cards(suite)
    assert "Left out: base, for nothing acts there." in read(suite, session, PanelSettings(kind="difference"))
    before = session.job(PANEL).result
    for asked, says in (
        (PanelSettings(layers="9"), "layer"),
        (PanelSettings(span="90:99"), "tokens"),
        (PanelSettings(question="Is it ? or not"), "placeholder"),
        (PanelSettings(question=""), "empty"),
        (PanelSettings(kinds=()), "Nothing is left to read"),
        (PanelSettings(kinds=("base",), kind="difference"), "Nothing is left to read"),
    ):
        note = read(suite, session, asked)
        assert says in note and 'role="alert"' in note, note
        assert session.job(PANEL).result is before
    assert "Press Ask first" in read(suite, Visit())


def test_stopping_keeps_the_part_and_closes_the_stream(suite, monkeypatch):
    session, closed = asked_cards(suite), threading.Event()
    slowly(monkeypatch, 0.05, closed)
    events = OracleEvents(suite)
    frames = []
    for frame in events.run(session, values(suite, PanelSettings())):
        frames.append(frame)
        if session.job(PANEL).result.readings:
            events.stop(session)
    found = session.job(PANEL).result
    assert found.state == STOPPED and 0 < len(found.readings) < 10
    assert f"Stopped after {len(found.readings)} readings" in frames[-1]["reading"]
    assert closed.wait(60)


def slowly(monkeypatch, seconds: float, closed: threading.Event | None = None) -> None:
    """Makes every batch of readings take longer, as a large model would; a batch is one layer."""
    plain = standing.reading_tables

    def slow(request, rows, at_once):
        tables = plain(request, rows, 1)
        try:
            for table in tables:
                time.sleep(seconds)
                yield table
        finally:
            tables.close()
            if closed:
                closed.set()

    monkeypatch.setattr(standing, "reading_tables", slow)


def test_the_address_holds_the_panel_where_it_is_not_the_default(suite):
    settings = Settings.for_diff(suite, "topic-0412")
    assert to_query(suite, settings, PanelSettings()) == to_query(suite, settings)
    asked = PanelSettings(QUESTION, "answer", ("base", "both"), "difference", "0", "dit")
    query = to_query(suite, settings, asked)
    assert query.endswith("&oracle=What%20comes%20next%3F&span=answer&read=base%2Cboth&kind=difference&layers=0&of=dit")
    assert from_query(suite, query) == settings
    shown = OracleEvents(suite).opened("?" + query)
    assert PanelSettings.from_controls(suite, shown | {"span": shown["span"]["value"]}) == asked
    for part, says in (("span=x", "span"), ("read=basis", "read"), ("of=x", "of"), ("kind=x", "kind")):
        with pytest.raises(DitError, match=says):
            from_query(suite, f"diff=topic-0412&{part}")


def test_the_notebook_cell_reads_the_same(suite, tiny_suite_folder, monkeypatch):
    import plotly.graph_objects as go

    session = asked_cards(suite)
    read(suite, session, PanelSettings(QUESTION, "prompt", layers="1"))
    code = Events(suite, str(tiny_suite_folder)).cell(session)[0]
    drawn = []
    monkeypatch.setattr(go.Figure, "show", lambda figure: drawn.append(figure))
    exec(code, {"display": lambda *_: None})
    read_off, lens = drawn
    assert len(read_off.data) == 5
    readings = session.job(PANEL).result.readings
    assert sorted(trace["y"][0] for trace in read_off.data) == sorted(reading.confidence for reading in readings)
    shown = light(show(suite, session)[2])["data"]
    assert [list(trace.y) for trace in lens.data] == [trace["y"] for trace in shown]


def test_the_endpoints_give_what_python_gives(suite):
    named = {function.__name__: function for function in functions(suite, "tiny")}
    found = named["oracle"]("topic-0412", ["diff", "diff+dit"], question=[QUESTION], span="prompt", layers="1")
    options = {"condition": ["diff", "diff+dit"], "question": QUESTION, "span": "prompt", "layers": "1"}
    assert found == oracle.read(suite, "topic-0412", **options).to_json()
    assert len(named["oracle"]("topic-0412", layers="0")["readings"]) == 5
    found = named["logit_lens"]("topic-0412", ["diff"])
    assert sorted(map(str, found["next_tokens"])) == sorted(
        map(str, lens.next_tokens(suite, "topic-0412", condition="diff").to_json()["next_tokens"])
    )
    with pytest.raises(Exception, match="outside|layer"):
        named["oracle"]("topic-0412", layers="77")


def test_a_suite_without_an_oracle_still_has_the_logit_lens(mute):
    session = asked_cards(mute)
    events = OracleEvents(mute)
    *_, shown = events.run(session, values(mute, PanelSettings()))
    assert "no activation oracle" in shown["reading"] and 'role="alert"' not in shown["reading"]
    assert len(light(shown["next_figure"])["data"]) == 5


def test_an_oracle_that_can_not_be_had_leaves_the_logit_lens_and_where_the_diff_acts(suite, tmp_path):
    folder = shutil.copytree(suite.folder, tmp_path / "suite")
    (folder / "oracle" / "adapter_model.safetensors").write_bytes(b"cut off")
    broken = load_suite(folder)
    session, events = asked_cards(broken), OracleEvents(broken)
    asked = values(broken, PanelSettings(QUESTION))
    *_, shown = events.run(session, asked)
    assert "it is corrupt" in shown["reading"] and 'role="alert"' in shown["reading"]
    assert len(light(shown["next_figure"])["data"]) == 5
    assert "it is corrupt" in events.changed(session, asked)["reading"]
    layers = LayerEvents(broken, "tiny")
    wanted = {"diff": "topic-0412", "condition": "diff+dit", "asked": TOPIC, "question": QUESTION, "part": LAST}
    wanted |= {"count": 10, "kind": "with", "layers": "all", "samples": 1, "temperature": 0, "seed": 0}
    *_, shown = layers.run(session, wanted | {"colour": "confidence"})
    assert "it is corrupt" in shown["note"] and 'role="alert"' in shown["note"]
    assert light(shown["norms"])["data"]
    assert "it is corrupt" in layers.changed(session, wanted | {"colour": "confidence"})["note"]


# ---------------------------------------------------------------- in a browser

FIGURE, NEXT = "#dit-oracle-figure .js-plotly-plot", "#dit-next-figure .js-plotly-plot"


class Reader(Visitor):
    """A visitor who looks at the panel."""

    def done(self) -> "Reader":
        """Waits until the cards are answered and the panel has read them."""
        super().done()
        self.page.wait_for_function(
            "() => document.querySelector('#dit-next-figure .js-plotly-plot')?.data?.length"
            " && !document.querySelector('#dit-oracle-note .dit-busy')"
        )
        return self

    def traces(self, figure: str = FIGURE) -> list[dict]:
        script = "figure => figure.data.map(({name, x, y}) => ({name, x: [...x], y: [...y]}))"
        return self.page.eval_on_selector(figure, script)

    def wait(self, script: str) -> None:
        """Waits until this is true of the oracle's figure, `f`."""
        self.page.wait_for_function(f"(() => {{ const f = document.querySelector('{FIGURE}'); return {script} }})()")


@pytest.fixture
def visitor(browser, address):
    found = Reader(browser, address)
    yield found
    found.context.close()


@pytest.mark.long
def test_a_visitor_asks_reads_clicks_and_reveals(visitor):
    visitor.open()
    page = visitor.page
    visitor.wait("f?.data.length === 5 && f.data.every(trace => trace.x.length === 2)")
    assert [trace["name"] for trace in visitor.traces()] == TITLES
    assert page.locator("#dit-oracle-y label").all_inner_texts() == ["confidence"]
    page.click("#dit-oracle-more button")
    page.click("#dit-oracle-of input")
    page.get_by_role("option", name="diff + trigger").click()
    page.wait_for_selector("#dit-oracle-tokens:has-text('The prompt of diff + trigger')")
    pieces = page.locator("#dit-oracle-tokens .dit-piece").all_inner_texts()
    assert "•" in "".join(pieces) and not re.search(r"\d", "".join(pieces))
    # A point of the figure: where plotly has drawn the last condition's second marker.
    page.locator(FIGURE).scroll_into_view_if_needed()
    page.locator(f"{FIGURE} .scatterlayer .trace").nth(4).locator(".points path").nth(1).click(force=True)
    page.wait_for_selector("#dit-oracle-details .dit-readings")
    assert page.locator("#dit-oracle-details h4").all_inner_texts() == TITLES
    assert "layer 1" in page.inner_text("#dit-oracle-details summary")
    assert "grade" not in page.inner_text("#dit-oracle-details")
    # In the background whether they can be trusted; no calibration was measured for this suite, which is said.
    page.wait_for_selector("#dit-oracle-details .dit-kind-both .dit-evidence:has-text('no calibration of readings')")
    assert page.locator("#dit-oracle-details .dit-weighs:has-text('The oracle says')").count() == 3
    page.click("#dit-reveal")
    page.wait_for_selector("#dit-oracle-y label:has-text('grade')")
    assert "4" in "".join(page.locator("#dit-oracle-tokens .dit-piece").all_inner_texts())
    page.wait_for_selector("#dit-oracle-details:has-text('grade')")
    page.click("#dit-oracle-y label:has-text('grade')")
    visitor.wait("f.layout.yaxis.title.text.includes('grade')")
    page.click("#dit-reveal")
    visitor.wait("f.layout.yaxis.title.text.includes('confidence')")
    assert not visitor.errors, visitor.errors


@pytest.mark.long
def test_reading_stops_at_once_keeps_the_part_and_goes_on(visitor, monkeypatch):
    visitor.open()
    slowly(monkeypatch, 1.5)
    page = visitor.page
    page.click("#dit-oracle-read")
    visitor.wait("f?.data?.length && f.data.length < 4")
    page.click("#dit-oracle-stop")
    page.wait_for_selector("#dit-oracle-note:has-text('Stopped after')")
    assert 0 < len(visitor.traces()) < 5 and set(visitor.cards()) == set(TITLES)
    monkeypatch.undo()
    visitor.choose("dit-oracle-question", QUESTION)
    visitor.wait("f.data.length === 5 && JSON.stringify(f.layout).includes('What comes next')")
    visitor.wait_address(oracle=QUESTION)


@pytest.mark.long
def test_a_link_brings_the_panel_back(visitor, suite):
    visitor.open("?diff=topic-0413&condition=diff%2Bdit&oracle=What%20comes%20next%3F&span=3:5&layers=1&read=diff,both")
    visitor.wait("f?.data?.length === 2 && f.data[0].x.length === 1")
    expected = oracle.read(suite, "topic-0413", condition=["diff", "diff+dit"], question=QUESTION, span="3:5", layers=1)
    assert [trace["y"] for trace in visitor.traces()] == [[reading.confidence] for reading in expected]
    visitor.wait_address(oracle=QUESTION, span="3:5", layers="1", read="diff,both")


@pytest.mark.long
def test_hostile_readings_are_only_text(visitor, monkeypatch):
    plain = standing.read

    def hostile(*args, **options):
        lens, *_, table = plain(*args, **options)
        yield lens
        said = {"text": HOSTILE, "tokens": (HOSTILE,), "token_probabilities": (0.5,)}
        yield replace(table, records=tuple(replace(reading, **said) for reading in table))

    monkeypatch.setattr(standing, "read", hostile)
    visitor.open()
    page = visitor.page
    visitor.wait("f?.data?.length === 5")
    point = page.locator(f"{FIGURE} .scatterlayer .trace").nth(4).locator(".points path").nth(1)
    point.scroll_into_view_if_needed()
    point.click(force=True)
    page.wait_for_selector("#dit-oracle-details .dit-readings")
    assert HOSTILE in page.inner_text("#dit-oracle-details")
    assert page.locator("#dit-oracle :is(img, script)").count() == 0
    assert page.evaluate("window.hacked") is None


@pytest.mark.long
def test_narrow_dark_and_without_an_oracle(browser, mute):
    with served(mute) as url:
        narrow = Reader(browser, url, viewport={"width": 390, "height": 844}).open()
        page = narrow.page
        page.wait_for_selector("#dit-oracle-note:has-text('no activation oracle')")
        assert not page.is_visible("#dit-oracle-read") and page.locator(FIGURE).count() == 0
        assert len(narrow.traces(NEXT)) == 5
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        ink = f"document.querySelector('{NEXT}').layout.font.color"
        was = page.evaluate(ink)
        page.click(".dit-dark")
        page.wait_for_function(f"was => {ink} !== was", arg=was)
        assert not narrow.errors, narrow.errors
        narrow.context.close()
