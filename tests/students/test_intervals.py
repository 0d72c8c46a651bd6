"""Intervals of evaluations against scipy, and where they must not lie."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from students.intervals import (
    clopper_pearson,
    cluster_bootstrap,
    conditional_interval,
    difference_interval,
    mean_interval,
    sign_test,
)


@given(st.integers(0, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
@settings(max_examples=60, deadline=None)
def test_clopper_pearson_is_scipys(counts: tuple[int, int]) -> None:
    successes, n = counts
    low, high = clopper_pearson(successes, n)
    if n == 0:
        assert (low, high) == (0.0, 1.0)
        return
    exact = stats.binomtest(successes, n).proportion_ci(0.95, "exact")
    assert low == pytest.approx(exact.low, abs=1e-9)
    assert high == pytest.approx(exact.high, abs=1e-9)


def test_bootstrap_of_single_rows_agrees_with_scipys() -> None:
    values = np.random.default_rng(3).normal(0.2, 0.5, 200).clip(-1, 1)
    ours = cluster_bootstrap(list(values), [str(number) for number in range(200)], seed=1)
    theirs = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=4000, rng=2).confidence_interval
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.01)


def test_clusters_widen_the_interval_as_they_must() -> None:
    """20 conversations of 10 equal rows are worth 20 rows, not 200."""
    by_cluster = np.random.default_rng(5).normal(0, 0.4, 20)
    values = list(np.repeat(by_cluster, 10))
    clusters = [str(number // 10) for number in range(200)]
    low, high = cluster_bootstrap(values, clusters, seed=1)
    apart = cluster_bootstrap(values, [str(number) for number in range(200)], seed=1)
    standard_error = by_cluster.std() / math.sqrt(20)
    assert (high - low) / 2 == pytest.approx(1.96 * standard_error, rel=0.1)
    assert (high - low) > 2.5 * (apart[1] - apart[0])


def test_coverage_of_the_clustered_interval() -> None:
    generator = np.random.default_rng(11)
    hits = 0
    for run in range(150):
        by_cluster = generator.normal(0.1, 0.3, 40)
        values = list((np.repeat(by_cluster, 5) + generator.normal(0, 0.2, 200)).clip(-1, 1))
        low, high = cluster_bootstrap(values, [str(number // 5) for number in range(200)], seed=run)
        hits += low <= 0.1 <= high
    assert 0.87 <= hits / 150 <= 0.99


def test_rows_that_are_all_right_are_not_certain() -> None:
    assert mean_interval([1.0] * 30, [str(n) for n in range(30)], 1)[0] == pytest.approx(0.025 ** (1 / 30))
    low, high = difference_interval([0.0] * 30, [str(n) for n in range(30)], 1)
    assert low == -high
    assert high == pytest.approx(1 - 0.025 ** (1 / 30))


def test_the_same_rows_give_the_same_interval() -> None:
    values = [0.0, 1.0, -1.0, 0.0, 0.5] * 7
    clusters = [str(number % 9) for number in range(35)]
    assert difference_interval(values, clusters, 7) == difference_interval(values, clusters, 7)


def test_nothing_has_no_interval() -> None:
    assert all(map(math.isnan, cluster_bootstrap([], [], 1)))


@pytest.mark.parametrize(("favour", "against", "same"), [(12, 2, 26), (1, 0, 39), (5, 5, 90), (0, 30, 1)])
def test_binary_differences_are_exact(favour: int, against: int, same: int) -> None:
    """McNemar's exact test and the conditional interval, against scipy's binomial."""
    values = [1.0] * favour + [-1.0] * against + [0.0] * same
    n, differing = len(values), favour + against
    theirs = stats.binomtest(favour, differing)
    assert sign_test(values) == pytest.approx(theirs.pvalue)
    exact = theirs.proportion_ci(0.95, "exact")
    expected = [differing * (2 * end - 1) / n for end in (exact.low, exact.high)]
    assert conditional_interval(values) == pytest.approx(tuple(expected), abs=1e-9)
    low, high = difference_interval(values, [str(number) for number in range(n)], 7)
    assert low <= expected[0] + 1e-9
    assert high >= expected[1] - 1e-9


def test_only_binary_differences_have_a_sign_test() -> None:
    assert sign_test([0.5, 1.0]) is None
    assert sign_test([]) is None
    assert sign_test([0.0, 0.0]) == 1.0


def test_one_better_row_of_many_is_no_proof() -> None:
    """The bootstrap alone would end at exactly 0."""
    low, _ = difference_interval([1.0] + [0.0] * 39, [str(number) for number in range(40)], 7)
    assert low < 0
