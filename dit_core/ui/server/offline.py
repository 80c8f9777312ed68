"""Keeps the page to its own host: it works on a plane, and tells nobody.

Gradio's page template names other hosts (a preview picture; in some versions a script and fonts). `OwnHostOnly`
takes such tags out of every page that is served and forbids the browser, by content security policy, to load
anything from elsewhere. Nothing is changed on disk.
"""

from __future__ import annotations

import re

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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
    """The page without script, link and meta tags that name another host."""
    return _TAGS.sub("", page)


class OwnHostOnly:
    """ASGI middleware: HTML pages are cleaned, and every answer carries the policy."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes everything on as it is but whole HTML pages, which are gathered, cleaned and sent at once."""
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
