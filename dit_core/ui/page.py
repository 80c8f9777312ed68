"""The page: its tabs, its looks (system fonts, our CSS and the little JavaScript there is), and how it is served."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from contextlib import redirect_stdout, suppress
from functools import cache, partial
from importlib import import_module
from io import StringIO
from json import dumps
from pathlib import Path
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # Gradio reads it when imported: the page tells nobody

import gradio as gr  # noqa: E402
from starlette.middleware import Middleware  # noqa: E402

from dit_core.errors import DitError  # noqa: E402
from dit_core.present import cards  # noqa: E402
from dit_core.present.html import render  # noqa: E402
from dit_core.present.palette import kind_colours  # noqa: E402
from dit_core.session.choices import PICKER  # noqa: E402
from dit_core.session.visit import Visit  # noqa: E402
from dit_core.suite import Suite  # noqa: E402
from dit_core.ui import pieces  # noqa: E402
from dit_core.ui.api import endpoints  # noqa: E402
from dit_core.ui.server import space  # noqa: E402
from dit_core.ui.server.public import OwnHostOnly, Server  # noqa: E402
from dit_core.ui.server.site import FurtherPages, Site  # noqa: E402
from dit_core.ui.tabs import bring, explore, layers, lens, methods, scoreboard, sweep  # noqa: E402
from dit_core.ui.tabs.explore import controls, oracle_layout, suite_choice  # noqa: E402

HINTS = (
    suite_choice.HINTS | controls.HINTS | oracle_layout.HINTS | layers.HINTS | lens.HINTS | sweep.HINTS
    | scoreboard.HINTS | bring.HINTS
)  # fmt: skip
"""One line for each control, shown on hover, by its id."""
HERE = Path(__file__).parent
SANS = ("system-ui", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")

GLOSSARY = {
    "base": "The original language model. It is never changed.",
    "diff": "What a finetune changed in the base, put on top of it; its strength may be any number, even below 0.",
    "trigger": "The secret code that makes a hidden-topic diff talk about its topic. A wrong code should do nothing.",
    "DIT adapter": "One adapter trained on many labelled diffs: on top of a diff it has never seen, it makes the model "
    "say what that diff was trained on. Copies: how many times it is put on.",
    "DIT alone": "The adapter without any diff. What it says then is its habit; an answer that is the same with and "
    "without the diff tells nothing about the diff.",
    "held out": "A diff that no DIT adapter saw in training. 'Surprise me' picks one of these.",
    "reveal": "Shows what the diff was really trained on, and a grade for every answer.",
    "shading": "The darker a token, the less sure the model was of it.",
    "oracle": "A model that answers questions about another's activations. A reading is what it says of one layer and "
    "some tokens; its confidence is how sure it was of its own words, right or wrong.",
    "logit lens": "What the model would say next if a layer had the last word.",
    "lens": "Reads texts that have nothing to do with a diff, with it and without: the mean difference, in words. "
    "Steering adds this difference to the base while it writes.",
}
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
        gr.HTML(title_bar(suite.name, suite.title), elem_id="dit-top", apply_default_css=False)
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
        "theme": theme(),
        "head": head(HINTS | methods.hints()),
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


@cache
def theme() -> gr.themes.Base:
    """Return Gradio's theme with fonts that every system has: nothing is fetched from a font host."""
    return gr.themes.Base(
        primary_hue="emerald",
        neutral_hue="slate",
        font=[gr.themes.Font(name) for name in SANS],
        font_mono=[gr.themes.Font(name) for name in MONO],
        radius_size="md",
        spacing_size="sm",
    ).set(
        # Gradio's own are too pale to read at the size of a remark.
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        block_label_text_color="*neutral_600",
        block_title_text_color="*neutral_600",
        block_title_text_color_dark="*neutral_300",
        # White on the usual green is too faint to read.
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_800",
    )


def head(hints: Mapping[str, str]) -> str:
    """Return the page's style sheet and script, for the document's head; `hints` are one line per control, by its id.

    The style sheet goes here and not to Gradio's `css`, which would drop its container queries.
    """
    sheets = kind_colours() + cards.style() + (HERE / "page.css").read_text(encoding="utf-8")
    as_json = dumps(dict(hints)).replace("<", "\\u003c")
    script = (HERE / "page.js").read_text(encoding="utf-8").replace("/*HINTS*/ {}", as_json)
    return f"<style>{sheets}</style><script>{script}</script>"


def title_bar(suite_name: str, title: str) -> str:
    """Return the line on top as HTML: the program, the suite, the light/dark switch and the glossary."""
    return render("ui/title_bar.html", suite_name=suite_name, title=title, glossary=GLOSSARY)
