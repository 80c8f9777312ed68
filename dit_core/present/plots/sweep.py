"""A sweep as a figure: a curve per adapter over what was varied, or a heat map where two things were."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import mean
from typing import TYPE_CHECKING, Any

from dit_core.present.plots.charts import Axis, Cell, cells
from dit_core.present.plots.style import canvas, hover, percent_axis, plain, quoted, sentence, shortened, theme
from dit_core.records import SweepPoint, Table

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

AXES = {"copies": "copies of the DIT adapter", "strength": "strength of the diff", "layers": "layers of the adapter"}
MEASURES = {
    "modal_share": "samples that agree",
    "similarity": "similarity to the answer at 1 copy",
    "confidence": "confidence (mean token probability)",
    "log_prob_reference": "log-probability of the reference, nats",
}
ALONE = "Nothing to compare with: there is no answer at 1 copy on all layers, with the diff as it is."
Setting = tuple[str, float, float, tuple[int, int] | None]
_LOOKS = (("#0072b2", "circle", "solid"), ("#d55e00", "square", "dash"), ("#009e73", "diamond", "dashdot"),
          ("#cc79a7", "triangle-up", "dot"), ("#6b8e23", "x", "longdash"))  # fmt: skip


def sweep_figure(table: Table[SweepPoint], y: str = "modal_share", dark: bool = False) -> Figure:
    """Draw what was measured over what was varied; answers on hover, the most common ones written into a heat map.

    `y` is a key of `MEASURES`. Of two axes that vary one goes across and one up, adapter by adapter; where layers
    vary as a third, only the first of the table are drawn. A point's customdata is the condition of its setting.
    """
    answered = [point for point in table if point.text]
    known = [point for point in answered if getattr(point, y) is not None]
    if not known:
        alone = answered and y == "similarity"
        return sentence(ALONE if alone else "Nothing has been measured yet.", dark)
    varied = [axis for axis in AXES if len({getattr(point, axis) for point in known}) > 1] or ["copies"]
    return _map(known, y, varied[0], varied[1], dark) if len(varied) > 1 else _curves(known, y, varied[0], dark)


def written(value: Any) -> str:
    """Return a value of an axis as people write it."""
    return "all" if value is None else f"{value[0]}–{value[1]}" if isinstance(value, tuple) else f"{value:g}"


def settings(records: Iterable[SweepPoint]) -> dict[Setting, list[SweepPoint]]:
    """Return the samples of each setting, by adapter, copies, strength and layers, in the order of the table."""
    samples: dict[Setting, list[SweepPoint]] = {}
    for point in records:
        samples.setdefault((point.adapter, point.copies, point.strength, point.layers), []).append(point)
    return samples


def most_said(samples: Sequence[SweepPoint]) -> str:
    """Return the text that most samples of a setting have."""
    texts = [point.text for point in samples]
    return max(texts, key=texts.count)


def _curves(known: Sequence[SweepPoint], y: str, axis: str, dark: bool) -> Figure:
    values = list(dict.fromkeys(getattr(point, axis) for point in known))
    named = axis == "layers"
    traces = []
    for at, adapter in enumerate(dict.fromkeys(point.adapter for point in known)):
        colour, symbol, dash = _LOOKS[at % len(_LOOKS)]
        own = settings(point for point in known if point.adapter == adapter)
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": plain(adapter),
                "x": [values.index(s[0].layers) if named else getattr(s[0], axis) for s in own.values()],
                "y": [_value(s, y) for s in own.values()],
                "line": {"color": colour, "dash": dash, "width": 2},
                "marker": {"symbol": symbol, "color": colour, "size": 8},
                "hoverinfo": "text",
                "hovertext": [_hover(s, y) for s in own.values()],
                "customdata": [[s[0].condition] for s in own.values()],
            }
        )
    ticks = {"tickvals": list(range(len(values))), "ticktext": [written(value) for value in values]} if named else {}
    return canvas(
        traces,
        _finding(known, y, axis),
        f"{MEASURES[y]}, mean over the samples of a setting; hover for what is said",
        dark,
        xaxis={"title": {"text": AXES[axis]}, **ticks},
        yaxis={"title": {"text": MEASURES[y]}, **({} if y == "log_prob_reference" else _shares())},
        margin={"b": 110},
        showlegend=True,
    )


def _map(known: Sequence[SweepPoint], y: str, across: str, up: str, dark: bool) -> Figure:
    """One map per adapter, the first one on top, each under a row that has its name only."""
    layers = known[0].layers
    if "layers" not in (across, up):
        known = [point for point in known if point.layers == layers]
    adapters = list(dict.fromkeys(point.adapter for point in known))
    columns, values = (
        sorted({getattr(point, axis) for point in known}, key=lambda value: (value is None, value))
        for axis in (across, up)
    )
    several = len(adapters) > 1
    rows = [(name, value) for name in reversed(adapters) for value in ([*values, name] if several else values)]
    found = {
        (columns.index(getattr(s[0], across)), rows.index((s[0].adapter, getattr(s[0], up)))): Cell(
            _value(s, y), _hover(s, y), [s[0].condition], plain(shortened(most_said(s), 10))
        )
        for s in settings(known).values()
    }
    measured = [_value(samples, y) for samples in settings(known).values()]
    shares = y != "log_prob_reference"
    return cells(
        found,
        Axis(AXES[across], [written(value) for value in columns]),
        Axis(AXES[up], [plain(value) if value in adapters else written(value) for _, value in rows]),
        _finding(known, y, across),
        f"{MEASURES[y]}; written: what most samples say" + ("" if up == "layers" else f"; layers: {written(layers)}"),
        dark,
        bar={"title": MEASURES[y], **(percent_axis() if shares else {})},
        limits=(0.0, 1.0) if shares else (min(measured), max(measured) + 1e-9),
        scale=[[0, theme(dark).low], [1, theme(dark).high]],  # shades that words can be read on
        row=26,
    )


def _shares() -> dict[str, Any]:
    return {"range": [-0.03, 1.05], **percent_axis()}


def _value(own: Sequence[SweepPoint], y: str) -> float:
    return mean(getattr(point, y) for point in own)


def _hover(own: Sequence[SweepPoint], y: str) -> str:
    first, most = own[0], Counter(point.text for point in own).most_common(4)
    answers = "; ".join(f"{quoted(text)} ×{times}" if times > 1 else quoted(text) for text, times in most)
    where = f"{first.adapter}, {first.copies:g} copies, strength {first.strength:g}, layers {written(first.layers)}"
    return hover(where, answers, f"{MEASURES[y]}: {_value(own, y):.3g}")


def _finding(known: Sequence[SweepPoint], y: str, axis: str) -> str:
    """Where what is measured is highest."""
    own = settings(known)
    best = max(own.values(), key=lambda s: _value(s, y))
    said = quoted(most_said(best), 30)
    return f"Highest at {AXES[axis].split(' ')[0]} {written(getattr(best[0], axis))} ({best[0].adapter}): {said}"
