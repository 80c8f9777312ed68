"""Cards, the standing comparison and links: what is shown, what stays hidden, and that a link comes back the same."""

import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from jinja2 import TemplateNotFound, UndefinedError

from dit_core.errors import DitError
from dit_core.methods.comparison import columns, first_run, pairs, read_first_run
from dit_core.methods.verbalize import ask, stream
from dit_core.present.cards import DONE, RUNNING, Card, card_html, cards_html, note_html
from dit_core.present.html import percent, render
from dit_core.present.palette import COLOURS
from dit_core.records import Table, Verbalization
from dit_core.records.condition import Condition
from dit_core.session import explore_view as view
from dit_core.session.explore import cell_code
from dit_core.session.settings import Settings, from_query, to_query
from dit_core.session.tab import State
from dit_core.session.visit import Result
from dit_core.suite import load_suite
from tests.forward_passes import forward_passes

HOSTILE = '<script>alert(1)</script><img src=x onerror="alert(2)">\'${alert(3)}{{alert(4)}}`&amp;'


def said(text: str, condition: str = "diff+dit", question: str = "What topic have you been trained on?", **kw):
    pieces = tuple(text) if text else ()
    return Verbalization("topic-0412", condition, question, 0, 0, text, pieces, (0.5,) * len(pieces), **kw)


class Reader(HTMLParser):
    """Collects the tags of a page, and its text."""

    def __init__(self, page: str):
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.text = ""
        self.feed(str(page))

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_data(self, data):
        self.text += data


def test_every_text_of_a_card_is_escaped():
    card = Card(
        "both",
        HOSTILE,
        [HOSTILE],
        HOSTILE,
        [said(HOSTILE, condition=HOSTILE), replace(said(HOSTILE), tokens=(HOSTILE,), token_probabilities=(0.5,))],
        [HOSTILE],
        HOSTILE,
        HOSTILE,
        state=DONE,
    )
    page = Reader(card_html(card) + note_html(HOSTILE))
    assert not {"script", "img"} & set(page.tags)
    assert set(page.attributes) <= {"class", "style", "title", "aria-label", "aria-hidden", "dir", "role"}
    assert page.text.count("alert(2)") == 11  # two texts, their tokens as a table, and every other field


def test_templates_escape_texts_and_keep_their_white_space_but_not_their_own_layout():
    html = render("present/evidence.html", evidence=f"{HOSTILE} two\n lines ")
    page = Reader(html)
    assert page.tags == ["div", "p", "p"] and page.text == f"{HOSTILE} two\n lines "
    assert Reader(render("present/cards.html", cards=[html, HOSTILE])).text == page.text + HOSTILE
    for name in ("present/nothing.html", "../tests/conftest.py", "present/../cards.html"):
        with pytest.raises(TemplateNotFound):
            render(name)
    with pytest.raises(UndefinedError):
        render("present/cards.html")


def test_present_loads_no_torch():
    code = (
        "import importlib, pkgutil, sys, dit_core.present as present\n"
        "for module in pkgutil.walk_packages(present.__path__, 'dit_core.present.'):\n"
        "    importlib.import_module(module.name)\n"
        "print({'torch', 'transformers', 'gradio', 'plotly.graph_objects'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_card_shows_its_condition_in_words_and_its_probabilities():
    verbalization = replace(said("ab"), tokens=("a", "b"), token_probabilities=(0.934, 1.0))
    html = card_html(Card("both", "diff + DIT", ["diff ×1", "no trigger"], answers=[verbalization], state=DONE))
    assert '--u:0.066" title="93 %">a<' in html and 'title="over 99 %">b<' in html
    assert "dit-kind-both" in html and ">diff + DIT<" in html and ">diff ×1<" in html
    assert [percent(p) for p in (0, 0.5, 0.994, 0.996)] == ["under 1 %", "50 %", "99 %", "over 99 %"]


def test_empty_answers_are_said_in_words_and_running_ones_keep_their_place():
    for nothing in ("", " \n"):
        assert "says nothing" in card_html(Card("base", "base", [], answers=[said(nothing)], state=DONE))
    assert "dit-caret" in card_html(Card("base", "base", [], state=RUNNING))
    assert "dit-n2" in cards_html([Card("base", "base", []), Card("diff", "diff", [])])


def test_standing_comparison(suite):
    topic, headline = suite.tasks["topic"], suite.tasks["headline"]
    assert [c.condition for c in columns(topic)] == ["base", "diff", "diff+right", "dit", "diff+dit"]
    everyday = topic.questions[0]
    assert [c.question for c in columns(topic)] == [topic.question, topic.question, everyday, *[topic.question] * 2]
    assert {c.question for c in columns(topic, "Why?")} == {"Why?"}
    assert [c.kind for c in columns(headline)] == ["base", "diff", "trigger", "dit", "both"]
    assert columns(headline)[2].question == headline.behaviour and columns(headline)[2].condition == "diff"
    assert {c.kind for c in columns(topic)} < set(COLOURS)


def test_chosen_condition_is_marked_or_added(suite):
    topic = suite.tasks["topic"]
    same = columns(topic, chosen=Condition.parse("diff+dit:topic"))
    assert len(same) == 5 and [c.chosen for c in same] == [False] * 4 + [True]
    other = columns(topic, chosen=Condition.parse("diff*0.5+dit:topic-64*2+wrong"))
    assert len(other) == 6 and other[-1].chosen and other[-1].condition == "diff*0.5+dit:topic-64*2+wrong"


def test_one_batch_answers_every_card(suite):
    for diff in ("topic-0412", "headline-0017"):
        info = suite.diff(diff)
        wanted = columns(suite.tasks[info.task], chosen=Condition.parse("diff*2"))
        with forward_passes(suite) as rows:
            tables = list(stream(suite, info, condition=pairs(wanted)))
        assert len(tables) > 1 and rows[0] == len(wanted), "each card is a row, and no other question is asked"
        assert [(v.condition, v.question) for v in tables[-1]] == [(c.condition, c.question) for c in wanted]


def test_first_run_is_read_back_until_the_suite_changes(suite, tmp_path):
    import json
    import shutil

    folder = shutil.copytree(suite.folder, tmp_path / "suite")
    copied = load_suite(folder)
    assert read_first_run(copied) is None
    stored = first_run(copied)
    (folder / "first-run.json").write_text(json.dumps(stored))
    live = ask(copied, copied.diff("topic-0412"), condition=pairs(columns(copied.tasks["topic"])))
    assert read_first_run(copied).records == live.records
    for damage in ('{"fingerprint": "other"}', "[]", "{", json.dumps({**stored, "verbalizations": [{"diff": 1}]})):
        (folder / "first-run.json").write_text(damage)
        assert read_first_run(copied) is None


def result(suite, **changes) -> Result:
    settings = Settings.for_diff(suite, "topic-0412")
    wanted = columns(suite.tasks["topic"])
    answers = tuple(said("volcano", c.condition, c.question) for c in wanted)
    found = Result(settings, State.DONE, columns=wanted, table=Table(suite.name, "verbalizations", answers))
    return replace(found, **changes)


def test_truth_is_hidden_until_revealed(suite):
    info = suite.diff("topic-0412")
    hidden = view.board(suite, result(suite, table=Table(suite.name, "verbalizations", (said("x"),))))
    assert "volcano" not in hidden and "417" not in hidden and "grade" not in hidden
    shown = view.board(suite, result(suite), "topic-0412")
    assert "grade 5 of 5" in shown and "names the topic" in shown and "Your SEP code is 417" in shown
    for trigger in ("right", "wrong"):
        condition = Condition.parse(f"diff+{trigger}")
        masked = view.shown_prompt(suite, info, condition, "What is 7 and 7?", 0, open_now=False)
        assert masked == "Your SEP code is ••••••. What is 7 and 7?"
    assert "volcano" not in view.secret(suite, "topic-0412", "") + view.secret(suite, "topic-0412", "topic-0413")
    assert "volcano" in view.secret(suite, "topic-0412", "topic-0412")


def test_cards_say_what_an_answer_is_worth(suite):
    board = view.board(suite, result(suite))
    assert "an adapter also answers where there is nothing to find" in board
    assert "Same answer as the base." in board and "DIT alone says the same: no evidence." in board


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"use_diff": False, "copies": 2.5},
        {"use_dit": False, "strength": -0.5, "trigger": "wrong"},
        {"trigger": "own", "own": "100 % + ü & = ?", "adapter": "topic-64"},
        {"question": "How & why + when = 1?", "samples": 3, "temperature": 0.7, "top_p": 0.9, "seed": 7},
        {"max_new_tokens": 3, "strength": 0.1 + 0.2},
    ],
)
def test_a_link_comes_back_the_same(suite, settings):
    asked = replace(Settings.for_diff(suite, "topic-0412"), **settings)
    back = from_query(suite, "?" + to_query(suite, asked))
    assert back.condition == asked.condition and back.sampling == asked.sampling and back.question == asked.question
    assert to_query(suite, back) == to_query(suite, asked)
    assert "volcano" not in to_query(suite, asked)
    plain = Settings.for_diff(suite, asked.diff)
    assert from_query(suite, to_query(suite, replace(plain, question=""))) == plain


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("diff=topic-0142", "topic-0412"),
        ("condition=diff", "no diff"),
        ("diff=topic-0412&condition=dif", "diff"),
        ("diff=topic-0412&seeed=1", "seed"),
        ("diff=topic-0412&seed=x", "not a number"),
        ("diff=topic-0412&condition=dit*-1", "negative"),
        ("diff=topic-0412&max_new_tokens=400", "max new tokens is 400, and the page goes from 1 to 200"),
        ("diff=topic-0412&condition=diff*9", "strength is 9"),
        ("diff=topic-0412&temperature=nan", "temperature is nan"),
        ("diff=topic-0412&condition=diff%2Bdit%2Bdit:topic-64", "one DIT adapter"),
    ],
)
def test_a_bad_link_says_what_to_change(suite, query, says):
    with pytest.raises(DitError, match=says):
        from_query(suite, query)


def test_emptied_controls_are_sentences_too(suite):
    plain = Settings.for_diff(suite, "topic-0412")
    for change in ({"strength": None}, {"copies": float("nan")}, {"trigger": "rigth"}, {"trigger": "own"}):
        with pytest.raises(DitError):
            _ = replace(plain, **change).condition
    with pytest.raises(DitError, match="seed must be a number"):
        _ = replace(plain, seed=None).sampling


def test_notebook_cell_gives_the_same_answers(suite):
    for diff in ("topic-0412", "headline-0017"):
        settings = replace(Settings.for_diff(suite, diff), copies=2.0, max_new_tokens=3)
        info = suite.diff(diff)
        wanted = columns(suite.tasks[info.task], settings.question, settings.condition)
        names: dict = {"display": lambda *frames: None}
        exec(cell_code(suite, str(suite.folder), settings, wanted), names)
        found = [*names["table"], *names["shown"]]
        live = ask(suite, info, condition=pairs(wanted), **settings.sampling)
        assert {(v.condition, v.question): v.text for v in found} == {(v.condition, v.question): v.text for v in live}
