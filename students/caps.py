"""Owns the bounds of background calls: the task's spend a day, and the provider's rate limit. One a worker."""

import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from sqlalchemy import func, select

from capture.db import Store
from capture.exchange import Answer
from capture.ids import new_id
from capture.prices import cost_usd
from capture.settings import Settings
from students.tables import spend

LEAST_REMAINING = 0.2
"""Background calls stop when less than this part of the provider's rate limit is left."""

REST_S = 30.0
BACKGROUND = ("shadow", "pairing", "judge", "relabelling")


class Caps:
    """Says whether a background call may be made, and writes down what it cost. Thread-safe."""

    def __init__(self, store: Store, settings: Settings, clock: Callable[[], float]) -> None:
        self._store, self._settings, self._clock = store, settings, clock
        self._resting: dict[str, float] = {}
        self._lock = threading.Lock()

    def obstacle(
        self, task: str, upstream: str, cap_usd: float | None, purposes: Sequence[str] = BACKGROUND
    ) -> str | None:
        """Why no call may be made now, as a sentence's part; None when it may. The cap is on calls for `purposes`."""
        if self.rest_s(upstream):
            return f"less than {LEAST_REMAINING:.0%} of the rate limit of upstream {upstream} is left"
        if cap_usd is None:
            return None
        spent, unknown = self._spent_today(task, purposes)
        if unknown:
            return f"the spend cap cannot be kept: {unknown} calls today have no known price (set [prices])"
        return f"today's spend cap of {cap_usd:.2f} USD is reached" if spent >= cap_usd else None

    def rest_s(self, upstream: str) -> float:
        """For how many seconds an upstream is to be left alone; 0 where it may be asked."""
        with self._lock:
            return max(0.0, self._resting.get(upstream, 0.0) - self._clock())

    def _spent_today(self, task: str, purposes: Sequence[str]) -> tuple[float, int]:
        """(USD, calls without a known price) of the task's background calls since midnight UTC."""
        midnight = datetime.fromtimestamp(self._clock(), UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        query = select(func.sum(spend.c.cost_usd), func.count(), func.count(spend.c.cost_usd)).where(
            spend.c.task == task, spend.c.at >= midnight.timestamp(), spend.c.purpose.in_(purposes)
        )
        with self._store.read() as connection:
            total, calls, priced = connection.execute(query).one()
        return float(total or 0.0), int(calls - priced)

    def note_remaining(self, upstream: str, remaining: float | None) -> None:
        """Take in how much of the rate limit an answer said is left."""
        if remaining is not None and remaining < LEAST_REMAINING:
            with self._lock:
                self._resting[upstream] = self._clock() + REST_S

    def write(self, task: str, purpose: str, upstream: str, model: str, answer: Answer) -> None:
        """One call's row of spend; an unknown price stays unknown."""
        usage = answer.usage
        row = {
            "id": new_id(),
            "at": self._clock(),
            "task": task,
            "purpose": purpose,
            "upstream": upstream,
            "model": model,
            "input_tokens": usage.input_tokens if usage else 0,
            "output_tokens": usage.output_tokens if usage else 0,
            "cost_usd": cost_usd(model, usage, self._settings.prices),
        }
        with self._store.write() as connection:
            connection.execute(spend.insert().values(row))
