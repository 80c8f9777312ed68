"""How cards look in a notebook: the cards' own style sheet inside one frame, coloured as the notebook around it is."""

from __future__ import annotations

import re
from functools import cache

from dit_core.present import cards
from dit_core.present.palette import kind_colours

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
    """Escaped HTML in the frame that `sheet` gives its look; `live` keeps room in cards that are still being filled."""
    return f'<div class="dit-notebook{" dit-live" if live else ""}">{html}</div>'


def styled(html: str) -> str:
    """The same with its style sheet, for HTML that stands alone."""
    return sheet() + framed(html)


@cache
def sheet() -> str:
    """The style sheet, all of it inside the frame's own class, twice: a notebook's rules for headings are strong."""
    variables = "".join(f"--{name}: {_first(names)};\n" for name, names in _VARIABLES.items())
    inside = re.sub(r"/\*.*?\*/|@keyframes.*", "", kind_colours() + cards.style())  # keyframes can't stand inside
    return f"<style>.dit-notebook.dit-notebook {{\n{variables}{inside}{_OWN}}}</style>"


def _first(names: tuple[str, ...]) -> str:
    """The first of the variables that is there, in CSS; the last of the names is the colour where none is."""
    *variables, found = names
    for name in reversed(variables):
        found = f"var(--{name}, {found})"
    return found
