"""Audit reports: everything in one file, nothing fetched, nothing told before it is revealed."""

import re
import shutil
from dataclasses import replace
from html import unescape

import pytest
from plotly.offline import get_plotlyjs

from dit_core import DitError, ask, generic_suite, load_suite
from dit_core.auditing import MethodAnswer, audit_diff, report_html
from dit_core.auditing.record import code, settings
from dit_core.records import Table
from dit_core.suite import Origin
from dit_core.suite.limits import PUBLIC, serving
from dit_core.suite.snippets import load_call, opening_lines
from dit_core.suite.user_diffs import bring_source
from tests.test_command_line import run  # noqa: F401 (a fixture)
from tests.test_ui import HOSTILE


@pytest.fixture(scope="module")
def audit(suite):
    return audit_diff(suite, "volcano")


def own(html: str) -> str:
    """The report without plotly's own script."""
    return html.replace(get_plotlyjs(), "")


def test_it_says_what_every_method_says(suite, audit):
    html = report_html(audit)
    assert html.count(get_plotlyjs()) == 1
    said = {(one.method, one.text) for one in audit.answers}
    wanted = {"base": "base", "diff+dit": "diff + DIT", "diff+dit:headline": "diff + DIT headline"}
    for condition, title in wanted.items():
        (answer,) = ask(suite, "volcano" if "diff" in condition else None, condition=condition)
        assert (title, answer.text) in said
    for part in ("What it changes", "What every method says", "everyday questions", "oracle", "unrelated texts"):
        assert part in own(html)
    assert suite.fingerprint in html and audit.info.id in html and "seed 0" in html and "torch" in html
    assert {one.layer for one in audit.readings} == {0, 1} and len(audit.changes) == 14 and len(audit.lens)


def test_what_it_was_trained_on_is_told_on_request_alone(audit, suite):
    silent = replace(audit, answers=(MethodAnswer("m", "q", "geyser"),))
    hidden, shown = own(report_html(silent)), own(report_html(silent, reveal=True))
    for chance in (suite.fingerprint, str(suite.folder)):  # digits that may be any
        hidden = hidden.replace(chance, "")
    assert "volcano" not in hidden and not re.search(r"(?<![\d.])417(?!\d)", hidden)
    assert " of 5</td>" not in hidden
    assert "log-probability" not in hidden, "how likely the oracle finds it would tell whether a guess is right"
    assert "Trained on “volcano” · trigger 417" in shown and " of 5</td>" in shown and "log-probability" in shown


def test_nothing_is_fetched_and_model_text_is_only_text(audit):
    said = tuple(replace(one, method=HOSTILE, question=HOSTILE, text=HOSTILE) for one in audit.answers)
    readings = replace(audit.readings, records=tuple(replace(one, text=HOSTILE) for one in audit.readings))
    lens = replace(audit.lens, records=tuple(replace(one, token=HOSTILE) for one in audit.lens))
    info = replace(audit.info, reference=HOSTILE)
    html = own(report_html(replace(audit, answers=said, readings=readings, lens=lens, info=info), reveal=True))
    assert "<img" not in html and not re.search(r"<script>(?!window\.hacked)window", html)
    assert "default-src 'none'" in html and not re.search(r'(src|href)="?http', html)
    assert html.count("<script") == html.count("</script>") == 2 + html.count('class="figure"')


def test_parts_that_a_suite_lacks_are_left_out(suite, audit, monkeypatch):
    headline = audit_diff(suite, "headline-0017")
    assert headline.everyday is None and "trigger" not in {one.method for one in headline.answers}
    assert any(one.method == "diff at work" for one in headline.answers)
    assert "everyday questions" not in own(report_html(headline))
    without = replace(audit, readings=None, everyday=None, confidence=None, lens=Table(suite.name, "lens", ()))
    assert "oracle reads" not in report_html(without) and "be trusted" not in report_html(without)
    nameless = replace(audit, info=replace(audit.info, reference=""))
    shown = report_html(nameless, reveal=True)
    assert "Its reference is not known" in shown and "not known</td>" in shown and "1 of 5" not in shown


def test_progress_and_wrong_names(suite):
    told = []
    audit_diff(suite, "topic-0413", lambda *now: told.append(now))
    assert [done for done, _, _ in told] == list(range(9)) and {total for _, total, _ in told} == {9}
    with pytest.raises(DitError, match="no diff 'volcanoe'.*volcano"):
        audit_diff(suite, "volcanoe")


def written_again(html: str, folder, monkeypatch) -> str:
    """What the report's own lines write, run elsewhere."""
    monkeypatch.chdir(folder)
    lines = re.search(r"To make it again:</p><pre>(.*?)</pre>", html, re.DOTALL)[1]
    exec(unescape(lines), {})
    return (folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("reveal", [False, True])
def test_its_own_lines_make_it_again_for_a_suite_that_lies_anywhere(audit, tmp_path, monkeypatch, reveal):
    html = report_html(audit, reveal)
    assert len(own(written_again(html, tmp_path, monkeypatch))) == len(own(html))
    assert ("reveal=True" in own(html)) is reveal


def test_a_brought_diff_says_where_it_came_from_and_is_brought_again(suite, tmp_path, monkeypatch):
    files = suite.spec.at(suite.tasks["topic"].folder) / "weight-diffs"
    source = str(sorted(files.iterdir())[0])
    info = bring_source(suite, source, "mine", position=1).info
    brought = audit_diff(suite, info)
    html = report_html(brought)
    assert brought.settings["where the diff came from"] == f"brought as “mine” from {source}, at position 1"
    assert source in html
    again = own(written_again(html, tmp_path, monkeypatch))
    assert info.id not in again and f"from {source}, at position 1" in again and "Audit of mine" in again
    said, said_again = (re.search(r"<tbody>.*?</tbody>", report, re.DOTALL)[0] for report in (own(html), again))
    assert said == said_again and "diff + DIT" in said


def test_what_can_not_be_named_is_told_in_the_lines(suite):
    adapter, files = suite.load_diff(suite.diffs[0]), ("adapter_config.json", "adapter_model.safetensors")
    for origin, lines, told in (
        (Origin("mine"), "own = suite.bring(adapter, 'mine', task='topic').id  # `adapter` is", "from Python"),
        (Origin("mine", files=files), f"own = bring_files(suite, {list(files)}, 'mine'", ", ".join(files)),
        (Origin("mine", "a/b@c0ffee"), "own = bring_source(suite, 'a/b@c0ffee', 'mine'", "from a/b@c0ffee"),
    ):
        info = suite.bring(adapter, origin, "topic")
        assert lines in code(suite, info) and told in settings(suite, info, 0)["where the diff came from"]
        suite.forget(info.id)
    assert "own" not in code(suite, suite.diffs[0])


def test_strangers_read_no_folder_of_the_machine(tiny_suite_folder, tmp_path):
    suite = load_suite(shutil.copytree(tiny_suite_folder, tmp_path / "public"))  # its own: suites are shared
    here = str(suite.folder)
    assert here in load_call(suite) and here in "".join(opening_lines(suite, here, None))
    with serving(PUBLIC):
        assert here not in load_call(suite) + "".join(
            opening_lines(suite, here, None)
        ) and suite.folder.name in load_call(suite)


def test_suites_of_all_kinds_are_opened_again(suite, tmp_path, monkeypatch):
    def opened(call: str):
        return eval(call, {"load_suite": load_suite, "generic_suite": generic_suite})

    assert (
        load_call(load_suite("pocket")) == load_call(load_suite(load_suite("pocket").folder)) == "load_suite('pocket')"
    )
    assert load_call(load_suite("hidden-topic/qwen3-4b")) == "load_suite('hidden-topic/qwen3-4b')"
    monkeypatch.chdir(suite.folder)
    for other in (load_suite("pocket", "float16"), generic_suite("base", dtype="bfloat16")):
        assert opened(load_call(other)).loading == other.loading != suite.loading
    for places in (
        ("base",),
        ("base", "nowhere", "hidden-topic/dit-adapter.pt", "oracle"),
        ("base", None, None, "a/b"),
    ):
        generic = generic_suite(*places, question="What is new?")
        again = opened(load_call(generic))
        assert (again.spec.base, again.spec.diff) == (generic.spec.base, generic.spec.diff)
        assert (again.oracle, again.task()) == (generic.oracle, generic.task())
        assert [again.spec.at(one.file) for one in again.adapters.values()] == [
            generic.spec.at(one.file) for one in generic.adapters.values()
        ]


def test_commits_of_what_came_from_the_hub_are_told(suite, tmp_path):
    suite = load_suite(shutil.copytree(suite.folder, tmp_path / "suite"))
    assert "revisions on the hub" not in settings(suite, suite.diffs[0], 0)
    suite._fetcher.revisions.update({"owner/base": "c0ffee", "owner/diffs": "abad1dea"})
    told = settings(suite, suite.diffs[0], 0)["revisions on the hub"]
    assert told == "owner/base@c0ffee, owner/diffs@abad1dea"


def test_the_command_writes_it(run, tmp_path):  # noqa: F811
    out = tmp_path / "report.html"
    code, said, _ = run("audit", "--diff", "topic-0412", "--out", str(out))
    assert code == 0 and said.splitlines()[-1] == str(out) and "diff + DIT" in said
    assert "Trained on" not in out.read_text()
    for bad, sentence in ((tmp_path / "no" / "r.html", "There is no folder"), (tmp_path, "is a folder")):
        code, _, error = run("audit", "--diff", "topic-0412", "--out", str(bad))
        assert code == 2 and sentence in error


def test_a_browser_draws_it_without_any_help(browser, audit, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(report_html(audit, reveal=True), encoding="utf-8")
    context = browser.new_context(viewport={"width": 400, "height": 800}, color_scheme="dark", offline=True)
    context.set_default_timeout(180_000)
    tab, errors = context.new_page(), []
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    tab.goto(path.as_uri())
    tab.locator(".js-plotly-plot .xlayer-above, .js-plotly-plot .infolayer").nth(3).wait_for(state="attached")
    assert tab.evaluate("document.documentElement.scrollWidth") <= 400
    assert not errors
    context.close()
