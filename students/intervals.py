"""Owns the intervals of evaluations: cluster bootstrap beside the exact binomial one, as pure functions over arrays.

Fixed-size intervals: right for a holdout that is looked at once. Live traffic, looked at after every pair, is the
business of students/evidence.py.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from capture.intervals import clopper_pearson as clopper_pearson
from capture.intervals import upper_tail

Floats = NDArray[np.float64]

RESAMPLES = 2000


def cluster_bootstrap(
    values: Sequence[float], clusters: Sequence[str], seed: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Percentile interval of the mean when whole clusters are drawn with replacement; (nan, nan) when empty.

    Rows of one conversation are not independent, so conversations are what is resampled.
    Source: Davison & Hinkley (1997), "Bootstrap Methods and their Application", sections 3.8 and 5.3.1.
    """
    if not values:
        return math.nan, math.nan
    sums, counts = _totals(np.asarray(values, dtype=np.float64), clusters)
    generator = np.random.default_rng(seed)
    means = np.empty(RESAMPLES)
    for start in range(0, RESAMPLES, 100):  # in blocks: memory stays at 100 x clusters
        drawn = generator.integers(0, sums.size, size=(100, sums.size))
        means[start : start + 100] = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _totals(values: Floats, clusters: Sequence[str]) -> tuple[Floats, Floats]:
    _, member = np.unique(np.asarray(clusters), return_inverse=True)
    return np.bincount(member, weights=values).astype(np.float64), np.bincount(member).astype(np.float64)


def mean_interval(values: Sequence[float], clusters: Sequence[str], seed: int) -> tuple[float, float]:
    """95 % for a mean of scores in [0, 1].

    Exact where every value is 0 or 1; where clusters repeat too, the wider of exact and bootstrap on each side, since
    the exact one knows no clusters and the bootstrap says [1, 1] of rows that are all right.
    """
    resampled = cluster_bootstrap(values, clusters, seed)
    if not values or any(value not in (0.0, 1.0) for value in values):
        return resampled
    exact = clopper_pearson(int(sum(values)), len(values))
    if len(set(clusters)) == len(values):
        return exact
    return min(exact[0], resampled[0]), max(exact[1], resampled[1])


def difference_interval(values: Sequence[float], clusters: Sequence[str], seed: int) -> tuple[float, float]:
    """95 % for a mean of paired differences in [-1, 1]: cluster bootstrap, and exact where they are binary.

    Equal differences leave nothing to resample. Then the chance of any other difference has an exact upper end, and the
    mean lies no farther off than that chance times the largest step there is. Differences of binary scores (-1, 0, 1)
    are few among many zeros: there the wider of the bootstrap and the exact conditional interval is told, on each side.
    """
    if values and len(set(values)) == 1:
        other = 1.0 - clopper_pearson(len(values), len(values))[0]
        middle = values[0]
        return max(-1.0, middle - other * (1 + middle)), min(1.0, middle + other * (1 - middle))
    low, high = cluster_bootstrap(values, clusters, seed)
    if not values or not _are_binary(values):
        return low, high
    exact = conditional_interval(values)
    return min(low, exact[0]), max(high, exact[1])


def conditional_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Exact for the mean of differences of binary scores, given how many rows differ; (0, 0) when none does.

    Of d rows that differ among n, the ones in favour are binomial(d, p); the mean is d (2p - 1) / n, and p has Clopper
    and Pearson's interval. Source: Fagerland, Lydersen & Laake (2014), "Recommended tests and confidence intervals for
    paired binomial proportions", Statistics in Medicine 33(16), on the exact conditional interval.
    """
    favour, against = values.count(1.0), values.count(-1.0)
    differing = favour + against
    if not differing:
        return 0.0, 0.0
    low, high = clopper_pearson(favour, differing, confidence)
    return differing * (2 * low - 1) / len(values), differing * (2 * high - 1) / len(values)


def sign_test(values: Sequence[float]) -> float | None:
    """Two-sided exact p of "as often better as worse" for differences of binary scores (McNemar's exact test).

    None for other differences; 1 when no row differs. It takes rows as independent: of several rows of a conversation
    trust the interval.
    """
    if not values or not _are_binary(values):
        return None
    favour, against = values.count(1.0), values.count(-1.0)
    return min(1.0, 2 * upper_tail(max(favour, against), favour + against, 0.5)) if favour + against else 1.0


def _are_binary(values: Sequence[float]) -> bool:
    return all(value in (-1.0, 0.0, 1.0) for value in values)
