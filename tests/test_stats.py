"""The statistics: each against SciPy, scikit-learn or brute force, over random and edge cases."""

from itertools import product

import numpy
import pytest
from scipy import stats as scipy_stats
from sklearn import calibration, linear_model, metrics

from dit_core.stats import (
    auroc,
    bootstrap_interval,
    brier_score,
    cluster_bootstrap_intervals,
    expected_calibration_error,
    fit_logistic,
    logistic,
    phi_correlation,
    probability_bins,
    spearman_correlation,
    wilson_interval,
)

SEEDS = range(20)


def drawn(seed: int, ties: bool = False):
    """Scores and outcomes of a random number of trials, a positive and a negative one among them."""
    draw = numpy.random.default_rng(seed)
    n = int(draw.integers(5, 300))
    scores = draw.integers(0, 8, n) / 8 if ties else draw.random(n)
    outcomes = draw.random(n) < scores
    outcomes[:2] = True, False
    return scores, outcomes


# ---------------------------------------------------------------- intervals


@pytest.mark.parametrize(("hits", "n"), [(0, 1), (1, 1), (0, 80), (72, 80), (80, 80), (3, 7), (1, 100_000)])
def test_wilson_is_scipys(hits, n):
    reference = scipy_stats.binomtest(hits, n).proportion_ci(method="wilson")
    assert wilson_interval(hits, n) == pytest.approx((reference.low, reference.high), abs=1e-6)


def test_without_a_trial_a_share_may_be_anything():
    assert wilson_interval(0, 0) == (0, 1)


def test_wilson_is_the_textbook_interval():
    assert wilson_interval(0, 80) == pytest.approx((0, 0.0458), abs=1e-4)
    assert wilson_interval(72, 80) == pytest.approx((0.8149, 0.9485), abs=1e-4)
    assert wilson_interval(80, 80) == pytest.approx((0.9542, 1), abs=1e-4)


def test_the_bootstrap_is_the_same_each_time_and_covers_the_mean():
    values = [5] * 70 + [4] * 6 + [1] * 4
    low, high = bootstrap_interval(values)
    assert (low, high) == bootstrap_interval(values)
    assert low < sum(values) / 80 < high and high - low < 0.5
    assert bootstrap_interval([3, 3, 3]) == (3, 3)


@pytest.mark.parametrize("seed", range(5))
def test_the_bootstrap_is_scipys(seed):
    values = numpy.random.default_rng(seed).normal(size=60)
    reference = scipy_stats.bootstrap(
        (values,), numpy.mean, method="percentile", n_resamples=20_000, rng=numpy.random.default_rng(seed)
    ).confidence_interval
    assert bootstrap_interval(values, 20_000) == pytest.approx((reference.low, reference.high), abs=0.015)


def test_clusters_of_one_are_the_plain_bootstrap():
    values = numpy.random.default_rng(3).normal(size=12)
    names = [f"{place:02}" for place in range(12)]
    mean = lambda own: float(own.mean())  # noqa: E731
    assert cluster_bootstrap_intervals([mean], names, values, resamples=2000) == [
        pytest.approx(bootstrap_interval(values))
    ]


def test_rows_of_one_cluster_stay_together():
    """Ten rows each of two clusters that differ: a resample holds one of them twice, or both."""
    values, clusters = [0.0] * 10 + [1.0] * 10, ["a"] * 10 + ["b"] * 10
    seen = set()

    def mean(own):
        seen.add((len(own), float(own.mean())))
        return own.mean()

    never = lambda own: None  # noqa: E731
    assert cluster_bootstrap_intervals([mean, never], clusters, values) == [(0.0, 1.0), None]
    assert seen == {(20, 0.0), (20, 0.5), (20, 1.0)}


# ---------------------------------------------------------------- ranking


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_auroc_and_brier_are_scikit_learns(seed, ties):
    scores, outcomes = drawn(seed, ties)
    assert auroc(scores, outcomes) == pytest.approx(metrics.roc_auc_score(outcomes, scores))
    assert brier_score(scores, outcomes) == pytest.approx(metrics.brier_score_loss(outcomes, scores))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_spearman_is_scipys(seed, ties):
    scores, outcomes = drawn(seed, ties)
    other = scores[::-1] + outcomes
    assert spearman_correlation(scores, other) == pytest.approx(scipy_stats.spearmanr(scores, other).statistic)


def test_figures_are_those_of_brute_force():
    draw = numpy.random.default_rng(2)
    p = draw.integers(0, 20, 200) / 20
    y = (draw.random(200) < p).astype(float)
    pairs = [(a > b) + 0.5 * (a == b) for a, b in product(p[y == 1], p[y == 0])]
    assert auroc(p, y) == pytest.approx(sum(pairs) / len(pairs))
    assert brier_score(p, y) == pytest.approx(sum((a - b) ** 2 for a, b in zip(p, y, strict=True)) / 200)
    assert expected_calibration_error([0.8] * 10, [1] * 5 + [0] * 5, bins=1) == pytest.approx(0.3)
    assert expected_calibration_error([0, 0, 1, 1], [0, 0, 1, 1], bins=2) == 0
    assert auroc(p, numpy.zeros(200)) is None


def test_figures_that_are_not_defined_are_absent():
    assert spearman_correlation([1, 1], [1, 2]) is None and spearman_correlation([1], [1]) is None
    assert auroc([1, 2], [True, True]) is None and auroc([1], [False]) is None
    assert spearman_correlation([1, 2, 3], [1, 4, 9]) == pytest.approx(1) and auroc([1, 2], [False, True]) == 1
    assert auroc([], []) is None and spearman_correlation([], []) is None


@pytest.mark.parametrize("seed", SEEDS)
def test_phi_is_matthews_coefficient(seed):
    scores, first = drawn(seed)
    second = scores > 0.6
    second[:2] = True, False
    cells = [int(((first == a) & (second == b)).sum()) for a, b in product((True, False), repeat=2)]
    assert phi_correlation(*cells) == pytest.approx(metrics.matthews_corrcoef(first, second))


def test_phi_is_pearsons_correlation():
    first, second = [1, 1, 1, 0, 0, 1, 0, 0], [1, 1, 0, 0, 1, 1, 0, 0]
    cells = [sum(pair == cell for pair in zip(first, second, strict=True)) for cell in ((1, 1), (1, 0), (0, 1), (0, 0))]
    assert phi_correlation(*cells) == pytest.approx(numpy.corrcoef(first, second)[0, 1])
    assert phi_correlation(8, 0, 0, 0) is None and phi_correlation(3, 2, 0, 0) is None


# ---------------------------------------------------------------- calibration


@pytest.mark.parametrize("seed", SEEDS)
def test_the_calibration_error_is_scikit_learns_where_all_bins_hold_equally_many(seed):
    draw = numpy.random.default_rng(seed)
    p = draw.permutation(numpy.linspace(0.001, 0.999, 10 * int(draw.integers(1, 60))))
    y = draw.random(len(p)) < p**2
    right, mean = calibration.calibration_curve(y, p, n_bins=10, strategy="quantile")
    assert expected_calibration_error(p, y) == pytest.approx(abs(right - mean).mean())


def test_bins_hold_every_row_once_and_part_no_equal_probabilities():
    for seed in SEEDS:
        scores, _ = drawn(seed, ties=True)
        bins = probability_bins(scores)
        assert sorted(numpy.concatenate(bins)) == list(range(len(scores)))
        assert all(scores[low].max() < scores[high].min() for low, high in zip(bins, bins[1:], strict=False))
    assert len(probability_bins([0.5] * 30)) == 1 and len(probability_bins([0.1, 0.9])) == 2


# ---------------------------------------------------------------- logistic regression


@pytest.mark.parametrize("penalty", [0.01, 1.0])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_logistic_fit_is_scikit_learns(seed, penalty):
    draw = numpy.random.default_rng(seed)
    X = draw.normal(size=(200, 3)) * [1, 5, 0.2]
    y = draw.random(200) < logistic(X @ [1, -0.5, 3])
    weights = draw.uniform(0.1, 3, 200)
    reference = linear_model.LogisticRegression(C=1 / penalty, fit_intercept=False, tol=1e-10, max_iter=10_000)
    reference.fit(X, y, weights)
    assert fit_logistic(X, y, penalty, weights) == pytest.approx(reference.coef_[0], abs=1e-4)


def test_what_lies_between_counts_as_positive_in_part():
    X, shares = numpy.array([[1.0, 0.0], [1.0, 1.0], [1.0, 3.0]]), numpy.array([0.25, 0.5, 0.9])
    twice = numpy.concatenate([X, X]), numpy.repeat([1.0, 0.0], 3), numpy.concatenate([shares, 1 - shares])
    assert fit_logistic(X, shares, 0.1) == pytest.approx(fit_logistic(twice[0], twice[1], 0.1, twice[2]))


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_targets_that_a_feature_parts_without_a_fault_have_finite_coefficients(size):
    X = size * numpy.c_[numpy.arange(-10.0, 10), numpy.ones(20)]
    y = X[:, 0] >= 0
    found = fit_logistic(X, y, 1e-4)
    assert numpy.isfinite(found).all() and found[0] > 0
    slope = X.T @ (logistic(X @ found) - y) + 1e-4 * found
    assert abs(slope).max() < 1e-5, "the penalised likelihood has its only peak there"


def test_the_logistic_curve_neither_overflows_nor_loses_small_chances():
    with numpy.errstate(all="raise", under="ignore"):
        assert logistic([-1e4, 0.0, 1e4]).tolist() == [0.0, 0.5, 1.0]
    assert float(logistic(-50.0)) == pytest.approx(numpy.exp(-50.0), rel=1e-12)
