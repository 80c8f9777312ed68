"""What stands at the address of a suite that has no page yet: a sentence, and the way to the first page."""

from __future__ import annotations

from html import escape

from starlette.responses import HTMLResponse

from dit_core.session.messages import sentence
from dit_core.suite import Needs
from dit_core.ui.parts.suite_view import download

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">{head}<title>DIT Explorer</title>
<style>body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 34rem; margin: 14vh auto; padding: 0 20px; }}</style>
</head><body><h1>DIT Explorer</h1><p role="status">{words}</p>{way}</body></html>"""
_AGAIN = '<meta http-equiv="refresh" content="1">'


def closed(title: str, home: str, found: Needs) -> HTMLResponse:
    """A suite that has to be downloaded first, which an address alone does not do."""
    words = (
        f"“{title}” is not open on this server. To open it, choose it under “Base model / suite” on the start page and "
        f"press Open: {download(found)}."
    )
    return _page(words, home, 404)


def failed(error: Exception, home: str) -> HTMLResponse:
    """A suite that there isn't, that is not offered here, or that could not be opened."""
    return _page(sentence(error), home, 404)


def waiting(words: str) -> HTMLResponse:
    """A suite that is being opened: the page comes again by itself."""
    return HTMLResponse(_PAGE.format(head=_AGAIN, words=escape(words), way=""), 200)


def _page(words: str, home: str, status: int) -> HTMLResponse:
    way = f'<p><a href="{escape(home)}">To the start page</a></p>'
    return HTMLResponse(_PAGE.format(head="", words=escape(words), way=way), status)
