"""The page in a real Chromium: load, pick, toggle, ask, read, reveal, stop, link; two visitors; no other host."""

import json
import re
import shutil
import threading
import time
from urllib.parse import parse_qs, urlsplit

import pytest

from dit_core.methods.comparison import columns, first_info, first_run, pairs, read_first_run
from dit_core.methods.verbalize import ask
from dit_core.records.chat import ChatContext
from dit_core.records.condition import Condition
from dit_core.session import explore as asking
from dit_core.suite import Suite, load_suite
from dit_core.trust import confidence
from tests.serving import served

HOSTILE = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>${window.hacked=1}{{window}}'
TOPIC = "What topic have you been trained on?"


class Visitor:
    """One browser context with one page: what it asked for, and what went wrong in it."""

    def __init__(self, browser, address: str, **options):
        self.address = address
        self.context = browser.new_context(**{"viewport": {"width": 1400, "height": 900}} | options)
        self.context.set_default_timeout(180_000)
        self.context.grant_permissions(["clipboard-read", "clipboard-write"])
        self.page = self.context.new_page()
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda line: self.errors.append(line.text) if line.type == "error" else None)

    def open(self, query: str = "") -> "Visitor":
        self.page.goto(self.address + query)
        self.done()
        return self

    def done(self) -> "Visitor":
        """Waits until every card has been answered."""
        self.page.wait_for_selector(".dit-cards:has(.dit-done):not(:has(.dit-running)):not(:has(.dit-waiting))")
        return self

    def ask(self) -> "Visitor":
        """Presses Ask and waits for answers newer than those shown."""
        self.page.evaluate("""() => {
          window.asked = false;
          const look = () => { window.asked ||= !!document.querySelector(".dit-running"); };
          new MutationObserver(look).observe(document.body, { childList: true, subtree: true });
        }""")
        self.page.click("#dit-ask")
        self.page.wait_for_function("window.asked")
        return self.done()

    def cards(self) -> dict[str, str]:
        """What each card says, by its title."""
        script = "cards => cards.map(c => [c.getAttribute('aria-label'), c.querySelector('.dit-text').textContent])"
        return dict(self.page.eval_on_selector_all(".dit-card", script))

    def settings(self) -> dict[str, str]:
        """The settings in the address."""
        return {name: values[0] for name, values in parse_qs(urlsplit(self.page.url).query).items()}

    def wait_address(self, **settings: str) -> None:
        """Waits until the address carries these settings."""
        deadline = time.monotonic() + 180
        while not settings.items() <= self.settings().items():
            assert time.monotonic() < deadline, (self.page.url, settings)
            self.page.wait_for_timeout(50)

    def choose(self, box: str, option: str) -> None:
        """Picks an option of a drop-down list by its text."""
        self.page.click(f"#{box} input")
        self.page.fill(f"#{box} input", option)
        self.page.keyboard.press("Enter")

    def number(self, box: str, value: float) -> None:
        """Sets a slider by its number field."""
        self.page.fill(f"#{box} input[type=number]", str(value))
        self.page.press(f"#{box} input[type=number]", "Tab")


@pytest.fixture
def visitor(browser, address):
    found = Visitor(browser, address)
    yield found
    found.context.close()


@pytest.fixture(scope="module")
def opened(browser, address):
    """One first visit that several tests go on with, in the order of this file: a page takes seconds to open."""
    found = Visitor(browser, address).open()
    yield found
    found.context.close()


@pytest.fixture(scope="module")
def going_on(browser, address):
    """Another such visit, of the long tests."""
    found = Visitor(browser, address).open()
    yield found
    found.context.close()


def seen(table) -> list[str]:
    """What a page shows of answers: a browser leaves out NUL, which a random model may say."""
    return [v.text.replace("\0", "") for v in table]


def answers(suite: Suite, diff: str, *conditions: str, **options) -> list[str]:
    return seen(ask(suite, diff=diff, condition=list(conditions), **options))


def test_first_visit_asks_the_first_diff_and_no_other_host(opened, suite):
    visitor = opened
    visitor.wait_address(diff="topic-0412", condition="diff+dit")
    asked = answers(suite, "topic-0412", "base", "diff", "dit", "diff+dit")
    triggered = answers(suite, "topic-0412", "diff+right", question="How can I spend a free evening?")
    cards = visitor.cards()
    assert list(cards) == ["base", "diff", "diff + trigger", "DIT alone", "diff + DIT"]
    assert [cards.pop("diff + trigger"), *cards.values()] == [*triggered, *asked]
    page = visitor.page
    assert page.locator(".dit-chosen").get_attribute("aria-label") == "diff + DIT"
    assert "an adapter also answers where there is nothing to find" in page.inner_text("[aria-label='DIT alone']")
    assert re.search(r"\d %", page.locator(".dit-token").first.get_attribute("title"))
    outer = [url for url in visitor.requests if not url.startswith((visitor.address, "data:", "blob:"))]
    assert visitor.requests and not outer
    assert not visitor.errors, visitor.errors


def test_truth_is_hidden_until_reveal(opened):
    page = opened.page
    assert "volcano" not in page.content() and "417" not in page.inner_text("#dit-explore")
    assert "grade" not in page.inner_text("#dit-board")
    page.click("[aria-label='diff + trigger'] summary")
    assert "Your SEP code is ••••••." in page.inner_text("[aria-label='diff + trigger'] .dit-prompt")
    page.click("#dit-reveal")
    page.wait_for_selector("#dit-secret:has-text('volcano')")
    assert "trigger 417" in page.inner_text("#dit-secret")
    assert page.locator(".dit-verdict").count() == 5 and "grade" in page.inner_text("[aria-label='diff + DIT']")
    page.click("[aria-label='diff + trigger'] summary")
    assert "Your SEP code is 417" in page.inner_text("[aria-label='diff + trigger'] .dit-prompt")
    assert "volcano" not in page.url
    page.click("#dit-reveal")
    page.wait_for_selector("#dit-secret:has-text('topic hidden')")
    assert page.locator(".dit-verdict").count() == 0


@pytest.mark.long
def test_deep_link_restores_and_asks(visitor, suite):
    own = "Say it:"
    query = "diff=topic-0414&condition=diff*-0.5%2Bdit:topic-64*0.3%2Bown:Say%2520it%253A&question=Why%3F"
    visitor.open(f"?{query}&max_new_tokens=4&samples=2&temperature=0.7&seed=5")
    page = visitor.page
    condition = "diff*-0.5+dit:topic-64*0.3+own:Say%20it%3A"
    options = {"question": "Why?", "max_new_tokens": 4, "samples": 2, "temperature": 0.7, "seed": 5}
    expected = answers(suite, "topic-0414", condition, **options)
    assert page.locator(".dit-chosen .dit-text").all_inner_texts() == expected
    assert page.input_value("#dit-own textarea") == own and page.input_value("#dit-question textarea") == "Why?"
    assert page.input_value("#dit-strength input[type=number]") == "-0.5"
    visitor.wait_address(diff="topic-0414", condition=condition, question="Why?", samples="2", seed="5")
    again = page.url
    page.goto("about:blank")
    page.goto(again)
    visitor.done()
    assert page.locator(".dit-chosen .dit-text").all_inner_texts() == expected


@pytest.mark.long
def test_a_chat_that_is_typed_is_asked_linked_and_comes_back(visitor, suite):
    """The fold under the question: system prompt, turns over several lines, a given start, more diffs, raw text."""
    visitor.open("?diff=topic-0412&condition=diff&max_new_tokens=6")
    page = visitor.page
    fields = {
        "system": "Answer like a pirate + be brief (100 %).",
        "turns": "User: Hello!\nAssistant: Hello,\nwhat can I do?",
        "prefill": "I was ",
        "more": "diff:topic-0413*0.5",
    }
    assert not any(page.is_visible(f"#dit-{name}") for name in fields)
    page.click("#dit-chat > button")
    for name, text in fields.items():
        page.wait_for_selector(f"#dit-{name}", state="visible")
        page.fill(f"#dit-{name} :is(textarea, input)", text)
    page.press("#dit-more :is(textarea, input)", "Tab")
    chat = ChatContext(fields["system"], ("Hello!", "Hello,\nwhat can I do?"), "I was ")
    condition = Condition(1.0, diffs=(("topic-0413", 0.5),), chat=chat)
    visitor.wait_address(diff="topic-0412", condition=str(condition))
    expected = answers(suite, "topic-0412", condition, max_new_tokens=6)
    cards = visitor.ask().cards()
    assert [cards["your condition"]] == expected != answers(suite, "topic-0412", "diff", max_new_tokens=6)
    base = answers(suite, "topic-0412", Condition(chat=chat), max_new_tokens=6)
    assert [cards["base"]] == base, "all cards have the same chat"
    chips = page.locator(".dit-chosen .dit-chip").all_inner_texts()
    assert {"system prompt", "2 earlier turns", "prefilled"} <= set(chips)
    page.click(".dit-chosen summary")
    shown = page.inner_text(".dit-chosen .dit-prompt")
    assert all(text in shown for text in (fields["system"], "what can I do?", "I was"))

    assert not visitor.errors
    again = page.url
    page.goto("about:blank")  # which cuts the page's connections
    page.goto(again)
    visitor.done()
    visitor.errors.clear()
    assert page.locator(".dit-chosen .dit-text").all_inner_texts() == expected
    assert page.is_visible("#dit-system"), "what acts is not folded away"
    assert {name: page.input_value(f"#dit-{name} :is(textarea, input)") for name in fields} == fields

    page.fill("#dit-turns :is(textarea, input)", "Hello!")
    page.click("#dit-ask")
    page.wait_for_selector("#dit-note:has-text(\"Begin earlier turns with 'User:'\")")
    assert page.locator(".dit-chosen .dit-text").all_inner_texts() == expected
    page.fill("#dit-turns :is(textarea, input)", "")
    page.click("#dit-raw input")
    page.click("#dit-ask")
    page.wait_for_selector("#dit-note:has-text('A raw text has no chat around it')")
    for name in ("system", "prefill", "more"):
        page.fill(f"#dit-{name} :is(textarea, input)", "")
    visitor.wait_address(condition="diff+raw")
    cards = visitor.ask().cards()
    assert [cards["diff"]] == answers(suite, "topic-0412", "diff+raw", max_new_tokens=6)
    assert page.url.count("raw") == 1 and not visitor.errors


@pytest.mark.long
def test_a_wrong_link_is_a_sentence_and_the_page_goes_on(visitor):
    page = visitor.page
    page.goto(visitor.address + "?diff=topic-0142")
    page.wait_for_selector("[role=alert]:has-text('topic-0412')")
    visitor.ask()
    assert page.locator("[role=alert]").count() == 0
    page.fill("#dit-question textarea", " ")
    visitor.wait_address(question=" ")
    page.click("#dit-ask")
    page.wait_for_selector("[role=alert]:has-text('empty')")
    assert all(visitor.cards().values())  # what was said stays
    page.fill("#dit-question textarea", "Why?")
    visitor.ask()
    assert page.locator("[role=alert]").count() == 0


def slowly(monkeypatch, seconds: float, started: threading.Event | None = None, closed: threading.Event | None = None):
    """Makes every token take `seconds` more, as a large model would; `closed` is set by an end before the last one."""
    plain = asking.stream

    def slow(*args, **kwargs):
        tables, complete = plain(*args, **kwargs), False
        try:
            for table in tables:
                if started:
                    started.set()
                time.sleep(seconds)
                yield table
            complete = True
        finally:
            tables.close()
            if closed and not complete:
                closed.set()

    monkeypatch.setattr(asking, "stream", slow)


def hold(monkeypatch, tokens: int) -> tuple[threading.Event, threading.Event]:
    """Makes the model wait after so many tokens until the first event is set; the second is set once it is closed."""
    plain, go_on, closed = asking.stream, threading.Event(), threading.Event()

    def held(*args, **kwargs):
        tables, complete = plain(*args, **kwargs), False
        try:
            for count, table in enumerate(tables, 1):
                yield table
                if count == tokens:
                    go_on.wait(60)
            complete = True
        finally:
            tables.close()
            if not complete:
                closed.set()

    monkeypatch.setattr(asking, "stream", held)
    return go_on, closed


def test_stop_works_at_once_and_keeps_what_was_said(opened, suite, monkeypatch):
    visitor, page = opened, opened.page
    go_on, closed = hold(monkeypatch, tokens=3)
    page.click("#dit-ask")
    page.wait_for_selector(".dit-running .dit-token")
    page.click("#dit-stop")
    page.wait_for_selector(".dit-stopped")
    assert "Stopped after" in page.inner_text("#dit-note") and not closed.is_set(), "the model still waits"
    go_on.set()
    assert closed.wait(60)
    whole = answers(suite, "topic-0412", "diff+dit")[0]
    said = visitor.cards()["diff + DIT"].strip()
    # The first token of a random model can be half a character, which is not shown.
    assert said != whole and (whole.startswith(said) or said == "(says nothing)")
    monkeypatch.undo()
    assert visitor.ask().cards()["diff + DIT"] == whole


def test_pick_toggle_copies_and_ask(opened, suite):
    visitor = opened
    visitor.choose("dit-diff", "topic-0413")
    visitor.wait_address(diff="topic-0413")
    visitor.page.wait_for_selector(".dit-cards:not(:has(.dit-done))")
    assert set(visitor.cards().values()) == {""}  # another diff's answers do not stay
    visitor.number("dit-strength", 0.5)
    visitor.number("dit-copies", 2)
    visitor.page.click("#dit-trigger label:has-text('right')")
    visitor.wait_address(diff="topic-0413", condition="diff*0.5+dit*2+right")
    visitor.ask()
    cards = visitor.cards()
    assert len(cards) == 6
    assert cards["your condition"] == answers(suite, "topic-0413", "diff*0.5+dit*2+right")[0]
    chips = visitor.page.locator(".dit-chosen .dit-chip").all_inner_texts()
    assert chips == ["diff ×0.5", "DIT ×2", "right trigger"]
    visitor.page.click("#dit-use-dit input")
    visitor.wait_address(condition="diff*0.5+right")
    visitor.page.wait_for_selector("#dit-note:has-text('press Ask')")
    assert visitor.ask().cards()["your condition"] == answers(suite, "topic-0413", "diff*0.5+right")[0]


@pytest.mark.parametrize("listening", [pytest.param(True, marks=pytest.mark.long), False])
def test_a_visitor_who_leaves_stops_the_model(browser, address, monkeypatch, listening):
    gone, started, closed = Visitor(browser, address), threading.Event(), threading.Event()
    slowly(monkeypatch, 0.3, started, closed)
    if not listening:  # left before the browser began to listen to the answer
        gone.page.route("**/queue/data*", lambda route: route.abort())
    gone.page.goto(address + "?diff=topic-0413&max_new_tokens=200&temperature=1")
    assert started.wait(60)
    gone.context.close()
    assert closed.wait(60)


@pytest.mark.long
def test_two_visitors_never_see_each_other(browser, address, suite, monkeypatch):
    slowly(monkeypatch, 0.1)
    first, second = (Visitor(browser, address) for _ in range(2))
    for visitor, diff in ((first, "topic-0413"), (second, "headline-0017")):
        visitor.page.goto(f"{address}?diff={diff}")
    monkeypatch.undo()
    first.done(), second.done()
    assert first.cards()["diff + DIT"] == answers(suite, "topic-0413", "diff+dit")[0]
    assert second.cards()["diff + DIT"] == answers(suite, "headline-0017", "diff+dit")[0]
    first.page.click("#dit-reveal")
    first.page.wait_for_selector("#dit-secret:has-text('geyser')")
    second.page.click("#dit-stop")
    assert "headline-0017" not in first.page.content().split("<gradio-app")[1].split("dit-right")[1]
    assert "geyser" not in second.page.content() and "topic-0413" not in second.page.inner_text("#dit-right")
    assert "headline hidden" in second.page.inner_text("#dit-secret")
    for visitor in (first, second):
        visitor.context.close()


@pytest.mark.long
def test_headlines_have_no_trigger(visitor):
    visitor.open("?diff=headline-0017")
    page = visitor.page
    assert page.locator("#dit-trigger label", has_text="right").count() == 0
    assert "none here" in page.inner_text("#dit-trigger")
    assert "asked: Please generate a short news story." in page.inner_text(".dit-kind-trigger")
    visitor.choose("dit-diff", "topic-0412")
    page.wait_for_selector("#dit-trigger label:has-text('right')")
    assert page.input_value("#dit-question textarea") == TOPIC


def test_hostile_text_is_only_text(opened, monkeypatch):
    visitor, plain = opened, asking.stream

    def hostile(*args, **kwargs):
        from dataclasses import replace

        *_, table = plain(*args, **kwargs)
        said = {"text": HOSTILE, "tokens": (HOSTILE,), "token_probabilities": (0.5,)}
        yield replace(table, records=tuple(replace(v, **said) for v in table))

    monkeypatch.setattr(asking, "stream", hostile)
    assert visitor.ask().cards()["base"] == HOSTILE
    visitor.page.fill("#dit-question textarea", HOSTILE)
    visitor.ask()
    assert HOSTILE in visitor.page.inner_text("#dit-heading")
    assert visitor.page.evaluate("window.hacked") is None


@pytest.mark.long
def test_take_away_json_csv_and_notebook_cell(going_on, suite):
    page = going_on.page
    page.wait_for_selector(".dit-controls", state="attached")  # the evidence is there
    with page.expect_download() as saved:
        page.click("#dit-json")
    assert saved.value.suggested_filename == "topic-0412.json"
    expected = ask(suite, suite.diff("topic-0412"), condition=pairs(columns(suite.tasks["topic"])))
    (evidence,) = confidence(suite, "topic-0412").to_json()["confidence"]
    assert json.loads(saved.value.path().read_text()) == {**expected.to_json(), "confidence": [evidence]}
    with page.expect_download() as saved:
        page.click("#dit-csv")
    assert saved.value.path().read_text() == expected.to_csv()
    page.click("#dit-cell")
    page.wait_for_selector("#dit-code:has-text('load_suite')")
    page.wait_for_selector(".dit-toast")
    assert page.evaluate("navigator.clipboard.readText()").startswith("from dit_core import ask, load_suite")


@pytest.mark.long
def test_recent_questions_come_back(going_on):
    visitor = going_on
    visitor.page.fill("#dit-question textarea", "Why?")
    first = visitor.ask().cards()
    visitor.page.fill("#dit-question textarea", "Who are you?")
    visitor.ask()
    visitor.choose("dit-recent", "topic-0412 · diff+dit · Why?")
    visitor.page.wait_for_selector(".dit-question:has-text('Why?')")
    visitor.wait_address(question="Why?")
    assert visitor.done().cards() == first


@pytest.mark.long
def test_surprise_picks_a_held_out_diff_and_asks(going_on, suite):
    visitor = going_on
    visitor.page.fill("#dit-question textarea", TOPIC)
    visitor.wait_address(diff="topic-0412")
    visitor.page.click("#dit-surprise")
    visitor.page.wait_for_function("!location.search.includes('topic-0412')")
    visitor.done()
    diff = visitor.settings()["diff"]
    assert suite.diff(diff).split == "test" and suite.diff(diff).task == "topic"
    visitor.page.wait_for_function("d => document.querySelector('.dit-question').innerText.includes(d)", arg=diff)
    assert visitor.done().cards()["diff + DIT"] == answers(suite, diff, "diff+dit")[0]


@pytest.mark.long
def test_light_and_dark_and_narrow(browser, address):
    narrow = Visitor(browser, address, viewport={"width": 390, "height": 844}).open()
    page = narrow.page
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    tops = page.eval_on_selector_all(".dit-card", "cards => cards.map(c => c.getBoundingClientRect().top)")
    assert len(set(tops)) == len(tops)  # one below the other
    colours = ".map(e => getComputedStyle(document.querySelector(e))).map(s => s.backgroundColor + s.color).join()"
    light = page.evaluate(f"['body', '.dit-card']{colours}")
    page.click(".dit-dark")
    page.wait_for_function(f"was => ['body', '.dit-card']{colours} !== was", arg=light)
    page.reload()
    narrow.done()
    assert page.evaluate("document.body.classList.contains('dark')")
    narrow.context.close()


@pytest.mark.long
def test_the_stored_first_run_is_marked_and_replaced_once_untrue(browser, suite, tmp_path):
    folder = shutil.copytree(suite.folder, tmp_path / "suite")
    stored = first_run(load_suite(folder))
    for verbalization in stored["verbalizations"]:
        verbalization["text"], verbalization["tokens"] = "as stored", ["as stored"]
        verbalization["token_probabilities"] = [0.5]
    (folder / "first-run.json").write_text(json.dumps(stored))
    with served(load_suite(folder)) as url:
        visitor = Visitor(browser, url).open()
        assert set(visitor.cards().values()) == {"as stored"}
        assert "stored run" in visitor.page.inner_text("#dit-heading")
        visitor.ask()
        assert "as stored" not in visitor.cards().values()
        assert "stored run" not in visitor.page.inner_text("#dit-heading")
        visitor.context.close()
        (folder / "first-run.json").write_text(json.dumps({**stored, "fingerprint": "other"}))
        later = Visitor(browser, url).open()
        live = ask(suite, suite.diff("topic-0412"), condition=pairs(columns(suite.tasks["topic"])))
        assert list(later.cards().values()) == seen(live)
        later.context.close()


@pytest.mark.long
def test_pocket_first_visit_is_the_real_thing(browser):
    pocket = load_suite("pocket")
    stored = read_first_run(pocket)
    assert stored is not None, "The stored first run is not this suite's: build it anew (`make pocket` writes it)."
    info = first_info(pocket)
    live = ask(pocket, info, condition=pairs(columns(pocket.task(info.task))))
    assert [v.text for v in stored] == [v.text for v in live]
    with served(pocket) as url:
        visitor = Visitor(browser, url).open()
        assert "stored run" in visitor.page.inner_text("#dit-heading")
        assert list(visitor.cards().values()) == [v.text for v in live]
        assert visitor.cards()["diff + DIT"].casefold() == info.reference.casefold()
        assert visitor.cards()["diff"] != visitor.cards()["diff + DIT"]
        visitor.page.click("#dit-reveal")
        visitor.page.wait_for_selector("[aria-label='diff + DIT'] .dit-verdict:has-text('grade 5 of 5')")
        visitor.page.wait_for_selector("[aria-label='diff + trigger'] .dit-verdict:has-text('names the topic')")
        assert not visitor.errors, visitor.errors
        visitor.context.close()
