"""What the list of suites tells of the one that was picked: what opening it takes, and how far that is."""

from __future__ import annotations

from html import escape

from dit_core.hub import HubPath, format_bytes
from dit_core.present.cards import note_html
from dit_core.suite import Needs, Suite
from dit_core.ui.server.suite_opener import Opening


def download(found: Needs) -> str:
    """How much is downloaded, and how much is here: 'downloads 8.2 GB, 1.5 GB is here already'."""
    missing = found.download + found.beside
    if not missing:
        return "nothing is downloaded, all of it is on this disk"
    here = f", {format_bytes(found.here)} is here already" if found.here else ""
    return f"downloads {format_bytes(missing)}{here}"


def needed(suite: Suite, found: Needs) -> str:
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
