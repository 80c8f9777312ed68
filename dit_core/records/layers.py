"""Layers as people give them: a number, how deep one lies in percent, or a range between two of these."""

import re
from collections.abc import Sequence
from typing import Any

from dit_core.errors import DitError, checked_integer

LayerEnd = int | str
"""The number of a layer, or how deep it lies in percent, such as `25%`."""
_RANGE = re.compile(r"\s*(\d{1,6}%?)\s*(?:-\s*(\d{1,6}%?)\s*)?", re.ASCII)
MAX_LAYERS = 1_000_000  # above any number of one


def parse_range(text: str) -> tuple[LayerEnd, LayerEnd]:
    """Return the first and the last layer of a range written like `2-5`, `25%-50%` or `50%`; DitError for any other."""
    ends = _RANGE.fullmatch(text)
    if not ends:
        raise DitError(f"The layers '{text[:40]}' are not understood: write them like '3', '2-5', '50%' or '25%-50%'.")
    first, last = (end if end.endswith("%") else int(end) for end in (ends[1], ends[2] or ends[1]))
    return checked_range((first, last))


def checked_range(layers: Any) -> tuple[LayerEnd, LayerEnd]:
    """Return the first and the last layer of a range; DitError unless they are two numbers or percents, in order."""
    if not isinstance(layers, Sequence) or len(layers) != 2 or isinstance(layers, str):
        raise DitError(f"Layers are given by the first and the last one, like (2, 5), and not as {layers!r}.")
    first, last = map(_checked_end, layers)
    if isinstance(first, int) == isinstance(last, int) and float(str(first).strip("%")) > float(str(last).strip("%")):
        raise _no_range(first, last)
    return first, last


def layer_at(layer: LayerEnd, count: int) -> int:
    """Return the number of a layer that is given by its number, or in percent of a base's `count` layers, like `50%`.

    `int(count * percent / 100)`, by which activation oracles were trained (arXiv 2512.15674); 100% is the last layer.

    Raises:
        DitError: the base has no such layer.
    """
    percent = int(layer.rstrip("%")) if isinstance(layer, str) else 0
    number = min(int(count * percent / 100), count - 1) if isinstance(layer, str) else layer
    if not 0 <= number < count or percent > 100:
        raise DitError(f"The base has no layer {layer}: its {count} layers are counted from 0 to {count - 1}.")
    return number


def layer_range(ends: tuple[LayerEnd, LayerEnd], count: int) -> tuple[int, int]:
    """Return the first and the last layer of a range as numbers, in a base of `count` layers.

    Raises:
        DitError: the base has no such layer, or the first lies above the last.
    """
    first, last = (layer_at(end, count) for end in ends)
    if first > last:
        raise _no_range(*ends)
    return first, last


def _checked_end(layer: Any) -> LayerEnd:
    if isinstance(layer, str) and layer.endswith("%") and layer[:-1].isdecimal() and int(layer[:-1]) <= 100:
        return f"{int(layer[:-1])}%"
    return checked_integer(layer, "A layer", 0, MAX_LAYERS - 1)


def _no_range(first: LayerEnd, last: LayerEnd) -> DitError:
    return DitError(f"Layers {first} to {last} are no range: give the lower one first.")
