"""Plots: tables of records as plotly figures, the same on the page and in notebooks. No model runs here.

Every figure's title says what its own numbers show; a table with nothing to draw becomes a sentence. `dark` picks the
theme; the background is transparent. `CONFIG` is plotly's configuration for showing them, `as_json` a figure with it.
Plotly is imported when the first figure is drawn.
"""

from dit_core.present.plots.agreement import correlations, who_named
from dit_core.present.plots.changes import changed_modules
from dit_core.present.plots.layers import by_layer
from dit_core.present.plots.lens import cosine, lens_tokens
from dit_core.present.plots.lines import kind_of, name_of
from dit_core.present.plots.next_token import next_token_by_layer
from dit_core.present.plots.norms import difference_norms
from dit_core.present.plots.reliability import NAMES, in_words, reliability
from dit_core.present.plots.scores import grade_bars, scaling, title
from dit_core.present.plots.style import CONFIG, as_json, plain, sentence
from dit_core.present.plots.sweep import swept
from dit_core.present.plots.tokens import heat_map

__all__ = [
    "CONFIG",
    "NAMES",
    "as_json",
    "by_layer",
    "correlations",
    "cosine",
    "difference_norms",
    "grade_bars",
    "heat_map",
    "in_words",
    "kind_of",
    "lens_tokens",
    "name_of",
    "next_token_by_layer",
    "plain",
    "reliability",
    "scaling",
    "sentence",
    "swept",
    "title",
    "changed_modules",
    "who_named",
]
