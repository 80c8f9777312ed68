"""The statistics of this project, one copy of each: intervals, ranking, calibration, agreement and logistic regression.

Plain functions of numbers: they know no record and no suite. Intervals are 95 %, and nothing is drawn without a fixed
seed, so that the same data always give the same figures. Values must be finite.
"""

from collections.abc import Callable, Hashable, Sequence
from math import sqrt
from typing import Any, TypeAlias

import numpy
from numpy.typing import ArrayLike, NDArray

Floats: TypeAlias = NDArray[numpy.float64]
Interval: TypeAlias = tuple[float, float]
Statistic: TypeAlias = Callable[..., float | None]

QUANTILE = 1.959964
"""Of the normal distribution at 97.5 %: the half-width, in standard errors, of a 95 % interval."""
BINS = 10
"""Of the expected calibration error."""
NEWTON_STEPS = 50


def wilson_interval(hits: float, n: int) -> Interval:
    """Return the 95 % score interval of a share of `hits` in `n` trials (Wilson, 1927); (0, 1) without a trial."""
    if not n:
        return 0.0, 1.0
    share, square = hits / n, QUANTILE**2 / n
    middle = (share + square / 2) / (1 + square)
    half = QUANTILE * sqrt((share * (1 - share) + square / 4) / n) / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)


def bootstrap_interval(values: Sequence[float], resamples: int = 2000) -> Interval:
    """Return the 95 % interval of the mean of at least one value, by the percentile bootstrap (Efron, 1979)."""
    data = numpy.asarray(values, dtype=float)
    return _percentiles(data[_draws(len(data), resamples)].mean(axis=1))


def cluster_bootstrap_intervals(
    statistics: Sequence[Statistic], clusters: Sequence[Hashable], *columns: ArrayLike, resamples: int = 1000
) -> list[Interval | None]:
    """Return the 95 % interval of each statistic where whole clusters, not single rows, were drawn.

    Args:
        statistics: each takes one array per column and gives a number, or None where it is not defined.
        clusters: of each row, what it belongs to.
        columns: data of equal lengths.
        resamples: how often as many clusters as there are get drawn, with replacement.

    Returns:
        One interval per statistic, over the resamples where it is defined; None where it is in none.
    """
    data = [numpy.asarray(column) for column in columns]
    rows: dict[Hashable, list[int]] = {}
    for row, cluster in sorted(enumerate(clusters), key=lambda item: str(item[1])):
        rows.setdefault(cluster, []).append(row)
    members = list(rows.values())
    found: list[list[float]] = [[] for _ in statistics]
    for draw in _draws(len(members), resamples):
        places = numpy.concatenate([members[cluster] for cluster in draw])
        for values, statistic in zip(found, statistics, strict=True):
            if (value := statistic(*(column[places] for column in data))) is not None:
                values.append(value)
    return [_percentiles(values) if values else None for values in found]


def auroc(scores: ArrayLike, positive: ArrayLike) -> float | None:
    """Return the area under the ROC curve: how often a positive has a higher score than a negative, ties counting half.

    None where all are positive, or none is.
    """
    truth = numpy.asarray(positive, dtype=bool)
    hits, others = int(truth.sum()), int((~truth).sum())
    if not (hits and others):
        return None
    return float((_ranks(scores)[truth].sum() - hits * (hits + 1) / 2) / (hits * others))


def spearman_correlation(first: ArrayLike, second: ArrayLike) -> float | None:
    """Return the correlation of two lists' ranks, -1 to 1; None where all values of one are equal."""
    one, other = _ranks(first), _ranks(second)
    if not (len(one) and numpy.ptp(one) and numpy.ptp(other)):
        return None
    return float(numpy.corrcoef(one, other)[0, 1])


def phi_correlation(both: int, only_first: int, only_second: int, neither: int) -> float | None:
    """Return Pearson's correlation of two yes-or-no variables, from how often each pair of values comes up.

    None where one of them never varies.
    """
    first, second, n = both + only_first, both + only_second, both + only_first + only_second + neither
    spread = first * (n - first) * second * (n - second)
    return (both * neither - only_first * only_second) / sqrt(spread) if spread else None


def quadratic_kappa(confusion: ArrayLike) -> float | None:
    """Return Cohen's kappa of two graders, weighted by the square of their distance (Cohen, 1968).

    `confusion`: [grades, grades], counts of pairs. None where both give every pair one grade.
    """
    counts = numpy.asarray(confusion, dtype=float)
    by_chance = numpy.outer(counts.sum(1), counts.sum(0)) / counts.sum()
    places = numpy.arange(len(counts))
    distance = (places[:, None] - places) ** 2
    expected = float((distance * by_chance).sum())
    return 1 - float((distance * counts).sum()) / expected if expected else None


def brier_score(probabilities: ArrayLike, outcomes: ArrayLike) -> float:
    """Return the mean squared distance of probability and outcome, 0 or 1 (Brier, 1950)."""
    return float(((numpy.asarray(probabilities, dtype=float) - numpy.asarray(outcomes, dtype=float)) ** 2).mean())


def expected_calibration_error(probabilities: ArrayLike, outcomes: ArrayLike, bins: int = BINS) -> float:
    """Return the mean |share of positives - mean probability| over bins, each weighing what it holds.

    Guo et al., 2017, with `probability_bins` in the place of bins of equal widths.
    """
    p, y = numpy.asarray(probabilities, dtype=float), numpy.asarray(outcomes, dtype=float)
    errors = [abs(p[rows].mean() - y[rows].mean()) * len(rows) for rows in probability_bins(p, bins)]
    return float(sum(errors) / len(p))


def probability_bins(probabilities: ArrayLike, bins: int = BINS) -> list[NDArray[numpy.intp]]:
    """Return the rows of at most `bins` bins of about equally many, from the least to the most probable.

    Equal probabilities are never parted: which of them came first would decide the calibration error.
    """
    p = numpy.asarray(probabilities, dtype=float)
    order = numpy.argsort(p, kind="stable")
    wanted = [round(len(p) * cut / bins) for cut in range(1, bins)]
    cuts = sorted({int(numpy.searchsorted(p[order], p[order[cut - 1]], "right")) for cut in wanted if cut})
    return [rows for rows in numpy.split(order, cuts) if len(rows)]


def fit_logistic(
    features: ArrayLike, targets: ArrayLike, penalties: ArrayLike, weights: ArrayLike | None = None
) -> Floats:
    """Return the coefficients of a ridge-penalised logistic regression, by Newton's method.

    They minimise the rows' weighted cross-entropy + ½ Σ penalty · coefficient². A column of ones is the intercept.

    Args:
        features: [rows, features].
        targets: [rows], 0 to 1; what lies between counts as positive in part.
        penalties: [features], or one number for all. Positive ones keep coefficients finite where a feature parts the
            targets without a fault.
        weights: [rows]; 1 each without them.
    """
    X, y = numpy.asarray(features, dtype=float), numpy.asarray(targets, dtype=float)
    scale = numpy.ones(len(y)) if weights is None else numpy.asarray(weights, dtype=float)
    penalty: Floats = numpy.broadcast_to(numpy.asarray(penalties, dtype=float), (X.shape[1],))

    def loss(coefficients: Floats) -> float:
        logits = X @ coefficients
        return float(scale @ (numpy.logaddexp(0, logits) - y * logits) + penalty @ coefficients**2 / 2)

    found: Floats = numpy.zeros(X.shape[1])
    for _ in range(NEWTON_STEPS):
        chance = logistic(X @ found)
        slope = X.T @ (scale * (chance - y)) + penalty * found
        curve = (X * (scale * chance * (1 - chance))[:, None]).T @ X + numpy.diag(penalty)
        step, before = numpy.linalg.solve(curve, slope), loss(found)
        while loss(found - step) > before and abs(step).max() > 1e-12:  # too far, where the curve is nearly flat
            step = step / 2
        found = found - step
    return found


def logistic(logits: ArrayLike) -> Floats:
    """Return 1 / (1 + exp(-logits)), without overflow."""
    values: Floats = numpy.exp(-numpy.logaddexp(0.0, -numpy.asarray(logits, dtype=float)))
    return values


def _draws(n: int, resamples: int) -> NDArray[numpy.int64]:
    """Which of n things are drawn: [resamples, n]."""
    return numpy.random.default_rng(0).integers(0, n, (resamples, n))


def _percentiles(values: Any) -> Interval:
    low, high = numpy.percentile(values, (2.5, 97.5))
    return float(low), float(high)


def _ranks(values: ArrayLike) -> Floats:
    """Ranks from 1; equal values share the mean of theirs."""
    _, place, counts = numpy.unique(numpy.asarray(values, dtype=float), return_inverse=True, return_counts=True)
    ranks: Floats = (numpy.cumsum(counts) - (counts - 1) / 2)[place]
    return ranks
