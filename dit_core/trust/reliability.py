"""How far probabilities can be believed: calibration error, area under the ROC curve, Brier score, with intervals."""

from collections.abc import Callable, Sequence

import numpy

from dit_core.records import Reliability

BINS = 10
RESAMPLES = 1000


def reliability(
    of: str, diffs: Sequence[str], probabilities: Sequence[float], right: Sequence[bool], bins: int = BINS
) -> Reliability:
    """All figures of one group of trials, each of the diff at its place in `diffs`; intervals (95 %) over diffs."""
    p, y = numpy.asarray(probabilities, dtype=float), numpy.asarray(right, dtype=float)
    figures: dict[str, Callable] = {"ece": lambda p, y: ece(p, y, bins), "auroc": auroc, "brier": brier}
    values = {name: figure(p, y) for name, figure in figures.items()}
    drawn = _resampled(diffs, p, y, list(figures.values()))
    intervals = dict(zip(figures, drawn, strict=True))
    return Reliability(
        of,
        n=len(p),
        right=int(y.sum()),
        diffs=len(set(diffs)),
        **values,
        **{f"{name}_interval": intervals[name] if values[name] is not None else None for name in figures},
        bins=[
            {"n": len(own), "probability": float(p[own].mean()), "right": float(y[own].mean())}
            for own in _bins(p, bins)
        ],
    )


def ece(p: numpy.ndarray, y: numpy.ndarray, bins: int = BINS) -> float:
    """Expected calibration error: over bins of about equally many trials, the mean |share right - mean probability|."""
    return float(sum(abs(p[own].mean() - y[own].mean()) * len(own) for own in _bins(p, bins)) / len(p))


def auroc(p: numpy.ndarray, y: numpy.ndarray) -> float | None:
    """How often a right answer has the higher probability of a right and a wrong one; None without one of each."""
    right, wrong = p[y == 1], p[y == 0]
    if not len(right) or not len(wrong):
        return None
    beside = numpy.searchsorted(numpy.sort(wrong), right, "left"), numpy.searchsorted(numpy.sort(wrong), right, "right")
    return float(sum(beside).mean() / 2 / len(wrong))


def brier(p: numpy.ndarray, y: numpy.ndarray) -> float:
    """Mean squared distance of probability and truth."""
    return float(((p - y) ** 2).mean())


def _bins(p: numpy.ndarray, bins: int) -> list[numpy.ndarray]:
    """Places of the trials from the least to the most probable, in at most `bins` parts of equal numbers.

    Equal probabilities are never parted: which of them came first would decide the error.
    """
    order = numpy.argsort(p, kind="stable")
    cuts = [round(len(p) * cut / bins) for cut in range(1, bins)]
    cuts = sorted({int(numpy.searchsorted(p[order], p[order[cut - 1]], "right")) for cut in cuts if cut})
    return [part for part in numpy.split(order, cuts) if len(part)]


def _resampled(
    diffs: Sequence[str], p: numpy.ndarray, y: numpy.ndarray, figures: Sequence[Callable]
) -> list[tuple[float, float] | None]:
    """The percentile bootstrap of each figure: whole diffs are drawn, each with all its trials; with a fixed seed."""
    names = sorted(set(diffs))
    own = [numpy.flatnonzero(numpy.asarray(diffs) == name) for name in names]
    draws = numpy.random.default_rng(0).integers(0, len(names), (RESAMPLES, len(names)))
    found: list[list[float]] = [[] for _ in figures]
    for draw in draws:
        places = numpy.concatenate([own[at] for at in draw])
        for values, figure in zip(found, figures, strict=True):
            if (value := figure(p[places], y[places])) is not None:
                values.append(value)
    return [tuple(map(float, numpy.percentile(values, (2.5, 97.5)))) if values else None for values in found]
