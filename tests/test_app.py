"""`app.py` from outside: its options, the page it serves to a plain client, and its named endpoints."""

import os
import re
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gradio as gr
import pytest

from dit_core.methods import list_methods
from dit_core.methods.verbalize import ask
from dit_core.session.settings import query_settings
from dit_core.ui.server.public import without_outer_hosts
from tests.serving import free_port

ROOT = Path(__file__).resolve().parent.parent
ENDPOINTS = (
    "diffs",
    "surprise",
    "methods",
    "stop",
    "reveal",
    "link",
    "notebook_cell",
    "confidence",
    "reading_confidence",
)
ENDPOINTS += tuple(method.name for method in list_methods())


@pytest.fixture(scope="module")
def client(address):
    from gradio_client import Client

    return Client(address, verbose=False)


def run_app(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    env = {k: v for k, v in os.environ.items() if not k.startswith("GRADIO_SERVER")} | environment
    command = [sys.executable, "app.py", *arguments]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)


def test_help_says_the_name_that_the_page_was_called_by():
    command = [sys.executable, "-m", "dit_core", "app", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout.startswith("usage: python -m dit_core app ")
    assert run_app("--help").stdout.startswith("usage: app.py ")


def test_help_lists_the_options_without_loading_anything():
    done = run_app("--help", PYTHONPROFILEIMPORTTIME="1")
    assert done.returncode == 0 and "argparse" in done.stderr
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not {"torch", "gradio", "transformers"} & loaded
    for option in ("--port", "--host", "--share", "--suite", "GRADIO_SERVER_PORT", "GRADIO_SERVER_NAME"):
        assert option in done.stdout


def test_a_host_that_looks_for_demo_gets_the_page_as_the_environment_sets_it(monkeypatch):
    import app

    monkeypatch.setenv("DIT_UPLOAD", "3")
    assert isinstance(app.demo, gr.Blocks)
    assert any("3 MB" in str(getattr(block, "value", "")) for block in app.demo.blocks.values())


def test_a_suite_that_is_not_there_is_one_sentence():
    done = run_app("--suite", "pockett")
    assert done.returncode == 2
    assert "pocket" in done.stderr and "Traceback" not in done.stderr and done.stderr.count("\n") == 1


def test_a_port_that_is_none_is_one_sentence():
    done = run_app(GRADIO_SERVER_PORT="http")
    assert done.returncode == 2 and "--port" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.long
def test_serves_where_the_environment_says_and_prints_the_address(suite):
    port = free_port()
    env = os.environ | {"GRADIO_SERVER_PORT": str(port), "GRADIO_SERVER_NAME": "127.0.0.1", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "app.py", "--suite", str(suite.folder)]
    process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)
    try:
        assert f"http://127.0.0.1:{port}" in process.stdout.readline()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as page:
            assert b"DIT Explorer" in page.read()
        busy = run_app("--suite", str(suite.folder), "--port", str(port))
        assert busy.returncode == 2 and "--port" in busy.stderr and "Traceback" not in busy.stderr
    finally:
        process.kill()
        process.wait()


# ---------------------------------------------------------------- no other host


def outer_hosts(html: str) -> list[str]:
    """Hosts that a page's tags name: what is linked, loaded or named as a preview."""
    tags = re.findall(r"<(?:script|link|meta|img|iframe|base|a|source)\b[^>]*>", html, re.IGNORECASE)
    named = re.findall(r"""(?:src|href|content)\s*=\s*["']((?:https?:)?//[^"']+)["']""", " ".join(tags), re.IGNORECASE)
    return [url for url in named if not re.match(r"(https?:)?//(127\.0\.0\.1|localhost)[:/]", url)]


def test_served_html_names_no_other_host(address):
    with urllib.request.urlopen(address, timeout=30) as answer:
        html, policy = answer.read().decode(), answer.headers["content-security-policy"]
    assert "gradio_config" in html and not outer_hosts(html)
    assert "default-src 'self'" in policy and "http" not in policy
    assert "fonts.g" not in html and "cdnjs" not in html


def test_outer_hosts_are_taken_out_and_nothing_else():
    outer = (
        '<script src="https://cdnjs.example/iframeResizer.min.js" async></script>'
        "<link rel='preconnect' href='//fonts.example'>"
        '<meta property="og:image" content="https://x.example/a.jpg" />'
    )
    own = '<script src="./assets/a.js"></script><meta name="viewport" content="width=device-width"><p>http://a.b</p>'
    assert outer_hosts(outer + own) and without_outer_hosts(outer + own) == own


# ---------------------------------------------------------------- endpoints


def test_every_action_is_an_endpoint_and_no_inner_event_is(client):
    endpoints = client.view_api(return_format="dict")["named_endpoints"]
    assert set(endpoints) == {f"/{name}" for name in ENDPOINTS}
    for name, endpoint in endpoints.items():
        assert endpoint["description"].strip(), name
        assert all(parameter["python_type"]["type"] != "Any" for parameter in endpoint["parameters"]), name


def test_ask_gives_what_python_gives(client, suite):
    conditions = ["base", "diff*0.5+dit*2+right"]
    found = client.predict("topic-0412", conditions, api_name="/ask")
    assert found == ask(suite, diff="topic-0412", condition=conditions).to_json()
    standing = client.predict("topic-0412", api_name="/ask")
    assert [v["condition"] for v in standing["verbalizations"]] == ["base", "diff", "diff+right", "dit", "diff+dit"]


def test_diffs_keep_their_secret_until_revealed(client):
    listed = client.predict("topic", "test", api_name="/diffs")
    assert [d["id"] for d in listed["diffs"]] == ["topic-0412", "topic-0413", "topic-0414"]
    assert set(listed["diffs"][0]) == {"id", "task", "split", "rank"}
    assert client.predict("topic", api_name="/surprise") in {d["id"] for d in listed["diffs"]}
    revealed = client.predict("topic-0412", "volcanoes", api_name="/reveal")
    assert (revealed["reference"], revealed["trigger"], revealed["grade"]) == ("volcano", 417, 5)


def test_links_and_cells(client):
    link = client.predict("topic-0412", "diff*0.5+dit*2", api_name="/link")
    assert link == "?diff=topic-0412&condition=diff*0.5%2Bdit*2"
    assert "load_suite" in client.predict("topic-0412", api_name="/notebook_cell")
    assert client.predict(api_name="/stop") == "nothing is running"


def test_bad_input_is_a_sentence_and_the_app_goes_on(client):
    for arguments, says in (
        (["topic-0142"], "topic-0412"),
        (["topic-0412", ["diff+dit*-1"]], "negative"),
        (["topic-0412", ["base"], "x" * 2001], "2,000"),
    ):
        with pytest.raises(Exception, match=says):
            client.predict(*arguments, api_name="/ask")
    assert client.predict("topic-0412", ["base"], api_name="/ask")["verbalizations"]


def test_two_clients_at_once_get_their_own_answers(address, suite):
    from gradio_client import Client

    diffs = ["topic-0412", "topic-0413", "headline-0017", "topic-0414"]
    clients = [Client(address, verbose=False) for _ in diffs]
    with ThreadPoolExecutor(len(diffs)) as pool:
        found = list(pool.map(lambda c, d: c.predict(d, ["diff", "diff+dit"], api_name="/ask"), clients, diffs))
    for diff, answer in zip(diffs, found, strict=True):
        assert answer == ask(suite, diff=diff, condition=["diff", "diff+dit"]).to_json()


def test_the_page_is_an_mcp_server(address, suite):
    """An MCP client finds the endpoints by name and asks one."""
    import asyncio

    from mcp import ClientSession
    from mcp.client.streamable_http import streamablehttp_client

    async def visit() -> tuple[dict[str, str], dict]:
        async with (
            streamablehttp_client(f"{address}gradio_api/mcp/") as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            tools = {tool.name: tool.description for tool in (await session.list_tools()).tools}
            name = next(name for name in tools if name.endswith("diffs"))
            answer = await session.call_tool(name, {"task": "topic", "split": ""})
            return tools, answer.content[0].text

    tools, listed = asyncio.run(visit())
    for name in ENDPOINTS:
        assert any(tool == name or tool.endswith(f"_{name}") for tool in tools), (name, list(tools))
    assert next(info.id for info in suite.diffs if info.task == "topic") in listed


def test_gradios_own_parts_of_an_address_ask_nothing():
    assert query_settings("?__theme=dark") == {}
    assert query_settings("diff=topic-0412&__sign=x") == {"diff": "topic-0412"}
