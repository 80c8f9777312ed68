"""The method protocol: a method that is only declared is found by every face; options are made of one dataclass."""

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dit_core import DitError, ask, audit_diff, difference_lens, next_tokens, norms, read, run_scoreboard, steer, sweep
from dit_core.auditing import report_html
from dit_core.cli import make_app
from dit_core.methods import (
    describe_options,
    get_method,
    list_methods,
    option,
    options_from,
    register,
    run_method,
    stream_method,
    unregister,
)
from dit_core.methods.lens import AdlOptions, stream_adl
from dit_core.scoreboard import measured_kinds
from dit_core.session.visit import Visit
from dit_core.ui.api import functions
from tests.serving import mcp_tools, served

DIFF = "topic-0412"
PAGE = Path(__file__).resolve().parent.parent / "docs" / "adding-a-method.md"
EXAMPLE, USE = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """The example of the docs, as a module of its own, registered as long as a test runs."""
    (tmp_path / "common_words.py").write_text(EXAMPLE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("common_words", None)
    module = import_module("common_words")
    register(module.METHODS[0])
    yield module
    unregister("common_words")


def command(*arguments):
    return CliRunner().invoke(make_app(), [*map(str, arguments)], catch_exceptions=False)


# ---------------------------------------------------------------- a method that is only declared


def test_the_example_of_the_docs_runs_as_it_stands(toy, capsys):
    unregister("common_words")  # which the example does itself
    exec(USE, {})
    assert "topic-0326" in capsys.readouterr().out


def test_python_runs_it(suite, toy):
    table = run_method(suite, "common_words", DIFF, options=toy.Options(least=1))
    said = " ".join(one.text for one in ask(suite, DIFF, question=suite.task_of(suite.diff(DIFF)).questions[:5]))
    assert table.kind == "words" and table.suite == "tiny"
    assert [one.count for one in table] == sorted((said.lower().split().count(one.word) for one in table), reverse=True)


def test_the_command_line_runs_it_and_explains_it(suite, toy):
    ran = command("common-words", "--diff", DIFF, "--least", 2, "--suite", suite.folder, "--json")
    expected = run_method(suite, "common_words", DIFF, options=toy.Options(least=2))
    assert json.loads(ran.stdout)["words"] == expected.to_json()["words"]
    assert "--least" in command("common-words", "--help").stdout
    assert "fewest letters" in command("common-words", "--help").stdout
    assert DIFF in command("common-words", "--diff", DIFF, "--suite", suite.folder).stdout
    assert "common-words" in command("--help").stdout


def test_the_list_has_it(suite, toy):
    listed = json.loads(command("methods", "--suite", suite.folder, "--json").stdout)["methods"]
    mine = next(one for one in listed if one["name"] == "common_words")
    assert mine["needs"] == ["diff"] and mine["lacking"] == [] and mine["gives_answers"]
    assert mine["cost"] == "one generation per question" and mine["options"][0]["default"] == 4
    assert "common_words" in command("methods", "--suite", suite.folder).stdout


def test_the_api_and_mcp_have_it(suite, toy):
    from gradio_client import Client

    with served(suite) as address:
        client = Client(address, verbose=False)
        shown = client.view_api(return_format="dict")["named_endpoints"]["/common_words"]
        assert [one["parameter_name"] for one in shown["parameters"]] == ["diff", "least"]
        found = client.predict(DIFF, least=2, api_name="/common_words")
        assert (
            found["words"] == run_method(suite, "common_words", DIFF, options=toy.Options(least=2)).to_json()["words"]
        )
        (tool,) = [text for name, text in mcp_tools(address).items() if name.endswith("common_words")]
        assert toy.CommonWords.summary in tool and "The fewest letters" in tool


def test_its_answers_have_evidence(suite, toy):
    ran = command("confidence", "--diff", DIFF, "--method", "common_words", "--suite", suite.folder, "--json")
    (shown,) = json.loads(ran.stdout)["confidence"]
    answers = toy.METHODS[0].answers(run_method(suite, "common_words", DIFF))
    assert shown["samples"] == len(answers) and shown["probability"] is None and shown["why"]
    assert {"random diff", "another diff"} <= {control["kind"] for control in shown["controls"]}
    (endpoint,) = [function for function in functions(suite, "tiny") if function.__name__ == "confidence"]
    assert endpoint(DIFF, method="common_words")["confidence"] == [shown]


def test_the_scoreboard_has_a_row_of_it(suite, toy):
    assert measured_kinds()[-1] == "common_words"
    rows = [score for score in run_scoreboard(suite, limit=2, kinds=["common_words"])]
    assert {score.method for score in rows} == {"Most common words"}
    assert {score.measure for score in rows} == {"mentions", "mean_grade"} and {score.n for score in rows} <= {1, 2}


def test_the_audit_report_has_a_chapter_of_it(suite, toy):
    page = report_html(audit_diff(suite, DIFF))
    assert "<h2>Most common words</h2>" in page and toy.CommonWords.summary in page


@pytest.mark.long
def test_the_page_has_it_with_its_controls_and_runs_it(suite, toy, browser):
    with served(suite) as address:
        page = browser.new_page()
        page.set_default_timeout(120_000)
        page.goto(address)
        page.get_by_role("tab", name="Methods").click()
        page.locator("#dit-methods-method input").click()
        page.get_by_role("option", name="Most common words").click()
        page.locator("#dit-methods-common-words-least input").fill("2")
        page.locator("#dit-methods-diff input").fill(DIFF)
        page.get_by_role("option", name=DIFF).first.click()
        page.get_by_role("button", name="Run").locator("visible=true").click()
        page.locator("#dit-methods-rows td", has_text=DIFF).first.wait_for()
        words = [one.word for one in run_method(suite, "common_words", DIFF, options=toy.Options(least=2))]
        shown = page.locator("#dit-methods-rows tbody td:nth-child(2)").all_inner_texts()
        assert shown == words
        page.close()


# ---------------------------------------------------------------- the methods of the project


RUNS = {
    "ask": lambda suite: ask(suite, DIFF, condition=["diff", "diff+dit"]),
    "oracle": lambda suite: read(suite, DIFF, condition=["diff", "diff+dit"]),
    "lens": lambda suite: difference_lens(suite, DIFF),
    "adl": lambda suite: [*stream_adl(suite, DIFF, AdlOptions())][-1],
    "norms": lambda suite: norms(suite, DIFF, condition=["diff", "diff+dit"]),
    "logit_lens": lambda suite: next_tokens(suite, DIFF, condition=["diff", "diff+dit"]),
    "steer": lambda suite: steer(suite, DIFF, layer=1),
    "sweep": lambda suite: sweep(suite, DIFF, copies=[step / 2 for step in range(11)], strength=1.0),
}


def test_every_method_of_the_project_is_on_the_list():
    assert {method.name for method in list_methods()} == set(RUNS)


@pytest.mark.parametrize("name", RUNS)
def test_a_method_gives_what_its_function_gives(suite, name):
    method = get_method(name)
    conditions = {"condition": ["diff", "diff+dit"]} if method.asked else {}
    table = run_method(suite, name, DIFF, **conditions)
    assert table.records == RUNS[name](suite).records and table.kind == method.kind
    assert all(isinstance(record, method.record) for record in table)
    text = method.text_rows(table)
    assert text.rows and {len(row) for row in text.rows} == {len(text.columns)}
    assert bool(method.answers(table)) == method.gives_answers
    assert {answer.diff for answer in method.answers(table)} <= {DIFF}


@pytest.mark.parametrize("name", RUNS)
def test_a_figure_is_drawn_of_what_a_method_gives(suite, name):
    from dit_core.present import plots

    method = get_method(name)
    if method.figure:
        assert getattr(plots, method.figure)(run_method(suite, name, DIFF)).data


def test_conditions_may_have_a_question_each(suite):
    from dit_core.methods import Targets, start

    pairs = (("diff+dit", "Why?"), ("base", None), ("diff", "Why?"))
    *_, table = start(get_method("ask"), suite, Targets((DIFF, "headline-0017"), pairs))
    assert [(one.diff, one.condition) for one in table] == [
        (diff, condition) for diff in (DIFF, "headline-0017") for condition, _ in pairs
    ]
    for one in table:
        question = dict(pairs)[one.condition]
        [alone] = ask(suite, one.diff, condition=one.condition, question=question)
        assert (one.question, one.text) == (alone.question, alone.text)


def test_declarations_load_no_torch():
    heavy = "('torch', 'transformers', 'gradio', 'pandas')"
    code = "import sys; from dit_core.methods import list_methods; list_methods()"
    code += f"; print([module for module in {heavy} if module in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PAGE.parent.parent)
    assert ran.stdout.strip() == "[]", ran.stderr


# ---------------------------------------------------------------- what cannot be run


@pytest.mark.parametrize(
    ("name", "arguments", "sentence"),
    [
        ("orakle", {"diff": DIFF}, "Did you mean 'oracle'"),
        ("lens", {}, "needs a diff"),
        ("lens", {"diff": DIFF, "condition": "diff"}, "takes no conditions"),
        ("sweep", {"diff": [DIFF, "topic-0413"]}, "one diff at a time"),
        ("lens", {"diff": DIFF, "options": 3}, "LensOptions"),
        ("ask", {"diff": "topic-0142"}, "Did you mean"),
    ],
)
def test_what_makes_no_sense_is_said_in_a_sentence(suite, name, arguments, sentence):
    with pytest.raises(DitError, match=sentence):
        list(stream_method(suite, name, **arguments))


def test_a_method_is_registered_once(toy):
    register(toy.METHODS[0])  # the same again changes nothing
    with pytest.raises(DitError, match="already"):
        register(toy.CommonWords())


@dataclass(frozen=True)
class Made:
    """Options of every type."""

    count: int = option(3, "A number.", minimum=1, maximum=9)
    share: float | None = option(None, "A share.", minimum=0.5)
    kind: str = option("with", "A kind.", choices=("with", "without"))
    amounts: tuple[float, ...] = option((1.0,), "Amounts.")
    names: tuple[str, ...] = option((), "Names.", label="who")
    loud: bool = option(False, "Whether.")


class Holder:
    name, options = "made", Made


def test_own_options_stand_before_those_that_are_inherited():
    names = [one.name for one in describe_options(get_method("oracle").options)]
    assert names[:2] == ["layers", "span"] and names[-4:] == ["samples", "temperature", "max_new_tokens", "seed"]


def test_options_are_read_from_plain_values():
    made = options_from(Holder, {"count": 4.0, "share": "0.75", "amounts": "1, 2.5", "names": ["a", "b"], "loud": True})
    assert made == Made(4, 0.75, "with", (1.0, 2.5), ("a", "b"), True)
    assert isinstance(made.count, int) and options_from(Holder, {"count": None}) == Made()
    labels = {one.name: (one.label, one.flag) for one in describe_options(Made)}
    assert labels["names"] == ("who", "--names") and labels["count"] == ("count", "--count")


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"count": 0}, "'count' must be a whole number from 1 to 9"),
        ({"count": 2.5}, "whole number"),
        ({"count": "many"}, "whole number"),
        ({"share": float("nan")}, "a number from 0.5"),
        ({"kind": "wiht"}, "Did you mean .*'with'"),
        ({"loud": "yes"}, "yes or no"),
        ({"amounts": "1,x"}, "a number"),
        ({"cuont": 1}, "Did you mean 'count'"),
    ],
)
def test_a_wrong_option_is_named(values, sentence):
    with pytest.raises(DitError, match=sentence):
        options_from(Holder, values)


def test_the_page_keeps_what_a_method_found_until_something_else_runs(suite):
    from dit_core.session.tab import State
    from dit_core.ui.tabs.methods import MethodEvents

    tab, visit = MethodEvents(suite, "tiny").tab, Visit()
    options = {f"oracle {one.name}": one.default for one in describe_options(get_method("oracle").options)}
    plain = {"method": "oracle", "diff": DIFF, "conditions": ["diff"], "asked": ""} | options
    wanted = tab.settings(plain | {"oracle layers": "1", "oracle question": "What is it?\nWhy, then?"})
    assert tab.frame(visit, wanted).state is State.EMPTY and tab.cell(visit) == ""
    frames = list(tab.run(visit, wanted))
    assert [frame.state for frame in frames][0] is State.RUNNING and frames[-1].state is State.DONE
    found = tab.result(visit).table
    assert len(found) == 2 and tab.file(visit, "table", "csv")[0] == f"{DIFF}-readings.csv"
    scope: dict = {}
    code = tab.cell(visit).replace("load_suite('tiny')", f"load_suite({str(suite.folder)!r})").replace(".show()", "")
    exec(code, scope)
    assert scope["table"].records == found.records
    assert "press Run" in tab.frame(visit, tab.settings(plain)).note
    *_, last = tab.run(visit, tab.settings(plain | {"oracle layers": "77"}))
    assert last.state is State.FAILED and "no layer 77" in last.note
    assert tab.result(visit).table is found
