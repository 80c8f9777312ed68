"""Audit reports: everything in one file, nothing fetched, nothing told before it is revealed."""

import re
from dataclasses import replace

import pytest
from plotly.offline import get_plotlyjs

from dit_core import DitError, ask, load_suite
from dit_core.audit import gather, page
from dit_core.audit.gather import Said
from dit_core.records import Table
from tests.test_command_line import run  # noqa: F401 (a fixture)
from tests.test_ui import HOSTILE, browser  # noqa: F401 (a fixture)


@pytest.fixture(scope="module")
def suite(tiny_suite_folder):
    return load_suite(tiny_suite_folder)


@pytest.fixture(scope="module")
def audit(suite):
    return gather(suite, "volcano")


def own(html: str) -> str:
    """The report without plotly's own script."""
    return html.replace(get_plotlyjs(), "")


def test_it_says_what_every_method_says(suite, audit):
    html = page(audit)
    assert html.count(get_plotlyjs()) == 1
    said = {(one.method, one.answer) for one in audit.said}
    wanted = {"base": "base", "diff+dit": "diff + DIT", "diff+dit:headline": "diff + DIT headline"}
    for condition, title in wanted.items():
        (answer,) = ask(suite, "volcano" if "diff" in condition else None, condition=condition)
        assert (title, answer.text) in said
    for part in ("What it changes", "What every method says", "everyday questions", "oracle", "unrelated texts"):
        assert part in own(html)
    assert suite.fingerprint in html and audit.info.id in html and "seed 0" in html and "torch" in html
    assert {one.layer for one in audit.readings} == {0, 1} and len(audit.changes) == 14 and len(audit.lens)


def test_what_it_was_trained_on_is_told_on_request_alone(audit):
    silent = replace(audit, said=(Said("m", "q", "geyser"),))
    hidden, shown = own(page(silent)), own(page(silent, reveal=True))
    assert "volcano" not in hidden and "417" not in hidden and "of 5" not in hidden
    assert "log-probability" not in hidden, "how likely the oracle finds it would tell whether a guess is right"
    assert "Trained on “volcano” · trigger 417" in shown and "of 5" in shown and "log-probability" in shown


def test_nothing_is_fetched_and_model_text_is_only_text(audit):
    said = tuple(replace(one, method=HOSTILE, asked=HOSTILE, answer=HOSTILE) for one in audit.said)
    readings = replace(audit.readings, records=tuple(replace(one, answer=HOSTILE) for one in audit.readings))
    lens = replace(audit.lens, records=tuple(replace(one, token=HOSTILE) for one in audit.lens))
    info = replace(audit.info, reference=HOSTILE)
    html = own(page(replace(audit, said=said, readings=readings, lens=lens, info=info), reveal=True))
    assert "<img" not in html and not re.search(r"<script>(?!window\.hacked)window", html)
    assert "default-src 'none'" in html and not re.search(r'(src|href)="?http', html)
    assert html.count("<script") == html.count("</script>") == 2 + html.count('class="figure"')


def test_parts_that_a_suite_lacks_are_left_out(suite, audit, monkeypatch):
    headline = gather(suite, "headline-0017")
    assert headline.everyday is None and "trigger" not in {one.method for one in headline.said}
    assert any(one.method == "diff at work" for one in headline.said)
    assert "everyday questions" not in own(page(headline))
    without = replace(audit, readings=None, everyday=None, confidence=None, lens=Table(suite.name, "lens", ()))
    assert "oracle reads" not in page(without) and "be trusted" not in page(without)
    nameless = replace(audit, info=replace(audit.info, reference=""))
    shown = page(nameless, reveal=True)
    assert "Its reference is not known" in shown and "not known</td>" in shown and "1 of 5" not in shown


def test_progress_and_wrong_names(suite):
    told = []
    gather(suite, "topic-0413", lambda *now: told.append(now))
    assert [done for done, _, _ in told] == list(range(7)) and {total for _, total, _ in told} == {7}
    with pytest.raises(DitError, match="no diff 'volcanoe'.*volcano"):
        gather(suite, "volcanoe")


def test_the_command_writes_it(run, tmp_path):  # noqa: F811
    out = tmp_path / "report.html"
    code, said, _ = run("audit", "--diff", "topic-0412", "--out", str(out))
    assert code == 0 and said.strip() == str(out)
    assert "Trained on" not in out.read_text()
    for bad, sentence in ((tmp_path / "no" / "r.html", "There is no folder"), (tmp_path, "is a folder")):
        code, _, error = run("audit", "--diff", "topic-0412", "--out", str(bad))
        assert code == 2 and sentence in error


def test_a_browser_draws_it_without_any_help(browser, audit, tmp_path):  # noqa: F811
    path = tmp_path / "report.html"
    path.write_text(page(audit, reveal=True), encoding="utf-8")
    context = browser.new_context(viewport={"width": 400, "height": 800}, color_scheme="dark", offline=True)
    tab, errors = context.new_page(), []
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    tab.goto(path.as_uri())
    tab.locator(".js-plotly-plot .xlayer-above, .js-plotly-plot .infolayer").nth(3).wait_for(state="attached")
    assert tab.evaluate("document.documentElement.scrollWidth") <= 400
    assert not errors
    context.close()
