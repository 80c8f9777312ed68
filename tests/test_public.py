"""A server for strangers: limits with their reasons, no paths, no insides in errors, and a queue that ends."""

import logging
import sys
import threading
import time
import urllib.error
import urllib.request
from dataclasses import replace

import pytest
import torch

import app
from dit_core.engine.worker import Worker
from dit_core.errors import DitError
from dit_core.methods.lens import next_tokens
from dit_core.methods.verbalize import ask
from dit_core.present.cards import DONE
from dit_core.session.visit import Visit
from dit_core.suite.limits import OPEN, PUBLIC, Limits, serving
from dit_core.ui import launch
from dit_core.ui.server import public
from dit_core.ui.tabs.scoreboard import ScoreboardEvents
from dit_core.ui.tabs.scoreboard.view import BY
from tests.serving import served

LIMITS = Limits(tokens=400, waiting=3, upload_bytes=100_000, paths=False)


@pytest.fixture(scope="module")
def limited(suite):
    """The address of a page with the limits."""
    with served(suite, limits=LIMITS) as url:
        yield url


@pytest.fixture
def client(limited):
    from gradio_client import Client

    return Client(limited, verbose=False)


def refused(call, *arguments, **options) -> str:
    """What a call is told."""
    with pytest.raises(Exception) as caught:
        call(*arguments, **options)
    return str(caught.value)


# ---------------------------------------------------------------- the setting


def test_a_space_is_public_by_itself(monkeypatch):
    monkeypatch.delenv("SPACE_ID", raising=False)
    assert public.limits(False) == OPEN and public.limits(True) == PUBLIC
    monkeypatch.setenv("SPACE_ID", "someone/dit-explorer")
    assert public.limits(False) == PUBLIC
    assert (OPEN.upload_bytes, PUBLIC.upload_bytes) == (2_000_000_000, 200_000_000)


@pytest.mark.parametrize(
    ("arguments", "environment", "wanted"),
    [
        ((), {}, OPEN),
        (("--public",), {}, PUBLIC),
        (("--share",), {}, PUBLIC),
        ((), {"GRADIO_SHARE": "true"}, PUBLIC),
        (("--upload-mb", "5"), {"DIT_UPLOAD": "700"}, replace(OPEN, upload_bytes=5_000_000)),
        (("--share",), {"DIT_UPLOAD": "700"}, replace(PUBLIC, upload_bytes=700_000_000)),
    ],
)
def test_what_may_be_asked_follows_the_options(arguments, environment, wanted, monkeypatch):
    for name in ("SPACE_ID", "GRADIO_SHARE", "DIT_UPLOAD"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    chosen = launch.options([*arguments])
    assert launch.server(chosen).limits == wanted
    assert chosen.share == ("--share" in arguments or "GRADIO_SHARE" in environment)


def test_an_upload_of_nothing_is_one_sentence(suite, capsys):
    for size in ("0", "-1"):
        assert app.main(["--suite", str(suite.folder), "--upload-mb", size]) == 2
        assert "DIT_UPLOAD" in capsys.readouterr().err


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "~/adapters/mine",
        "../assets",
        "./x/y",
        "C:\\a\\b",
        "C:/a",
        "file:///etc/passwd",
        "a/../b",
        "a/b/.git",
        "a//b",
        "name",
    ],
)
def test_no_path_is_a_source_on_a_public_server(path):
    assert OPEN.check_source(f" {path} ") == path
    with pytest.raises(DitError, match="no paths"):
        PUBLIC.check_source(path)


def test_a_hub_id_is_a_source_everywhere():
    for id in ("owner-1/my.adapter_2", "owner/name@v1.0", "owner/name@main/a folder/of.it", "owner/name/inside"):
        assert PUBLIC.check_source(f" {id} ") == OPEN.check_source(id) == id


def test_limits_hold_in_python_too_and_give_their_reason(suite):
    with serving(Limits(tokens=100)):
        assert ask(suite, diff="topic-0412", condition=["base", "diff"], max_new_tokens=50)
        with pytest.raises(DitError, match=r"3 answers .* up to 50 tokens, 150 in all, .* 100 per request"):
            ask(suite, diff="topic-0412", condition=["base", "diff", "dit"], max_new_tokens=50)


def test_what_is_only_read_counts_by_the_row(suite):
    with serving(Limits(tokens=2)):
        assert next_tokens(suite, "topic-0412", condition=["base", "diff"])
        with pytest.raises(DitError, match="3 answers .* 2 per request"):
            next_tokens(suite, "topic-0412", condition=["base", "diff", "dit"])


@pytest.mark.long
def test_a_run_of_the_scoreboard_is_bounded_and_keeps_to_what_one_request_may_ask(suite, monkeypatch):
    events, session = ScoreboardEvents(suite, ""), Visit()
    left = {"task": "topic", "axis": next(iter(BY)), "split": "test", "limit": 8, "kinds": ["verbal"]}
    monkeypatch.setattr(suite, "max_new_tokens", 40)  # three diffs answer two questions: 240 tokens, so not at once
    with serving(Limits(tokens=200, run_answers=20)):
        note = list(events.run(session, left))[-1]["note"]
    assert 'role="alert"' in note and "20 per run" in note and "fewer" in note
    assert events.tab.board(session) is None
    with serving(Limits(tokens=200)):
        note = list(events.run(session, left))[-1]["note"]
    assert 'role="alert"' not in note and events.tab.result(session).state == DONE


# ---------------------------------------------------------------- the page


def test_what_is_too_much_is_refused_with_the_reason(client):
    asked = client.predict("topic-0412", ["base", "diff"], max_new_tokens=20, api_name="/ask")
    assert len(asked["verbalizations"]) == 2
    ways = [("/ask", {"max_new_tokens": 300}), ("/ask", {"max_new_tokens": 10, "samples": 50, "temperature": 1.0})]
    for api, options in [*ways, ("/oracle", {"span": "each:prompt"})]:
        told = refused(client.predict, "topic-0412", ["base", "diff"], api_name=api, **options)
        assert "400 per request" in told and "fewer" in told, (api, told)


def test_two_pages_over_one_suite_keep_their_own_limits(client, suite, address):
    """Each refuses what is too much for it alone, whichever was built last."""
    from gradio_client import Client

    def ask_for(tokens: int, where: Client) -> bool:
        try:
            return bool(where.predict("topic-0412", ["base"], max_new_tokens=tokens, api_name="/ask"))
        except Exception as error:
            assert "per request" in str(error)
            return False

    with served(suite, limits=Limits(tokens=4)) as strict:
        pages = [Client(strict, verbose=False), client, Client(address, verbose=False)]
        assert [[ask_for(tokens, page) for page in pages] for tokens in (4, 5, 401)] == [
            [True, True, True],
            [False, True, True],
            [False, False, True],
        ]
    assert ask(suite, condition="base", max_new_tokens=5)  # Python has none of them


@pytest.mark.long
def test_no_endpoint_opens_a_path_that_it_is_given(client, tmp_path):
    secret = tmp_path / "hidden" / "suite.toml"
    secret.parent.mkdir()
    secret.write_text("secret = 1")
    opened, watching = [], [True]

    def watch(event: str, arguments: tuple) -> None:
        if watching and event in ("open", "os.listdir", "os.scandir") and str(tmp_path) in str(arguments[0]):
            opened.append((event, arguments[0]))

    sys.addaudithook(watch)  # it can't be taken away again, only told to rest
    try:
        for api, endpoint in client.view_api(return_format="dict")["named_endpoints"].items():
            types = {p["parameter_name"]: p["python_type"]["type"] for p in endpoint["parameters"]}
            texts = [name for name, kind in types.items() if kind == "str"]
            needed = {"diff": "topic-0412"} if "diff" in types else {}
            for name in texts:
                for path in (str(secret), str(secret.parent)):
                    try:
                        said = str(client.predict(**needed | {name: path}, api_name=api))
                    except Exception as error:
                        said = str(error)
                    assert "secret = 1" not in said and "Traceback" not in said
    finally:
        watching.clear()
    assert not opened


@pytest.mark.parametrize("way", ["gradio_api/file=", "file=", "plotly/../"])
def test_no_file_of_the_machine_is_served(limited, suite, way):
    file = suite.folder / "suite.toml"
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{limited}{way}{file}", timeout=30)
    assert caught.value.code in (403, 404)


def test_an_error_inside_shows_an_id_that_the_log_has_and_nothing_else(client, monkeypatch, caplog):
    def broken(*_, **__):
        raise RuntimeError("the password is 1234")

    monkeypatch.setattr(torch.nn.Embedding, "forward", broken)
    for api in ("/ask", "/norms"):
        with caplog.at_level(logging.ERROR, logger="dit_core"):
            told = refused(client.predict, "topic-0412", api_name=api)
        assert "1234" not in told and "Traceback" not in told and ".py" not in told
        entry = caplog.records[-1]
        assert entry.getMessage()[:8] in told and "1234" in caplog.text and entry.exc_info


def upload(address: str, size: int) -> int:
    """The status of an upload of so many bytes."""
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.safetensors"\r\n\r\n'
    body = head + b"0" * size + b"\r\n--x--\r\n"
    request = urllib.request.Request(
        f"{address}gradio_api/upload", body, {"Content-Type": "multipart/form-data; boundary=x"}
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_uploads_are_small(limited):
    assert upload(limited, 90_000) == 200
    assert upload(limited, 110_000) == 413


def test_an_upload_of_which_nothing_is_heard_goes_by_itself(suite, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    with served(suite, limits=LIMITS, upload_checks=(1, 1)) as url:
        assert upload(url, 1000) == 200 and len(list(tmp_path.rglob("*.safetensors"))) == 1
        end = time.monotonic() + 60
        while list(tmp_path.rglob("*.safetensors")) and time.monotonic() < end:
            time.sleep(0.1)
        assert not list(tmp_path.rglob("*.safetensors"))


def test_the_queue_ends_with_a_sentence(client, suite):
    gate, begun = threading.Event(), threading.Event()
    busy = [suite.worker.stream(lambda: iter([begun.set() or gate.wait(30)]))]
    assert begun.wait(30)
    try:
        busy += [suite.worker.stream(lambda: iter([gate.wait(30)])) for _ in range(3)]
        assert "3 requests are waiting already" in refused(client.predict, "topic-0412", ["base"], api_name="/ask")
        busy.append(suite.worker.stream(lambda: iter([])))  # which counts for that server alone, and not for Python
    finally:
        gate.set()
    assert client.predict("topic-0412", ["base"], api_name="/ask")["verbalizations"]


def test_a_worker_without_a_limit_takes_any_number():
    worker, gate = Worker(), threading.Event()
    waiting = [worker.stream(lambda: iter([gate.wait(5)])) for _ in range(100)]
    gate.set()
    assert all(list(stream) == [True] for stream in waiting)
