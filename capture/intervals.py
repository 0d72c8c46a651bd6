"""The exact interval of a proportion."""

import math
from collections.abc import Callable


def clopper_pearson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The exact interval of a proportion; (0, 1) when n is 0.

    The lower end is the p at which P(X >= successes) is half the error, the upper end where P(X <= successes) is that.
    Source: Clopper & Pearson (1934), "The use of confidence or fiducial limits", Biometrika 26(4).
    """
    if not 0 <= successes <= n:
        raise ValueError(f"successes must lie inside [0, {n}], not {successes}")
    tail = (1 - confidence) / 2
    low = 0.0 if successes == 0 else _root(lambda p: upper_tail(successes, n, p) - tail)
    high = 1.0 if successes == n else _root(lambda p: tail - (1 - upper_tail(successes + 1, n, p)))
    return low, high


def upper_tail(k: int, n: int, p: float) -> float:
    """P(X >= k) for X binomial(n, p), summed in logarithms."""
    if p <= 0.0 or p >= 1.0:
        return float(p >= 1.0)
    terms = [
        math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) + i * math.log(p) + (n - i) * math.log1p(-p)
        for i in range(k, n + 1)
    ]
    return min(1.0, math.fsum(math.exp(term) for term in terms))


def _root(rising: Callable[[float], float]) -> float:
    """Where a function that rises on (0, 1) is zero, by bisection to 2⁻⁵⁰."""
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if rising(middle) > 0 else (middle, high)
    return (low + high) / 2
