"""How every figure looks, in light and dark, and how text that others wrote is kept text."""

from __future__ import annotations

import json
import re
import textwrap
from dataclasses import dataclass
from math import floor, log10
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

HEIGHT = 460  # pixels; the width is that of the page
TITLE_WIDTH, NOTE_WIDTH, HOVER_WIDTH = 44, 56, 38  # characters of a line that fit on 400 pixels
FONT = "system-ui, Segoe UI, Roboto, Helvetica Neue, Arial, sans-serif"
NOTHING_SAID = "(says nothing)"

# Nothing leaves the page: no logo with a link, no upload button, no fonts or formulas from elsewhere.
CONFIG: dict[str, Any] = {
    "displaylogo": False,
    "responsive": True,
    "showSendToCloud": False,
    "plotlyServerURL": "",
    "typesetMath": False,
    "doubleClick": "reset",
    "modeBarButtons": [["zoom2d", "resetScale2d"], ["toImage"]],
    "toImageButtonOptions": {"format": "png", "scale": 2, "filename": "dit-explorer"},
}


@dataclass(frozen=True)
class Theme:
    """Colours of one theme: `ink` and `faint` for text, `paper` behind it, `low` to `high` for shades under text."""

    ink: str
    faint: str
    grid: str
    paper: str
    low: str
    high: str


LIGHT = Theme(ink="#1f2937", faint="#5b6779", grid="#e2e8f0", paper="#ffffff", low="#f3f4f6", high="#6fbdee")
DARK = Theme(ink="#e8ebf0", faint="#a3b0c2", grid="#374357", paper="#1e293b", low="#2b3648", high="#0a6aa8")

_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_MARKUP = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "$": "&#36;"}


def theme(dark: bool) -> Theme:
    """Return the colours for a dark or a light page."""
    return DARK if dark else LIGHT


def plain(text: str) -> str:
    """Return text as plotly shows it letter by letter: plotly takes `<…>` for markup and `$…$` for a formula.

    Line ends become ↵ and tabs ⇥; what can't be seen, or turns the direction of writing, becomes �.
    """
    return "".join(_MARKUP.get(character, character) for character in _seen(text))


def token_label(token: str, width: int = 14) -> str:
    """Return a token as an escaped label: its spaces are seen too, and it has at most `width` characters."""
    return plain(shortened(visible(token), width)) or "∅"


def named(name: str, width: int = 30) -> str:
    """Return a token or span as a sentence names it; not escaped."""
    return f"token “{shortened(visible(name), width)}”"


def visible(text: str) -> str:
    """Return the text with its white space to be seen; not escaped."""
    return _seen(text).replace(" ", "␣")


def quoted(text: str, width: int = 40) -> str:
    """Return what a model said, in quotation marks and not escaped; or that it said nothing."""
    return f"“{shortened(_seen(text.strip()) or visible(text), width)}”" if text else NOTHING_SAID


def shortened(text: str, width: int) -> str:
    """Return the text with at most `width` characters, the last of them … where something is left out."""
    return text if len(text) <= width else text[: width - 1].rstrip() + "…"


def wrapped(text: str, width: int, lines: int = 4) -> str:
    """Break text into escaped lines of at most `width` characters: plotly breaks none by itself."""
    found = textwrap.wrap(_seen(text), width, max_lines=lines, placeholder="…", break_on_hyphens=False)
    return "<br>".join(map(plain, found))


def hover(*parts: str) -> str:
    """Return a hover text of several paragraphs, the first in bold; empty ones are left out."""
    first, *rest = (wrapped(part, HOVER_WIDTH) for part in parts if part)
    return "<br>".join((f"<b>{first}</b>", *rest))


def percent_axis(top: float = 1.0) -> dict[str, Any]:
    """Return ticks of an axis or a colour bar from 0 to `top`, in percent: round numbers, five or six of them."""
    power = 10.0 ** floor(log10(top / 5))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if top / (power * factor) <= 5)
    values = [step * at for at in range(int(top / step + 1e-6) + 1)]
    return {"tickmode": "array", "tickvals": values, "ticktext": [f"{100 * value:.4g} %" for value in values]}


def share(ratio: float) -> str:
    """Return a part of a whole, that may be more than the whole, in percent."""
    return f"{100 * ratio:.3g} %" if ratio < 1 else f"{100 * ratio:,.0f} %"


def canvas(
    traces: list[dict[str, Any]], title: str, note: str, dark: bool, height: int = HEIGHT, **layout: Any
) -> Figure:
    """Return a figure of `traces` under a title and a smaller note, both not yet escaped, in the theme's colours.

    `layout.meta.paper` is a background for pictures of it, whose own is transparent.
    """
    import plotly.graph_objects as go

    colours = theme(dark)
    heading = f"<b>{wrapped(title, TITLE_WIDTH)}</b>" if title else ""
    if note:
        heading += f'<br><span style="font-size:12px;color:{colours.faint}">{wrapped(note, NOTE_WIDTH, 3)}</span>'
    axis = {
        "gridcolor": colours.grid,
        "linecolor": colours.faint,
        "tickcolor": colours.faint,
        "tickfont": {"color": colours.faint, "size": 12},
        "title": {"font": {"color": colours.faint, "size": 12}},
        "zeroline": False,
        "automargin": True,
    }
    base = {
        "template": "none",
        "autosize": True,
        "height": height,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": FONT, "size": 12, "color": colours.ink},
        "title": {
            "text": heading,
            "font": {"size": 14, "color": colours.ink},
            "x": 0,
            "xref": "container",
            "xanchor": "left",
            "y": 1,
            "yref": "container",
            "yanchor": "top",
            "pad": {"l": 12, "t": 26},
        },
        "margin": {"l": 60, "r": 16, "t": 26 + 20 * (heading.count("<br>") + 1), "b": 50},
        "legend": {
            "orientation": "h",
            "x": 0.01,
            "xref": "container",
            "xanchor": "left",
            "y": 0,
            "yref": "container",
            "yanchor": "bottom",
            "font": {"size": 12, "color": colours.ink},
        },
        "hovermode": "closest",
        "hoverlabel": {"bgcolor": colours.paper, "font": {"color": colours.ink, "family": FONT}, "align": "left"},
        "dragmode": False,  # or a finger that scrolls the page would zoom
        "modebar": {"bgcolor": colours.paper, "color": colours.faint, "activecolor": colours.ink},
        "uirevision": "kept",  # what is hidden or zoomed stays so while a table fills
        "meta": {"paper": colours.paper},
        "xaxis": axis,
        "yaxis": axis,
    }
    return go.Figure(traces, base).update_layout(layout)


def sentence(text: str, dark: bool = False, height: int = HEIGHT) -> Figure:
    """Return a figure with nothing to draw, that says why in a sentence."""
    words = {
        "text": wrapped(text, TITLE_WIDTH, 8),
        "font": {"size": 15, "color": theme(dark).faint},
        "showarrow": False,
        "xref": "paper",
        "yref": "paper",
        "x": 0.5,
        "y": 0.5,
    }
    hidden = {"xaxis_visible": False, "yaxis_visible": False, "margin": {"l": 16, "r": 16}}
    return canvas([], "", "", dark, height, annotations=[words], **hidden)


def as_json(figure: Figure) -> str:
    """Return a figure as JSON together with `CONFIG`, which plotly's own `to_json` leaves out."""
    return json.dumps({**json.loads(figure.to_json()), "config": CONFIG})


def _seen(text: str) -> str:
    return _UNSEEN.sub("�", text.replace("\r\n", "\n").replace("\n", "↵").replace("\t", "⇥"))
