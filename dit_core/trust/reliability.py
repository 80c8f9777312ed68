"""How far probabilities can be believed: calibration error, area under the ROC curve, Brier score, with intervals."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy

from dit_core.records import Reliability
from dit_core.stats import (
    BINS,
    auroc,
    brier_score,
    cluster_bootstrap_intervals,
    expected_calibration_error,
    probability_bins,
)

RESAMPLES = 1000


def reliability(
    of: str, diffs: Sequence[str], probabilities: Sequence[float], right: Sequence[bool], bins: int = BINS
) -> Reliability:
    """All figures of one group of trials, each of the diff at its place in `diffs`; intervals (95 %) over diffs."""
    p, y = numpy.asarray(probabilities, dtype=float), numpy.asarray(right, dtype=float)
    figures: dict[str, Callable] = {
        "ece": partial(expected_calibration_error, bins=bins),
        "auroc": auroc,
        "brier": brier_score,
    }
    values = {name: figure(p, y) for name, figure in figures.items()}
    drawn = cluster_bootstrap_intervals(list(figures.values()), diffs, p, y, resamples=RESAMPLES)
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
            for own in probability_bins(p, bins)
        ],
    )
