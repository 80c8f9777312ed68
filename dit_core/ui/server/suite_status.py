"""What stands at the address of a suite that has no page yet: a sentence, and the way to the first page."""

from __future__ import annotations

from html import escape

from starlette.responses import HTMLResponse

from dit_core.hub import HubPath, format_bytes
from dit_core.present.cards import note_html
from dit_core.session.messages import sentence
from dit_core.suite import Requirements, Suite
from dit_core.ui.server.suite_opener import Opening


def download(found: Requirements) -> str:
    """How much is downloaded, and how much is here: 'downloads 8.2 GB, 1.5 GB is here already'."""
    missing = found.download + found.beside
    if not missing:
        return "nothing is downloaded, all of it is on this disk"
    here = f", {format_bytes(found.here)} is here already" if found.here else ""
    return f"downloads {format_bytes(missing)}{here}"


def needed(suite: Suite, found: Requirements) -> str:
    """What opening a suite takes, as HTML."""
    has = "" if found.memory_there is None else f", has {format_bytes(found.memory_there)}"
    facts = [("base", suite.about.base.repo)] if isinstance(suite.about.base, HubPath) else []
    facts += [
        ("disk", f"{download(found)}; has {format_bytes(found.disk_there)} left"),
        ("memory", f"needs {format_bytes(found.memory)} on {found.device}{has}"),
        ("oracle", "yes" if suite.oracle else "none"),
    ]
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts)
    return f'<div class="dit-needs" role="status"><b>{escape(suite.title)}</b><dl class="dit-facts">{rows}</dl></div>'


def open_already(suite: Suite) -> str:
    """A suite whose page is there."""
    return f'<div class="dit-needs" role="status"><b>{escape(suite.title)}</b><p>It is open here already.</p></div>'


def progress(opening: Opening, left: str) -> str:
    """What an opening does now, over a bar where that is a download."""
    bar = f'<progress class="dit-progress" max="{opening.total}" value="{opening.done}"></progress>'
    return f"{note_html(f'{opening.words}{left}', 'busy')}{bar if opening.total else ''}"


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">{head}<title>DIT Explorer</title>
<style>body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 34rem; margin: 14vh auto; padding: 0 20px; }}</style>
</head><body><h1>DIT Explorer</h1><p role="status">{words}</p>{way}</body></html>"""
_AGAIN = '<meta http-equiv="refresh" content="1">'


def closed(title: str, home: str, found: Requirements) -> HTMLResponse:
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
