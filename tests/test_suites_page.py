"""Another suite from the page: told what it takes, opened beside the first one, or refused in a sentence."""

import shutil
import threading
import time
import urllib.error
import urllib.request
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from dit_core import DitError, ask, load_suite, read
from dit_core.hub import parse_source, watch_downloads
from dit_core.methods.comparison import first_info
from dit_core.session.visit import Visit
from dit_core.suite import Suite
from dit_core.suite import catalog as finding
from dit_core.suite import suite as whole
from dit_core.suite.limits import OPEN, PUBLIC, serving
from dit_core.suite.user_diffs import bring_source
from dit_core.ui import page
from dit_core.ui.server.site import Site
from dit_core.ui.server.suite_opener import Cancelled, Opening
from dit_core.ui.tabs.explore.suite_choice import SuiteEvents
from tests.hub_artefacts import BASES, LORAS, ORACLES, write_hub
from tests.hub_server import connect, running
from tests.serving import served
from tests.test_hub import anew
from tests.test_ui import Visitor

QWEN = "hidden-topic/qwen3-1.7b"
BASE = BASES["qwen3-1.7b"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return write_hub(tmp_path_factory.mktemp("hub"), ("qwen3-1.7b",))


@pytest.fixture
def hub(folders, tmp_path, monkeypatch):
    """A hub with one base and its diffs, and a client with an empty cache that knows it."""
    with running() as hub:
        for repo, folder in folders.items():
            hub.publish(repo, folder)
        connect(monkeypatch, hub.url, tmp_path / "cache")
        anew()
        yield hub
        anew()


@pytest.fixture
def events(suite) -> SuiteEvents:
    """The events of a page whose server never runs: what is opened is not shown."""
    site = Site(suite, OPEN, lambda *_: None, dict)
    site._show = lambda name, suite: site._pages.update({name: suite})
    return SuiteEvents(site, suite)


def last(steps) -> tuple:
    *_, found = steps
    return found


def answers(suite: Suite) -> list[str]:
    return [one.text for one in ask(suite, first_info(suite), condition=["base", "diff+dit"], max_new_tokens=4)]


# ---------------------------------------------------------------- told before


def test_what_a_suite_takes_is_told_and_nothing_large_is_fetched(events, hub, folders):
    told, row, button = last(events.pick(Visit(), QWEN))
    size = sum((folders[BASE] / name).stat().st_size for name in ("model.safetensors", "tokenizer.json"))
    assert "Qwen3-1.7B" in told and "downloads" in told and "needs" in told and "has" in told
    assert button["interactive"]
    assert set(hub.files()) <= {f"{LORAS}/{QWEN}/index.csv", f"{BASE}/config.json"}
    found = load_suite(QWEN).requirements_for(load_suite(QWEN).diff("volcano"))
    loras = folders[LORAS] / QWEN
    beside = [loras / "weight-diffs" / "weight-diff-000.pt", loras / "dit-adapter.pt"]
    assert found.extra_download == sum(path.stat().st_size for path in beside) and found.download > size
    assert found.on_disk == (folders[BASE] / "config.json").stat().st_size


def test_a_suite_of_this_disk_and_the_pages_own_download_nothing(events, suite):
    told, *_, button = last(events.pick(Visit(), "pocket"))
    assert "nothing is downloaded" in told and button["interactive"]
    told, row, _ = last(events.pick(Visit(), suite.name))
    assert told == "" and row["visible"] is False


def test_too_little_memory_or_disk_is_told_before_and_cannot_be_opened(events, hub, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with monkeypatch.context() as patched:
        patched.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=-(10**12)))
        told, _, button = last(events.pick(Visit(), QWEN))
        assert "choose a smaller base" in told and not button["interactive"]
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10))
    told, _, button = last(events.pick(Visit(), QWEN))
    assert "HF_HOME" in told and not button["interactive"]


@pytest.mark.parametrize("fault", ["down", "gated", "missing"])
def test_what_cannot_be_had_is_a_sentence_and_the_page_goes_on(
    events, suite, hub, folders, tmp_path, monkeypatch, fault
):
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
    before, session = answers(suite), Visit()
    if fault == "down":
        hub.down = True
        words = "check the network"
    elif fault == "gated":
        hub.gated.add(BASE)
        words = "HF_TOKEN"
    else:
        hub.publish(BASE, tmp_path)
        words = "none of the files"
    told, _, button = last(events.pick(session, QWEN))
    assert words in told and 'role="alert"' in told
    told, *_, go = last(events.open(session, QWEN))  # as somebody does who is quicker than the network
    assert words in told and go == ""
    assert "inside the program" not in told and answers(suite) == before


def test_a_base_that_cannot_be_loaded_is_a_sentence_and_the_one_before_comes_back(
    events, suite, hub, folders, tmp_path
):
    before = answers(suite)
    spoilt = shutil.copytree(folders[BASE], tmp_path / "spoilt")
    (spoilt / "model.safetensors").write_bytes((spoilt / "model.safetensors").read_bytes()[:-1000])
    hub.publish(BASE, spoilt)
    assert last(events.pick(Visit(), QWEN))[-1]["interactive"]
    told, _, button, go = last(events.open(Visit(), QWEN))
    assert "get its files anew" in told and button["interactive"] and go == ""
    assert not events.site.is_open(QWEN) and answers(suite) == before


# ---------------------------------------------------------------- opened


def test_opening_loads_the_base_and_says_where_the_page_is(events, suite, hub):
    told, _, button, go = last(events.open(Visit(), QWEN))
    assert go == f"./suite/{QWEN}/"
    assert whole._LOADED_BASE.key == load_suite(QWEN)._key
    hub.forget()
    assert answers(load_suite(QWEN)) and not hub.files()
    told, *_, button = last(events.pick(Visit(), QWEN))
    assert "open here already" in told and button["interactive"]
    assert events.site.path(suite.name, QWEN) == "../../../"
    assert events.site.path("pocket", QWEN) == "../../../suite/pocket/"


@pytest.fixture
def held(hub):
    """Holds every download up after its first bytes, until `held.set()`."""
    gate, begun = threading.Event(), threading.Event()

    def hold(done, total, what) -> None:
        begun.set()
        gate.wait(120)

    with watch_downloads(hold):
        gate.begun = begun
        yield gate
        gate.set()


def test_a_download_holds_nobody_up(tiny_suite_folder, held):
    finding._load.cache_clear()
    suite = load_suite(tiny_suite_folder)  # one whose lists nobody has read yet
    other = threading.Thread(target=lambda: answers(load_suite(QWEN)))
    other.start()
    assert held.begun.wait(30)
    assert answers(suite) and not held.is_set() and other.is_alive()
    held.set()
    other.join(60)
    assert whole._LOADED_BASE.key == load_suite(QWEN)._key


def test_an_opening_that_nobody_waits_for_ends(suite, held):
    shown: list[Suite] = []
    with Opening(lambda: load_suite(QWEN), shown.append) as opening:
        opening.begin()
        assert held.begun.wait(30)
    held.set()
    assert opening.over.wait(30) and isinstance(opening.error, Cancelled) and not shown


def test_cancel_ends_the_opening_and_goes_back_to_the_pages_own(events, suite, held):
    session, steps = Visit(), []
    running = threading.Thread(target=lambda: steps.extend(events.open(session, QWEN)))
    running.start()
    assert held.begun.wait(30)
    note, row, _, chosen = events.cancel(session)
    assert "Cancelled" in note and row["visible"] is False and chosen == suite.name
    running.join(30)
    assert steps[-1][-1] == "" and "Cancelled" not in steps[-1][0]  # nobody is sent anywhere, no note comes late
    assert events.cancel(session)[0] == ""


# ---------------------------------------------------------------- on a server


def fetched(address: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(address, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_an_address_opens_what_is_here_and_says_how_to_get_the_rest(suite, hub):
    from gradio_client import Client

    with served(suite) as address:
        status, text = fetched(f"{address}suite/{QWEN}/")
        assert status == 404 and "press Open" in text and "downloads" in text and 'href="../../../"' in text
        assert not [name for name in hub.files() if name.endswith("safetensors")]
        assert "hidden-topic/qwen3-1.7b" in fetched(f"{address}suite/hidden-topic/qwen3-1.7/")[1]
        assert fetched(f"{address}suite/{QWEN}/gradio_api/info")[0] == 404
        assert "gradio_config" in fetched(f"{address}suite/{suite.name}/")[1]  # the first page
        expected = answers(load_suite(QWEN))
        deadline = time.monotonic() + 60
        while "gradio_config" not in (text := fetched(f"{address}suite/{QWEN}/")[1]):
            assert 'http-equiv="refresh"' in text and time.monotonic() < deadline, text
            time.sleep(0.2)
        assert "plotly" in fetched(f"{address}suite/{QWEN}/plotly/plotly.min.js")[1][:2000]
        second, first = Client(f"{address}suite/{QWEN}/", verbose=False), Client(address, verbose=False)
        said = second.predict("topic-0001", ["base", "diff+dit"], max_new_tokens=4, api_name="/ask")
        assert [one["text"] for one in said["verbalizations"]] == expected
        assert first.predict(api_name="/diffs") == suite.diffs.to_json()  # the first page is as it was
        cell = second.predict("topic-0001", api_name="/notebook_cell")
        assert f"load_suite('{QWEN}')" in cell


def test_a_public_server_opens_no_suite_that_it_was_not_started_with(suite, hub):
    with served(suite, limits=PUBLIC) as address:
        status, text = fetched(f"{address}suite/{QWEN}/")
        assert "python app.py --suite" in text and status == 404 and not hub.asked
    site = Site(suite, PUBLIC, lambda *_: None, dict)
    assert [offer.name for offer in site.offers] == [suite.name, "pocket"]
    told, _, button = last(SuiteEvents(site, suite).pick(Visit(), QWEN))
    assert "public server" in told and not hub.asked
    with pytest.raises(DitError, match="public server"):
        site.suite(QWEN)


def test_nor_does_a_visitor_make_it_download_much_by_a_hub_id(suite, hub):
    with serving(replace(PUBLIC, upload_bytes=20_000)):
        with pytest.raises(DitError, match="for a visitor at most"):
            bring_source(suite, BASE)
        with pytest.raises(DitError, match="for a visitor at most"):
            read(suite, condition="base", oracle=ORACLES["qwen3-1.7b"], span="last:1", layers=0)
    assert not [name for name in hub.files() if name.endswith("safetensors")]
    with serving(PUBLIC):
        readings = read(suite, condition="base", oracle=ORACLES["qwen3-1.7b"], span="last:1", layers=0, block=0)
    assert list(readings.extra["revisions"]) == [parse_source(ORACLES["qwen3-1.7b"]).repo]
    assert not suite.revisions  # what one visitor names is not told in the next one's results


def test_the_list_has_all_suites_and_without_a_site_its_own_alone(suite):
    site = Site(suite, OPEN, lambda *_: None, dict)
    names = [offer.name for offer in site.offers]
    assert names[0] == suite.name and len(names) == len(set(names))
    assert set(names[1:]) == {one.name for one in finding.listings()}
    assert sum("Gemma" in offer.label for offer in site.offers) > 8
    lists = [one for one in page.build(suite).blocks.values() if getattr(one, "elem_id", "") == "dit-suite"]
    assert [value for _, value in lists[0].choices] == [suite.name]


@pytest.mark.slow
def test_pick_open_ask_and_come_back_in_the_browser(suite, hub, browser):
    with served(suite) as address:
        visitor = Visitor(browser, address).open()
        web = visitor.page
        mine = visitor.cards()
        visitor.choose("dit-suite", "Qwen3 1.7B: hidden topics")
        web.wait_for_selector("#dit-suite-told:has-text('downloads')")
        assert "Qwen3-1.7B" in web.inner_text("#dit-suite-told")
        web.click("#dit-suite-open")
        web.wait_for_url(f"**/suite/{QWEN}/**")
        visitor.done()
        assert web.get_by_role("tab").count() >= 6 and "Qwen3 1.7B" in web.inner_text("#dit-top")
        other = load_suite(QWEN)
        said = ask(other, first_info(other), condition=["base", "diff", "dit", "diff+dit"])
        cards = visitor.cards()
        shown = [cards[name] for name in ("base", "diff", "DIT alone", "diff + DIT")]
        assert [text.split() for text in shown] == [one.text.replace("\0", "").split() for one in said]
        visitor.choose("dit-suite", "Tiny")
        web.wait_for_selector("#dit-suite-told:has-text('open here already')")
        web.click("#dit-suite-open")
        web.wait_for_url(lambda url: "/suite/" not in url)
        visitor.done()
        # A page that is left while it still listens to its server says so to nobody but the console.
        left = ("signal is aborted", "was aborted", "Connection errored out")
        wrong = [error for error in visitor.errors if not any(what in error for what in left)]
        assert visitor.cards() == mine and not wrong, wrong
        visitor.context.close()
