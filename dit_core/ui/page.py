"""The page: puts the tabs together and serves them, from this host alone."""

from __future__ import annotations

import os
import re
import threading
from contextlib import redirect_stdout, suppress
from functools import partial
from importlib import import_module
from io import StringIO
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # Gradio reads it when imported: the page tells nobody

import gradio as gr  # noqa: E402
from starlette.middleware import Middleware  # noqa: E402

from dit_core.errors import DitError  # noqa: E402
from dit_core.session.choices import PICKER  # noqa: E402
from dit_core.session.visit import Visit  # noqa: E402
from dit_core.suite import Suite  # noqa: E402
from dit_core.ui.api import endpoints  # noqa: E402
from dit_core.ui.parts import pieces, theme  # noqa: E402
from dit_core.ui.server import space  # noqa: E402
from dit_core.ui.server.public import Server  # noqa: E402
from dit_core.ui.server.site import FurtherPages, Site  # noqa: E402
from dit_core.ui.tabs import bring, explore, layers, lens, methods, scoreboard, sweep  # noqa: E402
from dit_core.ui.tabs.explore import controls, oracle_layout, suite_choice  # noqa: E402

HINTS = (
    suite_choice.HINTS | controls.HINTS | oracle_layout.HINTS | layers.HINTS | lens.HINTS | sweep.HINTS
    | scoreboard.HINTS | bring.HINTS
)  # fmt: skip
"""One line for each control, shown on hover, by its id."""
SESSIONS = 500  # the last visits, which are remembered: each takes a copy of the page, half a megabyte


def build(suite: Suite, suite_ref: str = "pocket", server: Server | None = None, site: Site | None = None) -> gr.Blocks:
    """Build the page over a suite; `load_suite` finds it by `suite_ref`, which goes into copied code.

    It keeps to the limits of `server`: without one, of a server that has none. With a `site`, a visitor can go from it
    to other suites' pages.
    """
    server = server or Server()
    with (
        server.answering(),
        gr.Blocks(
            title="DIT Explorer", analytics_enabled=False, fill_width=True, delete_cache=server.upload_checks
        ) as demo,
    ):
        endpoints(suite, suite_ref, server)  # first: the plain names are theirs
        gr.HTML(theme.title_bar(suite.name, suite.title), elem_id="dit-top", apply_default_css=False)
        visit = gr.State(Visit())  # one for all tabs: what is revealed in one is revealed in the others
        with gr.Tabs():
            with gr.Tab("Explore") as tab:
                explore.explore_tab(demo, tab, suite, suite_ref, visit, site)
            with gr.Tab("Layers") as tab:
                layers.layers_tab(tab, suite, suite_ref, visit)
            with gr.Tab("Lens") as tab:
                lens.lens_tab(tab, suite, suite_ref, visit)
            with gr.Tab("Sweep") as tab:
                sweep.sweep_tab(tab, suite, suite_ref, visit)
            with gr.Tab("Methods") as tab:
                methods.methods_tab(tab, suite, suite_ref, visit)
            with gr.Tab("Scoreboard") as tab:
                scoreboard.scoreboard_tab(tab, suite, suite_ref, visit)
            with gr.Tab("Bring your own"):
                bring.bring_tab(suite, visit, pickers(demo))
        demo.unload(server.left)
    server.guard(demo)
    return demo.queue(default_concurrency_limit=8, max_size=server.limits.waiting, api_open=True)


def pickers(demo: gr.Blocks) -> list[gr.Dropdown]:
    """Return the lists of diffs of all tabs so far."""
    return [block for block in demo.blocks.values() if isinstance(block, gr.Dropdown) and block.label == PICKER]


def launch(
    suite: Suite,
    suite_ref: str = "pocket",
    server: Server | None = None,
    *,
    host: str | None = None,
    port: int | None = None,
    share: bool = False,
    block: bool = True,
) -> gr.Blocks:
    """Build the page and serve it; the suite's model is loaded behind it.

    Args:
        suite: whose page stands at the root.
        suite_ref: what `load_suite` finds it by.
        server: its limits; without one there are none.
        host: the address to listen on; by default `GRADIO_SERVER_NAME`, else this machine alone.
        port: by default the first free one from 7860.
        share: also give a public address, by way of Gradio's server.
        block: do not return before the server is interrupted.

    Raises:
        OSError: nobody can listen there.
    """
    server = server or Server()
    if space.ZERO_GPU:
        space.move_in(suite)
    site = None if space.ZERO_GPU else Site(suite, server.limits, partial(draw, server), partial(served_as, server))
    demo = build(suite, suite_ref, server, site)
    mcp = has_mcp()
    with redirect_stdout(StringIO()):  # Gradio announces its MCP server even when told to be quiet
        demo.launch(
            server_name=host or os.environ.get("GRADIO_SERVER_NAME") or "127.0.0.1",
            server_port=port,
            share=share,
            quiet=True,
            prevent_thread_lock=True,
            inbrowser=False,
            mcp_server=mcp,
            state_session_capacity=SESSIONS,
            **served_as(server, site),
        )
    if not space.ZERO_GPU:  # which lends its GPU for a visitor's request alone
        threading.Thread(target=warm, args=[suite], daemon=True, name="dit-warm").start()
    print(f"DIT Explorer is at {demo.share_url or demo.local_url}", flush=True)
    if mcp:
        print(f"for MCP clients: {demo.local_url}gradio_api/mcp/", flush=True)
    if block:
        demo.block_thread()
    return demo


def served_as(server: Server, site: Site | None = None) -> dict[str, Any]:
    """Return how a page is served, as Gradio takes it; with a `site`, what is asked for below the root goes there."""
    app: dict[str, Any] = {"middleware": [Middleware(OwnHostOnly)], "routes": [pieces.plotly_files()]}
    if site:
        app["middleware"].append(Middleware(FurtherPages, site=site))
        app["lifespan"] = site.lifespan
    return {
        "theme": theme.theme(),
        "head": theme.head(HINTS | methods.hints()),
        "app_kwargs": app,
        "footer_links": ["api"],
        "run_history": False,
        "ssr_mode": False,
        "pwa": False,
        "show_error": False,
        "max_file_size": server.limits.upload_bytes,
    }


def draw(server: Server, suite: Suite, site: Site) -> gr.Blocks:
    """Build the page of a suite that a visitor has opened by its name."""
    return build(suite, suite.name, server, site)


def has_mcp() -> bool:
    """Return whether the page can be an MCP server too: Gradio's `mcp` extra is installed and fits."""
    try:
        import_module("gradio.mcp")
    except Exception:  # another version than Gradio's breaks its import in any way
        return False
    return True


def warm(suite: Suite) -> None:
    """Load the model and the oracle and ask each one token, so that a visitor's first question is a quick one."""
    from dit_core.methods.oracle import read
    from dit_core.methods.verbalize import ask

    with suppress(DitError):  # who asks is told
        ask(suite, diff=suite.diffs[0].id, condition=["base", "diff+dit"], max_new_tokens=1)
        if suite.oracle:
            read(suite, condition="base", layers=0, span="last:1", max_new_tokens=1)


# Gradio's front end compiles its HTML templates in the browser, hence 'unsafe-eval'.
POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; "
    "connect-src 'self' data: blob:; form-action 'self'; base-uri 'self'"
)
_OUTER = r"""["'](?:https?:)?//[^"']*["']"""
_TAGS = re.compile(
    rf"<script\b[^>]*\bsrc\s*=\s*{_OUTER}[^>]*>\s*</script>"
    rf"|<link\b[^>]*\bhref\s*=\s*{_OUTER}[^>]*>"
    rf"|<meta\b[^>]*\bcontent\s*=\s*{_OUTER}[^>]*>",
    re.IGNORECASE,
)


def without_outer_hosts(page: str) -> str:
    """Return the page without script, link and meta tags that name another host."""
    return _TAGS.sub("", page)


class OwnHostOnly:
    """ASGI middleware: HTML pages are cleaned, and every answer carries the policy."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on as it is but whole HTML pages, which are gathered, cleaned and sent at once."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        start: Message | None = None
        body = b""

        async def answer(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message["headers"])
                headers["content-security-policy"] = POLICY
                headers["referrer-policy"] = "no-referrer"
                if headers.get("content-type", "").startswith("text/html") and "content-encoding" not in headers:
                    start = message
                    return
            elif start is not None:
                body += message.get("body", b"")
                if message.get("more_body", False):
                    return
                page = without_outer_hosts(body.decode("utf-8")).encode("utf-8")
                MutableHeaders(raw=start["headers"])["content-length"] = str(len(page))
                await send(start)
                message = {**message, "body": page}
            await send(message)

        await self.app(scope, receive, answer)
