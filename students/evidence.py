"""Owns the sequential tests that rollouts decide by: valid however often one looks, and nothing but numbers inside.

**The test.** A pair gives a difference d in [-1, 1] (student minus teacher). For a null "the mean is at most m",
start with a wealth of 1 and multiply it, pair after pair, by 1 + λ·w·(d − m), where the bet λ ≥ 0 was fixed before
the pair was seen. If the null is true each factor has expectation ≤ 1 and none is negative, so the wealth is a
non-negative supermartingale, and by Ville's inequality it *ever* reaches 1/α with probability at most α. Reaching it
rejects the null; one may look after every pair, stop, and go on. "The mean is at least m" is tested likewise by 1 −
λ·w·(d − m). The bets are aGRAPA: the estimated edge over the estimated square, E[w(d − m)] / E[(w(d − m))²], cut at
half of what could ruin the gambler. Source: Waudby-Smith & Ramdas (2023), "Estimating means of bounded random
variables by betting", JRSS-B 86(1). Made-up pairs in front of the first real one (`Prior`) steady
the first bets; bets may be any function of the past, so a prior costs or gains evidence and never validity.

**Known sampling probabilities.** Let a request be sampled with a probability p ≥ floor that may depend on the
request, and let ξ say that it was. Its weight is w = floor / p in (0, 1], and its factor is 1 + λ·ξ·w·(d − m): one
that was not sampled multiplies by 1, so only sampled pairs need to be shown. Given the past, E[ξ·w·(d − m)] = floor ·
(E[d] − m), since E[ξ | request] = p cancels the p in w; so the factor's expectation is at most 1 exactly when the
mean over *all* requests is at most m. λ does not look at the present p, and w ≤ 1 keeps the factor positive under the
same cut of λ. The floor has to be promised beforehand: with a floor read off the pairs seen so far, a bad slice that
is sampled once in a thousand would be missed until after a false promotion. A rate common to all requests cancels:
leave it out (probability 1), and change it whenever you like.

What is independent is up to the caller: one pair per session and day (pairs of one conversation are not independent).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
UP, DOWN = 1, -1

BOLDNESS = 0.5
"""The largest share of the wealth that one pair may take; WSR call it the truncation c and advise 1/2 or 3/4."""


@dataclass(frozen=True)
class Prior:
    """Made-up pairs that stand in front of the first real one in the estimates behind the bets."""

    pairs: float
    mean: float
    square: float


PRIORS = {UP: Prior(pairs=20, mean=0.0, square=0.15), DOWN: Prior(pairs=20, mean=-0.08, square=0.15)}
"""Whoever hopes for proof expects an equal student; whoever watches for harm expects one that is 8 points worse."""


def _grid() -> Floats:
    """Nulls at which `interval()` looks: every half point up to ±20 points, coarser beyond."""
    fine = np.arange(-40, 41) / 200
    coarse = np.array([0.22, 0.24, 0.26, 0.28, 0.3, 0.33, 0.36, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9])
    return np.concatenate([-coarse[::-1], fine, coarse])


GRID = _grid()


@dataclass
class Sums:
    """Weighted sums of the differences so far (floats, or arrays with one entry a run)."""

    w: Any = 0.0
    wd: Any = 0.0
    ww: Any = 0.0
    wwd: Any = 0.0
    wwdd: Any = 0.0

    def add(self, difference: Any, weight: Any) -> None:
        wd = weight * difference
        self.w = self.w + weight
        self.wd = self.wd + wd
        self.ww = self.ww + weight * weight
        self.wwd = self.wwd + weight * wd
        self.wwdd = self.wwdd + wd * wd

    def fade(self, kept: float) -> None:
        for name, value in vars(self).items():
            setattr(self, name, value * kept)


def bets(sums: Sums, null: Any, direction: int) -> Any:
    """The aGRAPA bet λ ≥ 0 against each null, from past pairs alone; broadcasts sums (runs) against nulls.

    With x = w(d − null) the bet is Σx / Σx², prior pairs included, and at most BOLDNESS / (largest loss of one pair).
    """
    prior = PRIORS[direction]
    edge = sums.wd + prior.pairs * prior.mean - null * (sums.w + prior.pairs)
    square = (
        sums.wwdd
        + prior.pairs * prior.square
        - 2.0 * null * (sums.wwd + prior.pairs * prior.mean)
        + null * null * (sums.ww + prior.pairs)
    )
    return np.clip(direction * edge / square, 0.0, BOLDNESS / (1.0 + direction * null))


def gains(sums: Sums, null: Any, direction: int, difference: Any, weight: Any) -> Any:
    """What one pair adds to the log wealth against each null: log(1 ± λ·w·(d − null))."""
    return np.log1p(direction * bets(sums, null, direction) * weight * (difference - null))


def bar(alpha: float) -> float:
    """The log wealth that rejects a null at `alpha`: log(1/α)."""
    return -math.log(alpha)


@dataclass(frozen=True)
class Reading:
    """What a test says now, as plain numbers: for verdicts, tables and pages."""

    count: int
    mean: float
    low: float
    high: float
    proven: bool
    refuted: bool
    proven_at: int
    """The pair with which it was proven; 0 when it is not."""
    log_wealth: float
    """Natural logarithm of the evidence for the claim; proven once it has reached log(1/α)."""


class MeanTest:
    """Two one-sided tests of one threshold, and the confidence sequence around the mean, each side at `alpha`.

    Crossings are kept: what was proven stays proven, whatever later pairs say (a student that turns bad afterwards is
    the business of `Harm`). `floor` is the smallest sampling probability that any pair may have.
    """

    claim = UP
    """The direction that `proven` speaks for."""

    def __init__(self, threshold: float, alpha: float, floor: float = 1.0) -> None:
        if not -1.0 < threshold < 1.0:
            raise ValueError(f"threshold must lie inside (-1, 1), not {threshold}")
        if not 0.0 < alpha < 1.0:
            raise ValueError(f"alpha must lie inside (0, 1), not {alpha}")
        if not 0.0 < floor <= 1.0:
            raise ValueError(f"floor must lie inside (0, 1], not {floor}")
        self.threshold, self.alpha, self.floor = threshold, alpha, floor
        self.count = 0
        self._sums = Sums()
        self._nulls = np.concatenate([[threshold], GRID])
        self._log = {side: np.zeros(self._nulls.size) for side in (UP, DOWN)}
        self._crossed = {UP: 0, DOWN: 0}
        self._low, self._high = -1.0, 1.0

    def update(self, difference: float, probability: float = 1.0) -> None:
        """Count one pair: a difference in [-1, 1], sampled with `probability` in [floor, 1]; else ValueError."""
        if not abs(difference) <= 1.0:
            raise ValueError(f"a difference must lie inside [-1, 1], not {difference}")
        if not self.floor <= probability <= 1.0:
            raise ValueError(
                f"a pair's probability is {probability}, outside [{self.floor}, 1]: make the test with a lower floor"
            )
        weight = self.floor / probability
        for side, log in self._log.items():
            log += gains(self._sums, self._nulls, side, difference, weight)
        self._sums.add(difference, weight)
        self.count += 1
        self._keep_crossings()

    def _keep_crossings(self) -> None:
        for side, log in self._log.items():
            if not self._crossed[side] and log[0] >= bar(self.alpha):
                self._crossed[side] = self.count
        # A bound moves only past an unbroken row of rejected nulls: that makes it wrong with probability α at most.
        rejected = int(np.argmin(np.append(self._log[UP][1:] >= bar(self.alpha), False)))
        if rejected:
            self._low = max(self._low, float(GRID[rejected - 1]))
        rejected = int(np.argmin(np.append(self._log[DOWN][:0:-1] >= bar(self.alpha), False)))
        if rejected:
            self._high = min(self._high, float(GRID[-rejected]))

    @property
    def proven(self) -> bool:
        return bool(self._crossed[self.claim])

    @property
    def refuted(self) -> bool:
        return bool(self._crossed[-self.claim])

    @property
    def mean(self) -> float:
        """The weighted mean difference; 0 before the first pair."""
        return float(self._sums.wd / self._sums.w) if self.count else 0.0

    @property
    def log_wealth(self) -> float:
        return float(self._log[self.claim][0])

    def interval(self) -> tuple[float, float]:
        """(low, high): the mean lies above low at all times, and below high, each with probability ≥ 1 − α.

        Rounded outwards to the grid, half a point near zero. Bounds only ever tighten, so that they agree with what was
        proven; the mean so far may lie outside them for a while.
        """
        return self._low, self._high

    def reading(self) -> Reading:
        proven_at = self._crossed[self.claim]
        return Reading(self.count, self.mean, *self.interval(), self.proven, self.refuted, proven_at, self.log_wealth)

    def to_state(self) -> dict[str, Any]:
        """Everything, as JSON-ready numbers and lists; `from_state` goes on with the very same arithmetic."""
        return {
            "threshold": self.threshold,
            "alpha": self.alpha,
            "floor": self.floor,
            "count": self.count,
            "sums": [float(value) for value in vars(self._sums).values()],
            "up": self._log[UP].tolist(),
            "down": self._log[DOWN].tolist(),
            "crossed": [self._crossed[UP], self._crossed[DOWN]],
            "bounds": [self._low, self._high],
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        test = cls.__new__(cls)
        MeanTest.__init__(test, state["threshold"], state["alpha"], state["floor"])
        test.count = state["count"]
        test._sums = Sums(*state["sums"])
        test._log = {UP: np.array(state["up"]), DOWN: np.array(state["down"])}
        test._crossed = {UP: state["crossed"][0], DOWN: state["crossed"][1]}
        test._low, test._high = state["bounds"]
        return test


class NonInferiority(MeanTest):
    """Proven: the student is less than `margin` worse than the teacher. Refuted: it is worse by more than that."""

    claim = UP

    def __init__(self, margin: float, alpha: float, floor: float = 1.0) -> None:
        if not 0.0 < margin < 1.0:
            raise ValueError(f"margin must lie inside (0, 1), not {margin}")
        super().__init__(-margin, alpha, floor)


class Harm(MeanTest):
    """Proven: the student is worse than the teacher by more than `smallest`. Refuted: it is not."""

    claim = DOWN

    def __init__(self, smallest: float, alpha: float, floor: float = 1.0) -> None:
        if not 0.0 <= smallest < 1.0:
            raise ValueError(f"smallest must lie inside [0, 1), not {smallest}")
        super().__init__(-smallest, alpha, floor)


def guardrail_alpha(alpha: float, order: int) -> float:
    """The share of alpha for the guardrail that appeared as number k = `order`, from 1: α · 6 / (π² k²) sums to α."""
    if order < 1:
        raise ValueError(f"guardrails are counted from 1, not {order}")
    return alpha * 6.0 / (math.pi * order) ** 2


@dataclass(frozen=True)
class Paths:
    """What became of each run: the pair with which it was proven or refuted (0: never), and its log wealth."""

    proven_at: NDArray[np.int64]
    refuted_at: NDArray[np.int64]
    log_wealth: Floats
    log_wealth_against: Floats
    trail: Floats
    """The log wealth after each `every` pairs, [runs, looks]."""
    every: int


def paths(differences: Floats, test: MeanTest, probabilities: Floats | None = None, every: int = 1_000) -> Paths:
    """Play many runs at once, `differences[runs, pairs]`, through a test's arithmetic; the test itself is only read.

    NaN marks a pair that did not happen: it changes nothing but still counts in the pair's number. The trail notes the
    log wealth `every` so many pairs. ValueError for what the test's `update` refuses.
    """
    if (np.abs(differences) > 1.0).any():
        raise ValueError("differences must lie inside [-1, 1]")
    if probabilities is not None and not ((probabilities >= test.floor) & (probabilities <= 1.0)).all():
        raise ValueError(f"probabilities must lie inside [{test.floor}, 1]: make the test with a lower floor")
    runs, pairs = differences.shape
    sums = Sums(*(np.zeros(runs) for _ in range(5)))
    log = {side: np.zeros(runs) for side in (UP, DOWN)}
    crossed = {side: np.zeros(runs, dtype=np.int64) for side in (UP, DOWN)}
    trail = np.zeros((runs, pairs // every))
    for pair in range(pairs):
        happened = ~np.isnan(differences[:, pair])
        difference = np.where(happened, differences[:, pair], 0.0)
        weight = happened * (1.0 if probabilities is None else test.floor / probabilities[:, pair])
        for side in (UP, DOWN):
            log[side] += gains(sums, test.threshold, side, difference, weight)
            crossed[side][(crossed[side] == 0) & (log[side] >= bar(test.alpha))] = pair + 1
        sums.add(difference, weight)
        if (pair + 1) % every == 0:
            trail[:, pair // every] = log[test.claim]
    return Paths(crossed[test.claim], crossed[-test.claim], log[test.claim], log[-test.claim], trail, every)
