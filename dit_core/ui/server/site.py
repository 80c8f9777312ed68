"""Pages of several suites on one server: the first at its root, each further one below `/suite/<name>/`.

A page is built over one suite, so every suite that is opened gets a page of its own on the running server. The worker
and the one base that is loaded are common to all of them.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import gradio as gr
from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from dit_core.errors import DitError, did_you_mean
from dit_core.hub import format_bytes
from dit_core.methods.comparison import first_info
from dit_core.suite import Suite, load_suite
from dit_core.suite.catalog import listings
from dit_core.suite.limits import Limits
from dit_core.ui.server import suite_opener
from dit_core.ui.server.suite_opener import Opening

ROOT = "/suite/"
ALWAYS = "pocket"  # the suite that comes along: offered everywhere
CLOSED = (
    "This public server opens no other suites, as each may be a download of many gigabytes. On a machine of your own: "
    "python app.py --suite {name}"
)


@dataclass(frozen=True)
class Offer:
    """A suite that a visitor may open: `label` is what the list of suites shows."""

    name: str
    label: str


class Site:
    """The pages of one server. `suite` is that at the root; `draw` builds a page, `look` says how one is served."""

    def __init__(
        self,
        suite: Suite,
        limits: Limits,
        draw: Callable[[Suite, Site], gr.Blocks],
        look: Callable[[], dict[str, Any]],
    ) -> None:
        self.first, self.limits = suite, limits
        self._draw, self._look = draw, look
        self._listed = {listed.name: listed for listed in listings()}
        self._pages: dict[str, ASGIApp] = {}
        self._openings: dict[str, Opening] = {}
        self._lock = threading.Lock()

    # ---------------------------------------------------------------- what there is

    @property
    def offers(self) -> list[Offer]:
        """The suites that a visitor may choose among, the first page's suite first."""
        shown = [
            listed for listed in self._listed.values() if listed.name != self.first.name and self._offered(listed.name)
        ]
        labels = [Offer(listed.name, f"{listed.title} · {format_bytes(listed.gigabytes * 1e9)}") for listed in shown]
        return [Offer(self.first.name, self.first.title), *labels]

    def suite(self, name: str) -> Suite:
        """Return the suite of that name, loaded as the first one is.

        Raises:
            DitError: it is not offered here.
        """
        if name == self.first.name:
            return self.first
        if name not in self._listed:
            raise DitError(f"There is no suite '{name}' in the list.{did_you_mean(name, self._listed)}")
        if not self._offered(name):
            raise DitError(CLOSED.format(name=name))
        return load_suite(name, self.first.loading.dtype, self.first.loading.quantize)

    def is_open(self, name: str) -> bool:
        """Return whether a suite has a page already."""
        return name == self.first.name or name in self._pages

    def path(self, name: str, here: str) -> str:
        """Return the address of a suite's page, from the page of the suite `here`."""
        up = "../" * (1 + here.count("/") + 1) if here != self.first.name else "./"
        return up if name == self.first.name else f"{up}{ROOT.strip('/')}/{name}/"

    def _offered(self, name: str) -> bool:
        return self.limits.suites or name in (self.first.name, ALWAYS)

    # ---------------------------------------------------------------- opening

    def opening(self, name: str) -> Opening:
        """Return the opening of a suite, begun or about to begin: all who want the same suite wait for the same one."""
        with self._lock:
            found = self._openings.get(name)
            if found is None or found.over.is_set():
                found = self._openings[name] = Opening(lambda: self.suite(name), lambda suite: self._show(name, suite))
            return found

    def _show(self, name: str, suite: Suite) -> None:
        """Put up a suite's page; any thread but the server's own."""
        if not self.is_open(name):
            asyncio.run_coroutine_threadsafe(self._mount(name, suite), self._loop).result()

    async def _mount(self, name: str, suite: Suite) -> None:
        # In the server's thread: while a page is drawn, Gradio takes each component made anywhere for a part of it.
        page, parent = self._draw(suite, self), FastAPI()
        gr.mount_gradio_app(parent, page, path=f"{ROOT}{name}", **self._look())
        mounted: Any = parent.routes[-1]
        mounted.app.stop_event = self._app.stop_event  # what ends the connections when the server closes
        await self._stack.enter_async_context(parent.router.lifespan_context(parent))
        self._stack.callback(page.close, verbose=False)
        self._pages[name] = parent

    @asynccontextmanager
    async def lifespan(self, app: Any) -> AsyncIterator[None]:
        """Keep the pages open while the server runs; close all at its end."""
        self._app, self._loop = app, asyncio.get_running_loop()
        async with AsyncExitStack() as self._stack:
            yield

    # ---------------------------------------------------------------- answering

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request below `ROOT` by a suite's page, or by a sentence where it has none."""
        name = self._named(scope["path"])
        page = self._pages.get(name)
        if page is None:
            page = await run_in_threadpool(self._without_page, name, scope["path"])
        await page(scope, receive, send)

    def _named(self, path: str) -> str:
        """The name in an address; all of it where it begins with none that is known."""
        rest = path.removeprefix(ROOT)
        return next((name for name in (self.first.name, *self._listed) if f"{rest}/".startswith(f"{name}/")), rest)

    def _without_page(self, name: str, path: str) -> Response:
        """What somebody is told who comes to a suite without a page: it opens where its files are here."""
        if path.rstrip("/") != f"{ROOT}{name}".rstrip("/"):
            return HTMLResponse(status_code=404)  # a part of a page that was open before the server was started anew
        home = "../" * (path.count("/") - 1)
        if name == self.first.name:
            return RedirectResponse(home)
        opening = self._openings.get(name)
        try:
            if opening is None:
                suite = self.suite(name)
                found = suite.requirements_for(first_info(suite))
                if found.download or found.extra_download:
                    return suite_opener.closed_page(suite.title, home, found)
                found.check()
                opening = self.opening(name)
                threading.Thread(target=_wait, args=[opening], daemon=True, name="dit-wait").start()
            elif opening.error:
                self._openings.pop(name)
                raise opening.error
        except Exception as error:
            return suite_opener.failed_page(error, home)
        return suite_opener.waiting_page(opening.words)


def _wait(opening: Opening) -> None:
    """Wait for an opening as a visitor does, so that it goes on."""
    with opening:
        opening.begin()
        opening.over.wait()


class FurtherPages:
    """ASGI middleware: what is asked for below `ROOT` is the site's, before Gradio's own routes see it."""

    def __init__(self, app: ASGIApp, site: Site):
        self.app, self.site = app, site

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything else on as it is."""
        below = scope["type"] == "http" and scope["path"].startswith(ROOT)
        await (self.site.answer if below else self.app)(scope, receive, send)
