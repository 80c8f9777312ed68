"""The tabs Layers and Lens: they show what Python gives, secrets stay secret, and each state says what to do."""

import csv
import io
import json
import shutil
import threading
from dataclasses import replace

import pytest
from plotly.graph_objs import Figure

from dit_core.methods import lens, oracle
from dit_core.methods.lens.steering import STRENGTHS
from dit_core.present.cards import DONE, RUNNING, steered_html
from dit_core.present.plots import as_json
from dit_core.present.plots.charts import Axis, Cell, cells
from dit_core.records import SteeredText, Target
from dit_core.session import layers as layer_reading
from dit_core.session.job import TimeLeft
from dit_core.session.layers import ANSWER, LAST, PROMPT, LayerTab
from dit_core.session.lens import MIDDLE
from dit_core.session.readings import shown_target, target_of
from dit_core.session.visit import Visit
from dit_core.suite import Suite, load_suite
from dit_core.ui.api import functions
from dit_core.ui.tabs.layers import LayerEvents
from dit_core.ui.tabs.lens import LensEvents
from tests.serving import served
from tests.test_ui import HOSTILE, TOPIC, Visitor

EVENING = "How can I spend a free evening?"


class Tab(Visitor):
    """A visitor who has gone to a tab."""

    def go(self, tab: str, query: str = "") -> "Tab":
        self.page.goto(self.address + query)
        self.page.wait_for_selector("#dit-heading .dit-question")
        return self.turn(tab)

    def turn(self, tab: str) -> "Tab":
        """Goes to another tab of the page."""
        self.page.get_by_role("tab", name=tab).click()
        self.page.wait_for_selector(f"#dit-{tab.lower()}", state="visible")
        return self

    def press(self, button: str, note: str) -> "Tab":
        """Presses a button and waits until its note says that nothing runs any more."""
        self.page.evaluate("id => document.querySelector(`#${id} .dit-note`).dataset.old = 1", note)
        self.page.click(f"#{button}")
        self.page.wait_for_selector(f"#{note} .dit-note:not(.dit-busy):not([data-old])", state="attached")
        return self

    def read(self) -> "Tab":
        return self.press("dit-layers-read", "dit-layers-note")

    def figure(self, box: str) -> dict:
        """The first trace of a figure, as plotly has it, once it is drawn."""
        trace = "document.querySelector(`#${box} .js-plotly-plot`)?.data?.[0]"
        self.page.wait_for_function(f"box => {trace}?.z", arg=box)
        return self.page.evaluate(f"box => (({{z, name}}) => ({{z, title: name}}))({trace})", box)

    def sentence(self, box: str) -> str:
        """What a figure says that has nothing to draw."""
        return self.words(box, ".annotation-text")

    def words(self, box: str, inside: str = "svg.main-svg") -> str:
        """The text in a figure."""
        self.page.wait_for_selector(f"#{box} {inside}", state="attached")
        return " ".join(self.page.locator(f"#{box} {inside}").all_text_contents())

    def saved(self, button: str) -> str:
        with self.page.expect_download() as found:
            self.page.click(f"#{button}")
        return found.value.path().read_text()


@pytest.fixture
def visitor(browser, address):
    found = Tab(browser, address)
    yield found
    assert not found.errors, found.errors
    found.context.close()


@pytest.fixture(scope="module")
def opened(browser, address):
    """One visitor whom several tests go on with, in the order of this file: a page takes seconds to open."""
    found = Tab(browser, address).go("Layers")
    yield found
    assert not found.errors, found.errors
    found.context.close()


def values(suite: Suite, **changed) -> dict:
    """The Layers tab's controls as a visitor meets them, but for what is `changed`."""
    plain = {"diff": "topic-0412", "condition": "diff+dit", "asked": TOPIC, "question": suite.oracle.questions[0]}
    plain |= {"part": LAST, "count": 10, "kind": "with", "layers": "all", "samples": 1, "temperature": 0, "seed": 0}
    return plain | {"colour": "confidence"} | changed


LOOK = {"diff": "topic-0412", "positions": 3, "top": 2, "method": "patchscope", "position": 1}
STEER = LOOK | {"layer": MIDDLE, "prompt": EVENING, "strengths": (0.0, 1.0), "max_new_tokens": 8, "samples": 1}
STEER |= {"temperature": 0.0, "seed": 0}


# -------------------------------------------------------------------- what a visitor may see


@pytest.mark.parametrize("condition", ["diff+right", "diff+wrong"])
def test_trigger_digits_are_masked_but_not_those_of_question_and_answer(suite, condition):
    from dit_core.records.condition import Condition

    info, asked = suite.diff("topic-0412"), "Is 7 a prime?"
    target = target_of(suite, info, Condition.parse(condition), asked)
    target = replace(target, tokens=(*target.tokens, "4", "2"))
    masked = "".join(shown_target(target, open_now=False).tokens)
    assert "Your SEP code is ••••••. Is 7 a prime?" in masked and masked.endswith("42")
    assert shown_target(target, open_now=True) == target
    assert len(shown_target(target, open_now=False).tokens) == len(target.tokens)


def test_all_digits_are_masked_where_the_question_is_not_found():
    target = Target("topic-0412", "diff+right", "1 + 1?", 3, ("code 4", "17", "1 +"))
    assert shown_target(target, open_now=False).tokens == ("code •", "••", "• +")


def test_own_triggers_are_nobodys_secret():
    target = Target("topic-0412", "diff+own:123", "Why?", 2, ("123 ", "Why?"))
    assert shown_target(target, open_now=False) is target


# -------------------------------------------------------------------- Layers


@pytest.mark.long
def test_the_map_is_what_the_oracle_read_and_a_click_shows_it_in_full(opened, suite):
    visitor, page = opened, opened.page
    assert "Press Read" in visitor.sentence("dit-layers-map")
    visitor.read()
    expected = oracle.read(suite, "topic-0412", condition="diff+dit", span="each:last:10")
    by_layer = [[r.confidence for r in expected if r.layer == layer] for layer in range(2)]
    assert visitor.figure("dit-layers-map")["z"] == [pytest.approx(row) for row in by_layer]
    ratios = lens.norms(suite, "topic-0412", condition="diff+dit")
    found = visitor.figure("dit-layers-norms")["z"]
    assert found == [pytest.approx([n.ratio for n in ratios if n.layer == layer]) for layer in range(2)]

    cell = page.locator("#dit-layers-map .nsewdrag").bounding_box()
    page.mouse.click(cell["x"] + 0.25 * cell["width"], cell["y"] + 0.25 * cell["height"])  # third token, upper layer
    page.wait_for_selector("#dit-layers-cell .dit-said")
    clicked = [r for r in expected if r.layer == 1][2]
    assert page.inner_text("#dit-layers-cell .dit-said") == clicked.text
    assert f"token {clicked.positions[0]}" in page.inner_text("#dit-layers-cell h3")
    assert json.loads(visitor.saved("dit-save-norms-json")) == ratios.to_json()


def test_truth_is_hidden_until_reveal_in_any_tab(opened, suite):
    visitor, page = opened, opened.page
    visitor.choose("dit-layers-condition", "diff + trigger")
    page.click("#dit-layers-part label:has-text('whole prompt')")
    visitor.read()
    assert "•" in visitor.words("dit-layers-map") and "•" in visitor.words("dit-layers-norms")
    shown = page.inner_text("#dit-layers") + visitor.words("dit-layers-map")
    assert not {"4", "1", "7"} & {label.strip() for label in page.locator("#dit-layers-map .xtick").all_text_contents()}
    assert "volcano" not in shown and page.locator("#dit-layers-colour label").count() == 2
    rows = list(csv.DictReader(io.StringIO(visitor.saved("dit-save-readings-csv"))))
    assert len(rows) > 20 and not {"grade", "log_prob_reference"} & set(rows[0])

    page.click("#dit-layers-reveal")
    page.wait_for_selector("#dit-layers-secret:has-text('volcano')")
    page.click("#dit-layers-colour label:has-text('trained on')")
    page.wait_for_selector("#dit-layers-map:has-text('grade')")
    assert "•" not in visitor.words("dit-layers-norms")
    rows = list(csv.DictReader(io.StringIO(visitor.saved("dit-save-readings-csv"))))
    assert all(row["grade"] and row["log_prob_reference"] for row in rows)

    page.get_by_role("tab", name="Explore").click()
    page.wait_for_selector("#dit-secret:has-text('volcano')")
    page.click("#dit-reveal")
    page.wait_for_selector("#dit-secret:has-text('topic hidden')")
    page.get_by_role("tab", name="Layers").click()
    page.wait_for_selector("#dit-layers-secret:has-text('topic hidden')")
    page.wait_for_selector("#dit-layers-colour:not(:has-text('trained on'))")
    page.wait_for_function("() => document.querySelector('#dit-layers-norms').textContent.includes('•')")


def test_a_colour_says_how_far_the_oracle_agrees_with_what_the_model_says(suite, monkeypatch):
    session, events = Visit(), LayerEvents(suite, "pocket")
    chosen = values(suite, colour="what the model says")
    *_, last = events.run(session, chosen)
    figure = json.loads(last["heat"])["light"]
    assert figure["data"][0]["zmax"] == 1 and "share of its words" in figure["data"][0]["name"]
    found = session.job("layers").result
    words = "".join(found.target.tokens[found.target.prompt_tokens :]).split()[0]
    echo = [replace(r, text=words if r.layer == 0 else "zzz") for r in found.readings]
    session.job("layers").result = replace(found, readings=replace(found.readings, records=tuple(echo)))
    data = json.loads(events.recolour(session, chosen)["heat"])["light"]["data"][0]
    assert set(data["z"][0]) == {1.0} and set(data["z"][1]) == {0.0}


def test_the_copied_cells_give_the_same(suite, monkeypatch):
    session, shown = Visit(), []
    monkeypatch.setattr(Figure, "show", lambda figure: shown.append(as_json(figure)))
    layers, looking = LayerEvents(suite, str(suite.folder)), LensEvents(suite, str(suite.folder))
    look, steer = looking.tab, looking.steering.tab
    assert not layers.tab.cell(session) and not look.cell(session, "logit lens", 0) and not steer.cell(session)
    *_, read = layers.run(session, values(suite))
    exec(layers.tab.cell(session), {})
    *_, seen = looking.run(session, LOOK)
    exec(look.cell(session, "patchscope", 1), {})
    assert len(shown) == 4
    for figure, drawn in zip(shown, (read["norms"], read["heat"], seen["words"], seen["cosine"]), strict=True):
        assert json.loads(figure)["data"] == json.loads(drawn)["light"]["data"]
    [*_] = looking.steering.run(session, STEER)
    scope: dict = {}
    exec(steer.cell(session).replace("steer(\n", "found = steer(\n"), scope)
    assert [*scope["found"].text] == [one.text for one in session.job("steer").result.steered]


@pytest.mark.long
def test_the_explore_tabs_diff_comes_along_and_another_ones_reading_does_not_stay(visitor, suite):
    visitor.go("Layers", "?diff=headline-0017")
    page = visitor.page
    page.wait_for_function("() => document.querySelector('#dit-layers-diff input').value.startsWith('headline-0017')")
    assert page.input_value("#dit-layers-asked input") == suite.tasks["headline"].question
    visitor.read()
    visitor.figure("dit-layers-map")
    visitor.choose("dit-layers-diff", "topic-0413")
    page.wait_for_selector("#dit-layers-map:has-text('Press Read')")
    page.wait_for_function("t => document.querySelector('#dit-layers-asked input').value === t", arg=TOPIC)
    page.get_by_role("tab", name="Explore").click()
    page.get_by_role("tab", name="Layers").click()
    page.wait_for_timeout(300)
    assert page.input_value("#dit-layers-diff input") == "topic-0413"  # chosen here since


@pytest.mark.long
def test_long_labels_and_headings_leave_room_for_the_cells(opened):
    visitor, page = opened.read(), opened.page
    visitor.figure("dit-layers-map")
    x, y = Axis("Token of the prompt", ["W" * 14] * 60), Axis("Layer", ["0"])
    drawn = cells({(0, 0): Cell(1, "")}, x, y, "word " * 60, "note " * 99, False, bar={"title": "bar"}, limits=(0, 1))
    newly = """async (json) => {
        const place = document.body.appendChild(document.createElement('div'));
        await Plotly.newPlot(place, JSON.parse(json));
        return place._fullLayout._size.h;
    }"""
    assert page.evaluate(newly, as_json(drawn)) >= 20


@pytest.mark.long
def test_changed_settings_and_errors_are_said_and_what_was_read_stays(opened):
    visitor, page = opened.read(), opened.page
    before = visitor.figure("dit-layers-map")["z"]
    page.click("#dit-layers .label-wrap")

    def layers(text: str) -> None:
        page.fill("#dit-layers-which :is(input, textarea)", text)
        page.wait_for_selector("#dit-layers-note:has-text('press Read')")

    layers("7")
    visitor.read()
    assert "7" in page.inner_text("#dit-layers-note [role=alert]")
    assert visitor.figure("dit-layers-map")["z"] == before
    layers("1")
    visitor.read()
    assert page.locator("#dit-layers [role=alert]").count() == 0
    page.wait_for_function(
        "() => document.querySelector('#dit-layers-map .js-plotly-plot').data[0]?.z?.[0][0] === null"
    )
    assert visitor.figure("dit-layers-map")["z"][1] == before[1]
    layers("all")


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"asked": " "}, "empty"),
        ({"question": ""}, "empty"),
        ({"condition": "diff+nonsense"}, "not understood"),
        ({"count": 40}, "outside of the prompt"),
        ({"count": None}, "number is missing"),
        ({"samples": 2}, "temperature"),
        ({"condition": "base", "kind": "difference"}, "."),
        ({"question": "What is ? ? ?"}, "."),
    ],
)
def test_bad_input_is_one_sentence(suite, changed, says):
    *_, last = LayerEvents(suite, "pocket").run(Visit(), values(suite, **changed))
    assert 'role="alert"' in last["note"] and says in last["note"] and "inside the program" not in last["note"]


def test_stop_works_at_once_and_keeps_the_rows_that_are_there(opened, monkeypatch):
    plain, go_on, closed = oracle.stream, threading.Event(), threading.Event()

    def slow(*args, **kwargs):
        tables = plain(*args, **kwargs)
        try:
            for table in tables:
                yield table
                go_on.wait(60)
        finally:
            tables.close()
            closed.set()

    monkeypatch.setattr(layer_reading.oracle, "stream", slow)
    visitor, page = opened, opened.page
    page.click("#dit-layers-part label:has-text('the last tokens')")
    page.click("#dit-layers-read")
    page.wait_for_selector("#dit-layers-note:has-text('Reading 10 of 20')")
    page.click("#dit-layers-stop")
    page.wait_for_selector("#dit-layers-note:has-text('Stopped after 10 readings')")  # the layer above never came
    page.wait_for_function("document.querySelector('#dit-layers-map .js-plotly-plot').data[0].z[0].length === 10")
    rows = visitor.figure("dit-layers-map")["z"]
    assert all(value is not None for value in rows[0]) and set(rows[1]) == {None}
    go_on.set()
    assert closed.wait(60)


def test_spans_and_arguments_of_the_left_side(suite):
    tab = LayerTab(suite)
    assert tab.settings(values(suite)).span == "each:last:10"
    assert tab.settings(values(suite, part=PROMPT)).span == "each:prompt"
    wanted = tab.settings(values(suite, part=ANSWER, samples=2, temperature=1.0))
    assert wanted.span == "each:answer"
    *_, found = tab.start(tab.first(wanted, Visit()))
    read = {"samples": 2, "temperature": 1.0, "span": "each:answer", "condition": "diff+dit"}
    assert found.readings.records == oracle.read(suite, "topic-0412", **read).records


def test_time_left_is_said(suite):
    from dit_core.records import Table

    now, tab = [0.0], LayerTab(suite)
    table = Table("s", "readings", tuple(range(10)), {"n_readings": 50})
    clock, result = TimeLeft(clock=lambda: now[0]), tab.first(tab.settings(values(suite)), Visit())
    result = replace(result, norms=table, readings=table)
    assert tab.words(result, clock) == "Reading 10 of 50…"
    now[0] = 4.0
    result = replace(result, readings=replace(table, records=tuple(range(30))))
    assert tab.words(result, clock) == "Reading 30 of 50, about 4 s left"


@pytest.mark.long
def test_without_an_oracle_the_rest_works(browser, suite, tmp_path):
    folder = shutil.copytree(suite.folder, tmp_path / "suite")
    text = (folder / "suite.toml").read_text()
    (folder / "suite.toml").write_text(text[: text.index("[oracle]")])
    with served(load_suite(folder)) as url:
        visitor = Tab(browser, url).go("Layers")
        page = visitor.page
        assert "no activation oracle" in page.inner_text("#dit-layers-note")
        assert not page.is_visible("#dit-layers-map") and not page.is_visible("#dit-layers-question")
        visitor.read()
        assert "no activation oracle" in page.inner_text("#dit-layers-note")
        expected = lens.norms(suite, "topic-0412", condition="diff+dit")
        assert visitor.figure("dit-layers-norms")["z"][0] == pytest.approx([n.ratio for n in expected if not n.layer])
        assert not visitor.errors, visitor.errors
        visitor.context.close()


# -------------------------------------------------------------------- Lens


@pytest.mark.long
def test_the_words_are_those_of_the_lens_by_method_and_position(opened, suite):
    visitor, page = opened.turn("Lens"), opened.page
    assert "Press Look" in visitor.sentence("dit-lens-words")
    visitor.press("dit-lens-look", "dit-lens-note")
    expected = lens.difference_lens(suite, "topic-0412")

    def weights(method: str, position: int) -> list:
        rows = [t for t in expected if (t.method, t.position) == (method, position)]
        return [pytest.approx([t.weight for t in rows if t.layer == layer]) for layer in range(2)]

    assert visitor.figure("dit-lens-words")["z"] == weights("logit lens", 0)
    page.click("#dit-lens-method label:has-text('patchscope')")
    page.click("#dit-lens-position label:has-text('3')")
    page.wait_for_function("() => /Patchscope.*token 3/.test(document.querySelector('#dit-lens-words').textContent)")
    assert visitor.figure("dit-lens-words")["z"] == weights("patchscope", 3)
    cosines = visitor.figure("dit-lens-cosine")["z"]
    assert len(cosines) == 10 and all(row[at] == pytest.approx(1) for at, row in enumerate(cosines))
    assert json.loads(visitor.saved("dit-save-tokens-json")) == expected.to_json()
    assert visitor.saved("dit-save-similarities-csv") == lens.similarities(suite, "topic-0412").to_csv()


@pytest.mark.long
def test_steered_texts_stand_side_by_side(opened, suite):
    visitor, page = opened.turn("Lens"), opened.page
    visitor.press("dit-lens-look", "dit-lens-note")
    page.click("#dit-steer-layer input")
    assert page.locator("#dit-steer-layer [role=option]").all_inner_texts()[1:] == ["0 · 0 % deep", "1 · 50 % deep"]
    page.click("#dit-steer-layer [role=option]:has-text('0 · 0 % deep')")
    visitor.number("dit-steer-1", -3)
    visitor.choose("dit-steer-prompt", "Why?")
    visitor.press("dit-steer", "dit-steer-note")
    strengths = [page.input_value(f"#dit-steer-{at} input[type=number]") for at in range(len(STRENGTHS))]
    expected = lens.steer(suite, "topic-0412", layer=0, strengths=list(map(float, strengths)), prompt="Why?")
    assert page.locator("#dit-steer-texts .dit-text").all_inner_texts() == [s.text for s in expected]
    assert page.locator("#dit-steer-texts h3").all_inner_texts()[:2] == ["strength 0", "strength −3"]
    assert json.loads(visitor.saved("dit-save-steered-json")) == expected.to_json()
    visitor.number("dit-steer-1", 3)
    page.wait_for_selector("#dit-steer-note:has-text('press Steer')")


def test_looking_and_steering_are_stopped_at_once_and_errors_are_said(suite, monkeypatch):
    session, events, plain = Visit(), LensEvents(suite, "pocket"), lens.difference_lens
    started, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def held(*args, **options):
        started.set()
        go_on.wait(60)
        ended.set()
        return plain(*args, **options)

    monkeypatch.setattr(lens, "difference_lens", held)
    running = events.run(session, LOOK)
    assert "dit-busy" in next(running)["note"]
    threading.Thread(target=lambda: started.wait(60) and events.stop(session)).start()
    *_, last = running
    assert "Stopped" in last["note"] and not ended.is_set(), "nobody waits for the lens"
    go_on.set()
    for changed, says in (
        ({"layer": 99}, "layer"),
        ({"prompt": " "}, "empty"),
        ({"samples": 2}, "temperature"),
        ({"strengths": (None, 1.0)}, "number is missing"),
    ):
        *_, last = events.steering.run(session, STEER | changed)
        note = last["written"]
        assert 'role="alert"' in note and says in note and "inside the program" not in note


@pytest.mark.long
def test_hostile_texts_are_only_text(opened, monkeypatch):
    plain, words = lens.steer, lens.difference_lens
    hostile = lambda table, **said: replace(table, records=tuple(replace(r, **said) for r in table))  # noqa: E731
    monkeypatch.setattr(lens, "steer", lambda *a, **o: hostile(plain(*a, **o), text=HOSTILE))
    monkeypatch.setattr(lens, "difference_lens", lambda *a, **o: hostile(words(*a, **o), token="<b>x</b>"))
    visitor, page = opened.turn("Lens"), opened.page
    visitor.choose("dit-steer-prompt", HOSTILE)
    visitor.press("dit-steer", "dit-steer-note")
    assert set(page.locator("#dit-steer-texts .dit-text").all_inner_texts()) == {HOSTILE}
    visitor.press("dit-lens-look", "dit-lens-note")
    visitor.figure("dit-lens-words")
    assert "<b>x</b>" in visitor.words("dit-lens-words", ".heatmap-label")
    page.get_by_role("tab", name="Layers").click()
    visitor.choose("dit-layers-asked", HOSTILE)
    visitor.read()
    visitor.figure("dit-layers-map")
    assert page.evaluate("window.hacked") is None


def test_a_card_per_strength_keeps_its_place_while_it_is_written():
    waiting = steered_html((), (0.0, 2.0), RUNNING)
    assert waiting.count("<article") == 2 and waiting.count("dit-caret") == 2
    texts = [SteeredText("d", 1, 2.0, "p", sample, text) for sample, text in enumerate(("one", " "))]
    done = steered_html(texts, (0.0, 2.0), DONE)
    assert "one" in done and "(says nothing)" in done and "dit-caret" not in done


@pytest.mark.long
def test_narrow_and_dark(browser, address):
    visitor = Tab(browser, address, viewport={"width": 400, "height": 850}).go("Layers")
    page = visitor.page
    visitor.read()
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    title = "e => getComputedStyle(e).fill"
    light = page.eval_on_selector("#dit-layers-map .gtitle", title)
    page.click(".dit-dark")
    page.wait_for_function(f"was => ({title})(document.querySelector('#dit-layers-map .gtitle')) !== was", arg=light)
    page.get_by_role("tab", name="Lens").click()
    visitor.press("dit-lens-look", "dit-lens-note").press("dit-steer", "dit-steer-note")
    visitor.figure("dit-lens-words")
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    tops = page.eval_on_selector_all(".dit-steered", "cards => cards.map(c => c.getBoundingClientRect().top)")
    assert len(set(tops)) == len(tops)
    visitor.context.close()


# -------------------------------------------------------------------- endpoints


def test_endpoints_lens_and_norms(suite):
    import gradio as gr

    by_name = {function.__name__: function for function in functions(suite, "tiny")}
    assert (
        by_name["lens"]("topic-0412", top=2)["lens"]
        == lens.difference_lens(suite, "topic-0412", top=2).to_json()["lens"]
    )
    found = by_name["norms"]("topic-0412", conditions=["diff+dit"], asked=EVENING)
    assert found == lens.norms(suite, "topic-0412", condition="diff+dit", asked=EVENING).to_json()
    for name, bad in (("lens", {"diff": "topic-0142"}), ("norms", {"diff": "topic-0412", "conditions": ["x"]})):
        with pytest.raises(gr.Error):
            by_name[name](**bad)
        assert "Args:" in by_name[name].__doc__
