"""Many clients at once, and what goes wrong on a server: nobody gets another's answer, nothing goes on for nobody."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from dit_core.engine.batching import BatchSize, batch_size
from dit_core.methods.comparison import columns, pairs
from dit_core.methods.oracle import read
from dit_core.methods.verbalize import ask, stream
from dit_core.records.condition import Condition
from dit_core.session.job import QueuePosition, follow
from dit_core.session.settings import Settings
from dit_core.session.visit import Visit
from dit_core.suite import Suite, load_suite
from dit_core.suite.limits import serving
from dit_core.ui.tabs.explore.events import Events
from tests.forward_passes import before_each_pass
from tests.serving import free_port, served
from tests.test_ui import Visitor

ROOT = Path(__file__).resolve().parent.parent
CONDITIONS = ["base", "diff", "dit", "diff+dit", "diff*0.5+dit*2", "diff+right"]


# ---------------------------------------------------------------- many at once


def requests(suite: Suite, seed: int, count: int) -> list[tuple[str, str, dict]]:
    """Mixed requests: (endpoint, diff, options)."""
    chance = random.Random(seed)
    found = []
    for _ in range(count):
        info = chance.choice([d for d in suite.diffs if d.task == "topic"])
        chosen = chance.sample(CONDITIONS, chance.randint(1, 3))
        if chance.random() < 0.25:
            found.append(("/oracle", info.id, {"conditions": chosen, "layers": str(chance.randint(0, 1))}))
        else:
            warm = chance.random() < 0.4
            sampling = {"temperature": 1.0, "samples": 2, "seed": chance.randint(0, 99)} if warm else {}
            found.append(("/ask", info.id, {"conditions": chosen, "max_new_tokens": chance.randint(1, 20), **sampling}))
    return found


def alone(suite: Suite, endpoint: str, diff: str, options: dict) -> dict:
    """What the same request gives in Python, where nobody else asks."""
    options = dict(options)
    given = {"diff": diff, "condition": options.pop("conditions"), **options}
    if endpoint == "/oracle":
        return read(suite, **given).to_json()
    return ask(suite, **given).to_json()


def plain(answer: dict) -> list[dict]:
    """The records of an answer in an order of their own: a table's records may be ordered by column or by layer."""
    records = answer.get("verbalizations") or answer["readings"]
    return sorted(records, key=lambda r: (r["condition"], r.get("layer", 0), r["sample"]))


def load(suite: Suite, address: str, clients: int, each: int) -> list[tuple[tuple, dict]]:
    """All requests of all clients at once, each with its answer."""
    from gradio_client import Client

    def visit(seed: int) -> list[tuple[tuple, dict]]:
        client = Client(address, verbose=False, httpx_kwargs={"timeout": 120})
        wanted = requests(suite, seed, each)
        return [(one, client.predict(one[1], **one[2], api_name=one[0])) for one in wanted]

    with ThreadPoolExecutor(clients) as pool:
        return [one for answers in pool.map(visit, range(clients)) for one in answers]


def check(suite: Suite, found: list[tuple[tuple, dict]]) -> None:
    for (endpoint, diff, options), answer in found:
        assert {record["diff"] for record in plain(answer)} == {diff}
        mine, theirs = plain(answer), plain(alone(suite, endpoint, diff, options))
        assert mine == theirs, (endpoint, diff, options)


def test_each_of_many_gets_what_it_would_get_alone(suite, address):
    check(suite, load(suite, address, clients=6, each=3))


# A server that, when told so, gives back all memory that it can, and prints how many bytes it still holds.
MEASURED = """
import signal, sys
import app, psutil
from dit_core.suite.base import release_memory

def measure(*_):
    release_memory()
    print("held", psutil.Process().memory_info().rss, flush=True)

signal.signal(signal.SIGUSR1, measure)
sys.exit(app.main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_sixteen_clients_and_memory_is_given_back(suite):
    port = free_port()
    # In a process of its own, where no client's memory counts; with one arena, as free blocks of many stay unseen.
    app = begin(suite, port, MEASURED, MALLOC_ARENA_MAX="1")
    try:
        found, held = [], []
        for _ in range(2):  # what is kept for good is there after the first
            found = load(suite, f"http://127.0.0.1:{port}/", clients=16, each=10)
            held.append(held_by(app))
    finally:
        app.kill()
        app.wait()
    assert len(found) == 160
    check(suite, found)
    # Two were measured, of 560. Gradio's copy of the page for a client takes 0.6: sixteen of them would show.
    assert held[1] - held[0] < 5_000_000, f"{(held[1] - held[0]) / 1e6:.1f} MB more"


def held_by(app: subprocess.Popen) -> int:
    """Bytes that a MEASURED server holds: the least, as it takes seconds until clients are seen to have gone."""
    found: list[int] = []
    while len(found) < 2 or found[-1] < found[-2]:
        time.sleep(2)
        app.send_signal(signal.SIGUSR1)
        found.append(int(next(line for line in app.stdout if line.startswith(b"held")).split()[1]))
    return min(found)


PLAIN = "import sys, app; sys.exit(app.main(sys.argv[1:]))"


def begin(suite: Suite, port: int, code: str = PLAIN, **own: str) -> subprocess.Popen:
    """The page in a process of its own, by `code`; `own` are variables of its environment."""
    command = [sys.executable, "-c", code, "--suite", str(suite.folder), "--port", str(port)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | own
    app = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE)
    app.stdout.readline()
    return app


# ---------------------------------------------------------------- the line


@contextmanager
def slow_steps(suite: Suite, seconds: float):
    """Every step of a generation takes so long; gives a list that grows by one with each."""
    with before_each_pass(suite, lambda rows: time.sleep(seconds)) as taken:
        yield taken


def test_a_visitor_sees_their_place_in_the_line(suite):
    """Two others are before them: one is answered, one waits; then the answers come."""
    events, session = Events(suite, ""), Visit()
    info, others = suite.diff("topic-0412"), []
    settings = Settings.for_diff(suite, "topic-0412")
    with slow_steps(suite, 0.02):
        for client in "ab":
            with serving(client=client):
                answers = stream(suite, info, condition=pairs(columns(suite.task("topic"))), max_new_tokens=20)
                others.append(follow(answers, Visit().stop))
        next(others[0])
        with serving(client="b"):
            waiting = suite.worker.stream(lambda: iter([1]))
        with serving(client="visitor"):
            notes = [shown["note"] for shown in events.ask(session, vars(settings))]
    assert "2 requests before yours" in " ".join(notes) and list(waiting) == [1]
    assert "token 1 of" in " ".join(notes) or "token 2 of" in " ".join(notes)
    assert len(session.result.table) == 5
    for other in others:
        other.close()


def test_a_place_is_given_only_before_the_first_item(suite):
    stop = Visit().stop
    assert str(QueuePosition(1)) == "1 request before yours…" and str(QueuePosition(3)) == "3 requests before yours…"
    assert list(follow((n for n in [7]), stop, worker=suite.worker)) == [7]


# ---------------------------------------------------------------- gone


def wait_until(condition, seconds: float = 120.0) -> None:
    """Waits for a condition; `seconds` only keep a broken test from waiting for ever."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    assert condition()


CLIENT = """
import sys
from gradio_client import Client
client = Client(sys.argv[1], verbose=False)
print(client.session_hash, flush=True)
client.predict("topic-0412", ["base"], max_new_tokens=400, api_name="/ask")
print("answered", flush=True)
"""


def test_a_client_that_is_gone_stops_the_model(suite, address):
    with slow_steps(suite, 0.05) as taken:
        client = subprocess.Popen([sys.executable, "-c", CLIENT, address], stdout=subprocess.PIPE, text=True)
        client.stdout.readline()
        wait_until(lambda: len(taken) >= 5)
        client.send_signal(signal.SIGKILL)
        client.wait()
        # The next job begins only when this generation has ended: stopped, or after its 400 steps.
        suite.worker.run(lambda: None)
        assert 5 <= len(taken) < 300


def test_a_late_heartbeat_stops_nothing(suite, address):
    """Gradio takes a client for gone whose heartbeat's connection ends; it may still wait for its answer."""
    from gradio_client import Client

    client = Client(address, verbose=False)
    with slow_steps(suite, 0.05) as taken, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(client.predict, "topic-0412", ["base"], max_new_tokens=60, api_name="/ask")
        while len(taken) < 3 and not answer.done():
            time.sleep(0.02)
        with urllib.request.urlopen(f"{address}gradio_api/heartbeat/{client.session_hash}", timeout=30) as beat:
            beat.readline()
        said = answer.result()
    assert said == ask(suite, diff="topic-0412", condition="base", max_new_tokens=60).to_json()


# ---------------------------------------------------------------- memory


def largest_batch(suite) -> BatchSize:
    """The size of answers' batches, as before anything did not fit."""
    size = batch_size(suite.worker.run(lambda: suite.model), "answers", 512)
    size.rows = 512
    return size


def test_out_of_memory_halves_the_batch_and_goes_on(suite):
    asked = {"diff": "topic-0412", "condition": CONDITIONS, "samples": 2, "temperature": 1.0}
    expected = ask(suite, **asked)
    size = largest_batch(suite)

    def little_memory(rows):
        if rows[-1] > 4 and len(rows) != 1:  # after the first step: answers that have begun begin anew
            raise torch.OutOfMemoryError("CUDA out of memory.")

    with before_each_pass(suite, little_memory) as rows:
        found = ask(suite, **asked)
    assert [(v.condition, v.sample, v.tokens) for v in found] == [(v.condition, v.sample, v.tokens) for v in expected]
    for mine, theirs in zip(found, expected, strict=True):
        # Rounding depends on how many rows a batch has.
        assert mine.token_probabilities == pytest.approx(theirs.token_probabilities, rel=1e-4)
    assert size.rows == 3 and max(rows) == 12


def test_a_row_that_does_not_fit_is_a_sentence_and_the_server_goes_on(suite, address):
    from gradio_client import Client

    client = Client(address, verbose=False)
    size = largest_batch(suite)

    def no_memory(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    sentence = "Memory does not suffice for a single row"
    with before_each_pass(suite, no_memory), pytest.raises(Exception, match=sentence):
        client.predict("topic-0412", ["base"], api_name="/ask")
    size.rows = 512
    assert client.predict("topic-0412", ["base"], api_name="/ask")["verbalizations"]


# ---------------------------------------------------------------- a base that can't be loaded, a server that dies


@pytest.fixture
def broken(suite, tmp_path) -> Suite:
    """A suite whose base is half there."""
    folder = shutil.copytree(suite.folder, tmp_path / "broken")
    for file in (folder / "base").glob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:1000])
    return load_suite(folder)


def test_a_base_that_cannot_be_loaded_is_named_and_the_page_stays(broken, suite):
    from gradio_client import Client

    for _ in range(2):
        *_, last = Events(broken, "").ask(Visit(), vars(Settings.for_diff(broken, "topic-0412")))
        note, cards = last["note"], last["cards"]
        assert 'role="alert"' in note and "be loaded: get its files anew" in note and "dit-waiting" in cards
    with served(broken) as address:
        client = Client(address, verbose=False)
        for _ in range(2):
            with pytest.raises(Exception, match="base .*can't be loaded"):
                client.predict("topic-0412", ["base"], api_name="/ask")
        assert client.predict("topic", "test", api_name="/diffs")["diffs"]
        with urllib.request.urlopen(address, timeout=30) as page:
            assert b"DIT Explorer" in page.read()
    assert ask(suite, diff="topic-0412", condition="base"), "other suites work"


# A server where every token takes its time.
SLOW = """
import sys, time
import app
from dit_core.engine.generation import Batch
forward = Batch.forward
Batch.forward = lambda self, *given: time.sleep(0.1) or forward(self, *given)
sys.exit(app.main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_page_finds_its_killed_server_again_and_shows_what_its_address_says(suite, browser):
    port = free_port()
    app = begin(suite, port, SLOW)
    try:
        visitor = Visitor(browser, f"http://127.0.0.1:{port}/")
        query = "?diff=topic-0413&condition=diff*0.5%2Bdit*2&temperature=1&max_new_tokens=60&seed=3"
        visitor.page.goto(visitor.address + query)
        visitor.page.wait_for_selector(".dit-running .dit-token", state="attached")
        app.kill()
        app.wait()
        visitor.page.evaluate("document.querySelector('.dit-cards').dataset.old = 1")
        app = begin(suite, port, SLOW)
        visitor.page.wait_for_selector(".dit-cards:not([data-old])", timeout=120_000)  # by itself
        visitor.wait_address(diff="topic-0413", condition="diff*0.5+dit*2", seed="3", max_new_tokens="60")
        assert visitor.done().page.input_value("#dit-diff input") == "topic-0413"
        settings = Settings("topic-0413", temperature=1.0, max_new_tokens=60, seed=3)
        chosen = Condition.parse("diff*0.5+dit*2")
        info = suite.diff("topic-0413")
        expected = ask(suite, info, condition=pairs(columns(suite.task("topic"), chosen=chosen)), **settings.sampling)
        last = [v.text for v in expected if v.condition == str(chosen)]
        shown = visitor.page.locator(".dit-chosen .dit-text").all_text_contents()
        assert shown == [text.replace("\0", "").replace("\r", "\n") for text in last]  # as a browser reads HTML
    finally:
        app.kill()
        app.wait()
