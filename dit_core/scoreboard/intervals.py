"""How sure a figure is: 95 % intervals over diffs, for the diffs are what was drawn."""

from collections.abc import Sequence

import numpy


def over_diffs(diffs: Sequence[str], values: Sequence[float], share: bool) -> tuple[float, float]:
    """The interval of the mean of `values`, one per answer, each of the diff at its place in `diffs`.

    Wilson's for a share of one answer per diff, else bootstrapped. Of several answers of one diff, the diff is what
    was drawn: their mean counts once, however many they are.
    """
    by_diff: dict[str, list[float]] = {}
    for diff, value in zip(diffs, values, strict=True):
        by_diff.setdefault(diff, []).append(value)
    if share and len(by_diff) == len(values):
        return wilson(sum(values), len(values))
    return bootstrap([sum(own) / len(own) for own in by_diff.values()])


def wilson(hits: float, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of `hits` in `n`."""
    share, square = hits / n, z * z / n
    middle = (share + square / 2) / (1 + square)
    half = z * ((share * (1 - share) + square / 4) / n) ** 0.5 / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)


def bootstrap(values: Sequence[float], resamples: int = 2000) -> tuple[float, float]:
    """The 95 % interval of a mean by the percentile bootstrap, with a fixed seed."""
    data = numpy.asarray(values, dtype=float)
    draws = numpy.random.default_rng(0).integers(0, len(data), (resamples, len(data)))
    low, high = numpy.percentile(data[draws].mean(axis=1), (2.5, 97.5))
    return float(low), float(high)
