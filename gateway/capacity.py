"""How much of a student's measured capacity is left in this process."""

from collections.abc import Callable
from dataclasses import dataclass

BURST_S = 2.0


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
