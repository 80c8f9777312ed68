"""How far probabilities can be believed: calibration error, area under the ROC curve, Brier score, with intervals."""

from collections.abc import Sequence
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
    error = partial(expected_calibration_error, bins=bins)
    ece_interval, brier_interval, auroc_interval = cluster_bootstrap_intervals(
        (error, brier_score, auroc), diffs, p, y, resamples=RESAMPLES
    )
    assert ece_interval and brier_interval, "which are defined of every resample"
    return Reliability(
        of,
        n=len(p),
        right=int(y.sum()),
        diffs=len(set(diffs)),
        ece=error(p, y),
        auroc=auroc(p, y),
        brier=brier_score(p, y),
        ece_interval=ece_interval,
        auroc_interval=auroc_interval,
        brier_interval=brier_interval,
        bins=[
            {"n": len(rows), "probability": float(p[rows].mean()), "right": float(y[rows].mean())}
            for rows in probability_bins(p, bins)
        ],
    )
