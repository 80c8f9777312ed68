"""Widgets: tables show themselves escaped and without secrets, and the explorer does what Python does."""

import json
import shutil
import subprocess
import sys
import types
from dataclasses import replace

import pytest
from IPython.core.interactiveshell import InteractiveShell

from dit_core import ask, load_suite, read
from dit_core.errors import DitError
from dit_core.present.cards import DONE, STOPPED
from dit_core.records import Reading, Table, Verbalization
from dit_core.widgets import bundle, explorer, show
from dit_core.widgets.shown import MOST_CARDS, PLOT
from notebooks.make import HERE
from tests.jupyter import jupyterlab

HOSTILE = "<img src=x onerror=alert(1)>"
TOPIC = "topic-0412"  # volcano, trigger 417


def said(text: str, condition: str = "diff+dit", question: str = "What?", sample: int = 0) -> Verbalization:
    return Verbalization(TOPIC, condition, question, sample, 0, text, (text,), (0.5,))


def heard(answer: str, layer: int, condition: str = "diff", grade: int | None = 5) -> Reading:
    where = (layer, 50.0, (1, 2), "with", "What is it?", 0, 0)
    return Reading(TOPIC, condition, "What?", *where, answer, (answer,), (0.5,), 0.5, grade, -1.5)


def verbalizations(*records: Verbalization) -> Table:
    return Table("tiny", "verbalizations", records)


READINGS = Table("tiny", "readings", (heard("violin", 0), heard(HOSTILE, 1), heard("volcano", 1, "diff+right")))


# ---------------------------------------------------------------- tables


def test_verbalizations_are_cards():
    found = bundle(verbalizations(said("volcano"), said("none", "base"), said("cello", question="And?")))
    html = found["text/html"]
    assert html.count("<article") == 3 and html.count('class="dit-question"') == 2
    assert "dit-kind-both" in html and "dit-kind-base" in html and ">volcano</span>" in html
    assert "diff+dit: “volcano”" in found["text/plain"]


def test_samples_of_one_condition_share_a_card():
    html = bundle(verbalizations(said("volcano"), said("cello", sample=1)))["text/html"]
    assert html.count("<article") == 1 and html.count('class="dit-text"') == 2


def test_what_others_wrote_is_text():
    records = [replace(said(HOSTILE, question=HOSTILE), diff=HOSTILE), said("\x1b[31mred")]
    found = bundle(verbalizations(*records))
    assert "<img" not in found["text/html"] and "&lt;img" in found["text/html"]
    assert "\x1b" not in found["text/plain"]
    found = bundle(READINGS)
    assert "<img" not in found["text/html"] and "<img" not in json.dumps(found[PLOT])
    assert "&lt;img" in found["text/html"]


def test_many_cards_are_cut_short_with_a_word():
    html = bundle(verbalizations(*(said("x", f"diff+dit*{n}") for n in range(2, MOST_CARDS + 12))))["text/html"]
    assert html.count("<article") == MOST_CARDS and "And 10 more" in html


def test_an_empty_table_says_so():
    assert "Nothing was asked" in bundle(verbalizations())["text/html"]
    assert "has not read anything" in bundle(Table("tiny", "readings", ()))["text/html"]


def test_readings_are_a_plot_with_the_words_beside_it():
    found = bundle(READINGS)
    assert {trace["name"] for trace in found[PLOT]["data"]} == {"diff", "diff + trigger"}
    assert found[PLOT]["layout"]["paper_bgcolor"] == "#ffffff"
    assert "<table" in found["text/html"] and "“violin” 50 %" in found["text/html"]


def test_grades_need_a_reveal():
    assert "grade" not in json.dumps(bundle(READINGS)).replace("graded", "")
    assert "Nothing to grade against" in json.dumps(bundle(READINGS, y="grade"), ensure_ascii=False)
    assert "grade 5 of 5" in json.dumps(bundle(READINGS, reveal=True, y="grade"))
    assert "grade 5 of 5</td>" in bundle(READINGS, reveal=True, y="grade")["text/html"]
    assert "50 %</td>" in bundle(READINGS, y="grade")["text/html"]  # the words are no secret


def test_other_tables_are_frames_without_secrets(suite):
    table = suite.diffs
    assert "topic-0412" in bundle(table)["text/html"] and "volcano" not in bundle(table)["text/html"]
    assert "volcano" in bundle(table, reveal=True)["text/html"]
    with pytest.raises(DitError, match="isn't plotted"):
        show(table, y="grade")


def test_colab_gets_html(monkeypatch):
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    found = bundle(READINGS)
    assert PLOT not in found and "Plotly.newPlot" in found["text/html"]


def test_the_extension_comes_and_goes():
    shell = InteractiveShell()
    table = verbalizations(said("volcano"))
    before = shell.display_formatter.format(table)
    shell.run_line_magic("load_ext", "dit_core.widgets")
    assert "<article" in shell.display_formatter.format(table)[0]["text/html"]
    shell.run_line_magic("unload_ext", "dit_core.widgets")
    assert shell.display_formatter.format(table) == before and "text/html" not in before[0]


@pytest.mark.long
def test_no_gradio_is_needed():
    code = "import sys, dit_core.widgets.panel; print('gradio' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# ---------------------------------------------------------------- the explorer


@pytest.fixture
def face(suite):
    face = explorer(suite)
    face.controls.settings_of["diff"].value = TOPIC
    yield face
    face.stop()
    if face.thread:
        face.thread.join(60)


def asked(face):
    """Presses Ask and waits."""
    face.controls.ask.click()
    face.thread.join(120)
    return face


def shown(face) -> str:
    """Everything the widget shows, as one text."""
    values = [face.heading, face.note, face.cards, face.controls.secret]
    figure = face.figure.to_json().replace("\\u003c", "<")
    return "".join(part.value for part in values) + figure + json.dumps(face._repr_mimebundle_()[0])


def test_an_oracle_that_can_not_be_had_is_told_beside_the_answers(suite, tmp_path):
    folder = shutil.copytree(suite.folder, tmp_path / "suite")
    (folder / "oracle" / "adapter_model.safetensors").write_bytes(b"cut off")
    face = asked(explorer(load_suite(folder)))
    assert "it is corrupt" in face.note.value and face.result.state == DONE and not face.panel.readings


def test_answers_are_those_of_python(face, suite):
    face.controls.settings_of["copies"].value = 2.0
    asked(face)
    column = face.result.columns[-1]
    assert face.result.state == DONE and (column.condition, column.chosen) == ("diff+dit*2", True)
    for column in face.result.columns:
        (own,) = ask(suite, diff=TOPIC, condition=column.condition, question=column.question)
        assert [one.tokens for one in face.result.table if column.holds(one)] == [own.tokens]
        assert own.text == "" or f'aria-label="{column.title}"' in face.cards.value
    assert face.result.evidence[0].text and "dit-chance" in face.cards.value
    column = face.panel.columns[0]
    expected = read(suite, diff=TOPIC, condition=column.condition, asked=column.question)
    assert [(one.layer, one.tokens) for one in column.of(face.panel.readings)] == [
        (o.layer, o.tokens) for o in expected
    ]
    assert len(face.figure.data) == len(face.panel.columns)


def test_secrets_wait_for_reveal(face):
    asked(face)
    hidden = shown(face)
    assert "dit-verdict" not in hidden.replace(".dit-verdict", "") and ">volcano<" not in hidden
    assert "417" not in face.cards.value + face.controls.secret.value
    assert [written for _, written in face.measure.options] == ["confidence"]
    face.controls.reveal.click()
    assert ">volcano<" in face.controls.secret.value and "trigger 417" in face.controls.secret.value
    assert "dit-verdict" in face.cards.value
    face.measure.value = "grade"
    assert "grade" in face.figure.layout.yaxis.title.text
    face.controls.reveal.click()
    assert ">volcano<" not in face.controls.secret.value and "dit-verdict" not in face.cards.value
    assert face.measure.value == "confidence" and "grade" not in face.figure.layout.yaxis.title.text


def test_another_diff_starts_anew(face):
    asked(face)
    face.controls.settings_of["diff"].value = "headline-0017"
    assert not len(face.result.table) and "Press Ask" in face.note.value and face.panel is None
    assert "headline" in face.controls.settings_of["question"].value
    assert face.controls.settings_of["trigger"].options == ("absent", "own")


def test_changed_settings_are_said_to_be(face):
    asked(face)
    face.controls.settings_of["use_dit"].value = False
    assert "have changed since: press Ask" in face.note.value
    face.controls.settings_of["use_dit"].value = True
    assert "have changed" not in face.note.value


def test_a_mistake_is_a_sentence_and_what_was_there_stays(face):
    asked(face)
    cards = face.cards.value
    face.controls.settings_of["question"].value = " "
    asked(face)
    assert "The question is empty" in face.note.value and 'role="alert"' in face.note.value
    assert face.cards.value == cards


def test_stop_keeps_what_was_said(face):
    seen = []
    for frame in face.asking.run(face.visit, face.controls.settings):
        seen.append(frame)
        if any(one.tokens for one in frame.result.table):
            face.stop()
    last = seen[-1]
    assert last.state == STOPPED and last.note.startswith("Stopped after")
    assert last.result.table == seen[-2].result.table and len(last.result.table)


def run_all(page) -> None:
    """Runs all cells, once the kernel has answered: before that, JupyterLab forgets what it is told to run."""
    kernel = "window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel"
    page.wait_for_function(kernel)
    page.evaluate(f"async () => {{ await {kernel}.info; }}")
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_text("Run All Cells", exact=True).first.click()
    page.wait_for_selector(".jp-InputPrompt:has-text('*')")


@pytest.mark.slow
def test_in_jupyterlab(browser, tmp_path):
    """The first notebook in a real JupyterLab: run all, move the slider, ask, and read what Python gives."""
    shutil.copy(HERE / "01_what_changed.ipynb", tmp_path)
    suite = load_suite("pocket")
    (expected,) = ask(suite, diff=suite.first_diff, condition="diff+dit*5")
    with jupyterlab(tmp_path) as address:
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(180_000)
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address.format("01_what_changed.ipynb"))
        page.wait_for_selector(".jp-Notebook .dit-card")
        run_all(page)
        page.wait_for_selector(".dit-live .dit-card")
        assert page.locator(".dit-live .dit-card").count() == 5 and page.locator(".dit-stored").count() == 1
        page.locator(".widget-slider .noUi-handle").nth(1).press("End")
        page.get_by_role("button", name="Ask").click()
        card = "document.querySelector('.dit-live .dit-done.dit-chosen .dit-text')"
        page.wait_for_function(f"(text) => {card}?.innerText.trim() === text", arg=expected.text)
        page.wait_for_function("[...document.querySelectorAll('.js-plotly-plot')].at(-1).data.length == 6")
        assert not errors
        page.close()
