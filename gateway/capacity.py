"""How much of a student's measured capacity is left in this process, and which sessions are no sessions."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import structlog

BURST_S = 2.0
WINDOW = 1000
HEAVY = 0.05

_log = structlog.get_logger("stillhouse.gateway")


@dataclass(slots=True)
class _Bucket:
    """Holds up to `size`, fills up at `per_s`."""

    size: float
    per_s: float
    level: float
    at: float

    def fill(self, now: float) -> None:
        self.level = min(self.size, self.level + max(0.0, now - self.at) * self.per_s)
        self.at = now


class Capacity:
    """One token an answer, refilled at an N-th of what the student was measured to do; `clock` is monotonic."""

    def __init__(self, processes: int, clock: Callable[[], float]) -> None:
        self._processes = processes
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}

    def take(self, student_id: str, capacity_per_s: float | None) -> bool:
        """Whether the student may be given one more request now. An unmeasured student may always."""
        if capacity_per_s is None:
            return True
        per_s, now = capacity_per_s / self._processes, self._clock()
        bucket = self._buckets.get(student_id)
        if bucket is None or bucket.per_s != per_s:
            size = max(1.0, per_s * BURST_S)
            bucket = self._buckets[student_id] = _Bucket(size, per_s, size, now)
        bucket.fill(now)
        if bucket.level < 1:
            return False
        bucket.level -= 1
        return True


class HeavyKeys:
    """Finds session keys with more than a twentieth of a task's traffic: one of these would decide a rollout alone.

    Judged over windows of 1,000 requests a task and process; until the first is full every key is a session.
    """

    def __init__(self) -> None:
        self._counts: dict[str, Counter[str]] = {}
        self._totals: Counter[str] = Counter()
        self._heavy: dict[str, frozenset[str]] = {}

    def is_heavy(self, task: str, key: str) -> bool:
        """Counts one request of `key`, and tells what the last full window said of it."""
        counts = self._counts.setdefault(task, Counter())
        counts[key] += 1
        self._totals[task] += 1
        if self._totals[task] >= WINDOW:
            self._turn(task, counts)
        return key in self._heavy.get(task, ())

    def _turn(self, task: str, counts: Counter[str]) -> None:
        heavy = frozenset(key for key, count in counts.items() if count > HEAVY * WINDOW)
        if heavy - self._heavy.get(task, frozenset()):
            _log.warning("session_key_too_heavy", task=task, keys=len(heavy), treated="hashed per request")
        self._heavy[task] = heavy
        self._counts[task], self._totals[task] = Counter(), 0
