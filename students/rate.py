"""Owns how much eligible traffic there is: requests a second, smoothed, and no less than lately at its busiest."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

SMOOTHED_OVER_S = 30.0
"""Time constant of the smoothed rate."""
SPAN_S = 600.0
"""Over how long a busy time is averaged: a backlog that is caught up with is none."""
LONGEST_LOOK_S = 60.0
"""What one look may add to a span: after a longer silence the span goes on, until its backlog is in it too."""
REMEMBERED_S = 8 * 24 * 3600.0
"""How long the busiest span counts: no lull of a night or a weekend opens a step that Monday's traffic cannot take."""
LEAST_PER_S = 1e-6
"""Below this there is no traffic to speak of: what a student could carry of it says nothing."""


@dataclass
class TrafficRate:
    """Mutable; JSON-ready by `to_state`."""

    smoothed: float | None = None
    """Requests a second; None before the first look."""
    count: float = 0.0
    """Of the span under way, each weighted by no more than was promised: one user's flood is no busy time."""
    seconds: float = 0.0
    looked_s: float = 0.0
    """Of the span under way; looks were at least so long, and at most LONGEST_LOOK_S of each is counted here."""
    busiest: float = 0.0
    """Requests a second in the busiest span that is remembered."""
    busiest_at: float = 0.0

    @property
    def per_s(self) -> float | None:
        """The traffic that has to be reckoned with; None before any was seen."""
        found = max(self.smoothed or 0.0, self.busiest)
        return found if found >= LEAST_PER_S else None

    def add(self, count: float, elapsed_s: float, now: float, steady: float | None = None) -> None:
        """Count requests that came in the last `elapsed_s` seconds; `now` in Unix seconds.

        `steady`: an estimate of them that no single kept request moves far, for the busiest span; None: the same.
        """
        self.count += count if steady is None else steady
        if elapsed_s <= 0.0:
            return
        rate, weight = count / elapsed_s, min(1.0, elapsed_s / SMOOTHED_OVER_S)
        self.smoothed = rate if self.smoothed is None else self.smoothed + weight * (rate - self.smoothed)
        self.seconds, self.looked_s = self.seconds + elapsed_s, self.looked_s + min(elapsed_s, LONGEST_LOOK_S)
        if self.looked_s >= SPAN_S:
            self._close(now)

    def _close(self, now: float) -> None:
        rate = self.count / self.seconds
        if rate >= self.busiest or not self.busiest_at <= now < self.busiest_at + REMEMBERED_S:
            self.busiest, self.busiest_at = rate, now
        self.count, self.seconds, self.looked_s = 0.0, 0.0, 0.0

    def to_state(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Go on from `to_state`."""
        return cls(**state)


def carried(capacity_per_s: float | None, rate_per_s: float | None) -> float | None:
    """The part of `rate_per_s` eligible requests a second that a student of this measured capacity can carry.

    None: nothing limits it, since it was not measured; 0: how much comes cannot be said yet, so nothing says that it
    can carry more.
    """
    if capacity_per_s is None:
        return None
    return 0.0 if rate_per_s is None else capacity_per_s / rate_per_s


def rate_of(evidence: Mapping[str, Any]) -> TrafficRate:
    """The traffic as the rollout with this `evidence` has seen it."""
    return TrafficRate.from_state(evidence.get("rate", {}))
