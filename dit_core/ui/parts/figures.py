"""Plotly figures on the page: drawn by plotly's own package file, fetched from this host, and clickable.

Gradio's `Plot` tells nobody what was clicked and knows no dark; this is a `gr.HTML` that draws with `page.js`. Its
value is what `shown` gives; its event `select` carries `x`, `y` and `data` (its customdata) of a clicked point.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
import plotly
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from dit_core.present.plots import as_json

PLACE = "plotly"  # below the page's address; page.js fetches `plotly/plotly.min.js`


def figure(value: str = "", height: int = 360, **options: Any) -> gr.HTML:
    """Draw a place of `height` pixels for what `shown` gives, kept while it is empty; `options` go to `gr.HTML`."""
    return gr.HTML(
        value,
        html_template=f'<div class="dit-figure" style="height:{height}px"></div>',
        js_on_load="window.dit.figure(element, props, watch, (point) => trigger('select', point))",
        apply_default_css=False,
        **options,
    )


def shown(draw: Callable[..., Any]) -> str:
    """Return `draw(dark=False)` and `draw(dark=True)` as the value of a `figure`, which shows the one that fits."""
    return f'{{"light": {as_json(draw(dark=False))}, "dark": {as_json(draw(dark=True))}}}'


def files() -> Mount:
    """Return the route that serves plotly's package file."""
    return Mount(f"/{PLACE}", StaticFiles(directory=Path(plotly.__file__).parent / "package_data"), name=PLACE)
