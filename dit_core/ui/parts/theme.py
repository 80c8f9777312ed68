"""How the page looks: Gradio's theme with the system's fonts, our CSS and the little JavaScript there is."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from json import dumps
from pathlib import Path

import gradio as gr

from dit_core.present import cards
from dit_core.present.html import render
from dit_core.present.palette import kind_colours

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
    return render("ui/parts/title_bar.html", suite_name=suite_name, title=title, glossary=GLOSSARY)
