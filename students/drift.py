"""Owns the watch for a student that was good and turns bad: a detector that forgets, and may run for ever.

The tests of students/evidence.py answer for a whole rollout, so thousands of good pairs outweigh a bad day. Here the
wealth of a harm test is never let below 1: M = max(M, 1) · factor, with bets from the last pairs alone, and reaching N
is an alarm. M stays below Shiryaev and Roberts' statistic R = (R + 1) · factor, whose value at a stopping time is, by
optional stopping, in expectation at most that time as long as the mean is at least −smallest. So without drift the mean
number of pairs to a false alarm is N or more. Source: Shin, Ramdas & Rinaldo (2024), "E-detectors", NEJSDS 2(2).
"""

import math
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from students.evidence import DOWN, Floats, Sums, gains

MEMORY_PAIRS = 50
"""How many pairs the bets remember, as the time constant of their forgetting."""

FADING = 1.0 - 1.0 / MEMORY_PAIRS


class Drift:
    """Alarmed, for good, once the student has lately been worse than the teacher by more than `smallest`.

    Without drift a false alarm takes `run_length` pairs or more on average. `floor`: see students/evidence.py.
    """

    def __init__(self, smallest: float, run_length: float, floor: float = 1.0) -> None:
        if not 0.0 <= smallest < 1.0:
            raise ValueError(f"smallest must lie inside [0, 1), not {smallest}")
        if not run_length > 1.0:
            raise ValueError(f"run_length must be above 1 pair, not {run_length}")
        self.smallest, self.run_length, self.floor = smallest, run_length, floor
        self.count = 0
        self.alarm_at = 0
        """The pair that raised the alarm; 0 for none."""
        self._log = 0.0
        self._sums = Sums()

    def update(self, difference: float, probability: float = 1.0) -> None:
        """Count one pair: a difference in [-1, 1], sampled with `probability` in [floor, 1]; else ValueError."""
        if not abs(difference) <= 1.0:
            raise ValueError(f"a difference must lie inside [-1, 1], not {difference}")
        if not self.floor <= probability <= 1.0:
            raise ValueError(f"a pair's probability is {probability}, outside [{self.floor}, 1]")
        self._log = float(_next(self._log, self._sums, self.smallest, difference, self.floor / probability))
        self.count += 1
        if not self.alarm_at and self._log >= math.log(self.run_length):
            self.alarm_at = self.count

    @property
    def alarmed(self) -> bool:
        return self.alarm_at > 0

    @property
    def recent_mean(self) -> float:
        """The mean difference as it is remembered; 0 before the first pair."""
        return float(self._sums.wd / self._sums.w) if self.count else 0.0

    def to_state(self) -> dict[str, Any]:
        """JSON-ready; `from_state` goes on identically."""
        kept = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        return {**kept, "log": self._log, "sums": [float(value) for value in vars(self._sums).values()]}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        drift = cls(state["smallest"], state["run_length"], state["floor"])
        drift.count, drift.alarm_at = state["count"], state["alarm_at"]
        drift._log, drift._sums = state["log"], Sums(*state["sums"])
        return drift


def alarms(differences: Floats, drift: Drift, probabilities: Floats | None = None) -> NDArray[np.int64]:
    """Play `differences[runs, pairs]` through a detector, which is only read: the pair of each run's alarm, or 0.

    NaN marks a pair that did not happen: it changes nothing but still counts in the pair's number.
    """
    runs, pairs = differences.shape
    sums, log, alarm_at = Sums(*(np.zeros(runs) for _ in range(5))), np.zeros(runs), np.zeros(runs, dtype=np.int64)
    for pair in range(pairs):
        happened = ~np.isnan(differences[:, pair])
        weights = np.ones(runs) if probabilities is None else drift.floor / probabilities[:, pair]
        if not happened.all():
            log = _next_where(happened, log, sums, drift, (differences[:, pair], weights))
        else:
            log = _next(log, sums, drift.smallest, differences[:, pair], weights)
        alarm_at[(alarm_at == 0) & (log >= math.log(drift.run_length))] = pair + 1
    return alarm_at


def _next_where(
    happened: NDArray[np.bool_], log: Floats, sums: Sums, drift: Drift, seen: tuple[Floats, Floats]
) -> NDArray[np.float64]:
    """As `_next` for the runs in which the pair happened; the others stay as they are. `seen`: differences, weights."""
    some = Sums(*(value[happened] for value in vars(sums).values()))
    after = log.copy()
    differences, weights = (values[happened] for values in seen)
    after[happened] = _next(log[happened], some, drift.smallest, differences, weights)
    for name, value in vars(some).items():
        getattr(sums, name)[happened] = value
    return after


def _next(log: Any, sums: Sums, smallest: float, difference: Any, weight: Any) -> Any:
    """The log wealth after one more pair; the pair is added to `sums`, which forget a little of those before."""
    after = np.maximum(log, 0.0) + gains(sums, -smallest, DOWN, difference, weight)
    sums.fade(FADING)
    sums.add(difference, weight)
    return after
