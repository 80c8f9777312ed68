"""How a notebook shows a table: verbalizations as cards, readings and the lens's words as a plot.

Where no plot can be drawn, as on a web page that shows a saved notebook, the oracle's words stand in a plain table.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from functools import cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from dit_core.errors import DitError
from dit_core.present import cards, plots
from dit_core.present.cards import DONE, Card, card_html
from dit_core.present.html import percent, render
from dit_core.present.palette import kind_colours
from dit_core.present.plots.charts import lines, name_of
from dit_core.present.plots.layers import APART, grade, nats, pool_readings
from dit_core.present.plots.style import quoted
from dit_core.records import LensToken, NextToken, Reading, Table, Verbalization
from dit_core.records.condition import Condition
from dit_core.session.explore_view import chips
from dit_core.session.readings import visible
from dit_core.suite.diffs import OWN

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


# The page's variables, by what JupyterLab, VS Code and Colab call the same, and a colour where none of them is there.
_VARIABLES = {
    "body-text-color": ("jp-content-font-color1", "vscode-editor-foreground", "colab-primary-text-color", "#1f2937"),
    "body-text-color-subdued": ("jp-content-font-color2", "vscode-descriptionForeground", "#5b6779"),
    "border-color-primary": ("jp-border-color1", "vscode-panel-border", "colab-border-color", "#c9d0da"),
    "block-background-fill": ("jp-layout-color1", "vscode-editor-background", "colab-primary-surface-color", "#ffffff"),
}
_OWN = """
font-family: system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; font-size: 14px; line-height: 1.4;
color: var(--body-text-color);
.dit-card { min-height: 0; }
.dit-cards { margin: 4px 0 8px; align-items: stretch; }
.dit-cards > table, .dit-cards > table > tbody, .dit-cards > table > tbody > tr, .dit-cards > table > tbody > tr > td {
  display: contents; text-align: left; }
.dit-remark { min-height: 0; }
.dit-text { font-size: 1.15rem; }
.dit-question { font-size: 1.15rem; font-weight: 600; margin: 0; overflow-wrap: anywhere; }
.dit-question small, .dit-secret small { font-weight: 400; font-size: .8rem; margin-left: .7em;
  color: var(--body-text-color-subdued); }
.dit-stored { font-weight: 400; font-size: .75rem; margin-left: .7em; padding: 1px 8px; border-radius: 99px;
  border: 1px dashed var(--border-color-primary); }
.dit-secret { margin: 0; line-height: 1.3; }
.dit-secret small { display: block; margin: 0; }
.dit-words { border-collapse: collapse; font-size: .85rem; }
.dit-words :is(td, th) { text-align: left; padding: 2px 12px 2px 0; border: 0;
  border-bottom: 1px solid var(--border-color-primary); }
&.dit-live .dit-card { min-height: 13rem; }
"""


def framed(html: str, live: bool = False) -> str:
    """Return HTML in the frame that `sheet` styles; `live` keeps room in cards that are still being filled."""
    return f'<div class="dit-notebook{" dit-live" if live else ""}">{html}</div>'


def styled(html: str) -> str:
    """Return HTML in its frame with the style sheet, for HTML that stands alone."""
    return sheet() + framed(html)


@cache
def sheet() -> str:
    """Return the style sheet, inside the frame's own class, twice: a notebook's rules for headings are strong."""
    variables = "".join(f"--{name}: {_first(names)};\n" for name, names in _VARIABLES.items())
    inside = re.sub(r"/\*.*?\*/|@keyframes.*", "", kind_colours() + cards.style())  # keyframes can't stand inside
    return f"<style>.dit-notebook.dit-notebook {{\n{variables}{inside}{_OWN}}}</style>"


def _first(names: tuple[str, ...]) -> str:
    """Return CSS for the first of the variables that is there; the last of the names is the colour where none is."""
    *variables, colour = names
    for name in reversed(variables):
        colour = f"var(--{name}, {colour})"
    return colour


PLOT = "application/vnd.plotly.v1+json"
MOST_CARDS, MOST_LINES = 48, 12
_DRAWN: dict[str, Callable[..., Figure]] = {
    "readings": plots.by_layer,
    "next_tokens": plots.next_token_by_layer,
    "lens": plots.lens_tokens,
    "adl": plots.adl_tokens,
    "similarities": plots.cosine,
}


def show(table: Table, reveal: bool = False, **how: Any) -> None:
    """Show a table in a notebook: cards for verbalizations, a plot for what is read layer by layer, else its rows.

    Args:
        table: what `ask`, `read`, `lens` and their like gave.
        reveal: whether what needs to know what a diff was trained on may be shown: grades, and references.
        how: what the plot's own function takes (`plots.by_layer`, …), such as `y="grade"`.

    Raises:
        DitError: there is nothing to set about how such a table is shown.
    """
    from IPython.display import display

    display(bundle(table, reveal=reveal, **how), raw=True)


def bundle(table: Table, include: Any = None, exclude: Any = None, reveal: bool = False, **how: Any) -> dict[str, Any]:
    """Return a table in all the forms that a notebook may show, by mimetype; `include` and `exclude` are IPython's."""
    if table.kind in _DRAWN:
        return _plot(table, reveal, how) | {"text/plain": _plain_text(table)}
    if how:
        raise DitError(f"A table of {table.kind} isn't plotted, so nothing is set about it: leave out '{[*how][0]}'.")
    html = styled(_cards(table)) if table.kind == "verbalizations" else _frame_html(table, reveal)
    return {"text/html": html, "text/plain": _plain_text(table)}


def _frame_html(table: Table, reveal: bool) -> str:
    return str(table.to_frame(reveal)._repr_html_())  # type: ignore[operator]  # pandas' stubs lack the method


# ---------------------------------------------------------------- cards


def _cards(table: Table[Verbalization]) -> str:
    """Return a card for each condition with all its samples, per diff and question."""
    groups: dict[tuple[str, str], dict[str, list[Verbalization]]] = {}
    for answer in table:
        groups.setdefault((answer.diff, answer.question), {}).setdefault(answer.condition, []).append(answer)
    shown, left = [], MOST_CARDS
    for (diff, question), own in groups.items():
        cards = [card_html(_card(condition, answers)) for condition, answers in list(own.items())[:left]]
        shown.append({"question": question, "diff": _title(diff), "cards": cards})
        left -= len(own)
        if left <= 0:
            break
    more = max(sum(map(len, groups.values())) - MOST_CARDS, 0)
    return render("widgets/cards.html", groups=shown, more=more)


def _title(diff: str) -> str:
    """Return a diff's id; the id of a user's own diff says nothing to anybody."""
    return "your own diff" if diff.startswith(f"{OWN}-") else diff or "no diff"


def _card(condition: str, answers: Sequence[Verbalization]) -> Card:
    kind, words = plots.kind_of(condition), chips(Condition.parse(condition))
    return Card(kind=kind, title=name_of(condition), chips=words, answers=answers, state=DONE)


# ---------------------------------------------------------------- plots


def _plot(table: Table, reveal: bool, how: dict[str, Any]) -> dict[str, Any]:
    table = visible(table, reveal)
    figure = _DRAWN[table.kind](table, **how)
    figure.update_layout(paper_bgcolor=figure.layout.meta["paper"])  # its ink is for light paper
    if "google.colab" in sys.modules:  # which draws no plot by its mimetype
        return {"text/html": figure.to_html(full_html=False, include_plotlyjs="cdn", config=plots.CONFIG)}
    # A figure's title is escaped where it is made; one with nothing to draw has none, and says why in the middle.
    title = figure.layout.title.text or figure.layout.annotations[0].text
    html = f"<p>{title}</p>{_words(table, how.get('y', 'confidence'))}"
    return {PLOT: json.loads(plots.as_json(figure)), "text/html": styled(html)}


def _words(table: Table, y: str) -> str:
    """Return the words of each layer as a plain table, a column per line of the plot; "" where there are no words."""
    columns = _COLUMNS[table.kind](table, y) if table.kind in _COLUMNS else {}
    layers = sorted({layer for column in columns.values() for layer in column})
    if not layers:
        return ""
    return render("widgets/words.html", columns=columns, layers=layers)


_IN_WORDS = {"confidence": percent, "grade": grade, "log_prob_reference": nats}


def _readings(table: Table[Reading], y: str) -> dict[str, dict[int, str]]:
    """Return the oracle's most frequent answer at each layer, and the value that the plot shows."""

    def cell(own: Sequence[Reading]) -> str:
        for measure in (y, "confidence"):
            if pooled := pool_readings(own, attrgetter(measure)):
                return f"{pooled.first} {_IN_WORDS[measure](pooled.value)}"
        return ""

    return {line.name: {layer: cell(own) for layer, own in line.by_layer().items()} for line in lines(table, *APART)}


def _next_tokens(table: Table[NextToken], _: str) -> dict[str, dict[int, str]]:
    """Return the token that is followed, and its rank among all tokens at each layer."""
    return {
        line.name: {layer: f"{quoted(own[0].token)} at rank {own[0].rank}" for layer, own in line.by_layer().items()}
        for line in lines(table, "diff", "asked", "what")
    }


def _lens(table: Table[LensToken], _: str) -> dict[str, dict[int, str]]:
    """Return the words that stand out at each layer, by the method and at the position that the plot shows."""
    if not table:
        return {}
    first, words = table[0], dict[int, list[str]]()
    for token in table:
        if (token.diff, token.method, token.position) == (first.diff, first.method, first.position):
            words.setdefault(token.layer, []).append(quoted(token.token))
    return {f"{first.method} at token {first.position}": {at: ", ".join(own) for at, own in words.items()}}


_COLUMNS: dict[str, Callable[[Any, str], dict[str, dict[int, str]]]] = {
    "readings": _readings,
    "next_tokens": _next_tokens,
    "lens": _lens,
}


def _plain_text(table: Table) -> str:
    """Return a few lines for a terminal: how many records of what kind, and the answers."""
    lines = [f"{len(table)} {table.kind} of the suite {table.suite}"]
    if table.kind == "verbalizations":
        lines += [f"{_title(row.diff)} · {row.condition}: {quoted(row.text, 60)}" for row in table[:MOST_LINES]]
    return "\n".join(lines)
