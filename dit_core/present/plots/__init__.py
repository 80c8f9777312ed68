"""Plots: tables of records as plotly figures, the same on the page and in notebooks. No model runs here.

Every figure's title says what its own numbers show; a table with nothing to draw becomes a sentence. `dark` picks the
theme; the background is transparent. `CONFIG` is plotly's configuration for showing them, `as_json` a figure with it.
Plotly is imported when the first figure is drawn.
"""

from dit_core.present.plots.calibration import NAMES, in_words, reliability
from dit_core.present.plots.charts import kind_of, name_of
from dit_core.present.plots.heat_maps import changed_modules, difference_norms, heat_map
from dit_core.present.plots.layers import by_layer
from dit_core.present.plots.lens import adl_tokens, cosine, lens_tokens, next_token_by_layer
from dit_core.present.plots.scores import correlations, grade_bars, scaling, title, who_named
from dit_core.present.plots.style import CONFIG, as_json, plain, sentence
from dit_core.present.plots.sweep import sweep_figure

__all__ = [
    "CONFIG",
    "NAMES",
    "adl_tokens",
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
    "sweep_figure",
    "title",
    "changed_modules",
    "who_named",
]
