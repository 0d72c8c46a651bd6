"""Owns what live exchanges say about a rollout without a pair: one mark each, counted by assignment."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from sqlalchemy import insert, select

from capture.db import Store
from capture.exchange import Answer, Arm, Assignment, Exchange
from capture.ids import new_id
from capture.prices import cost_usd
from capture.settings import PriceSettings
from students.tables import observations, rollouts
from students.unpaired import luck_of


class Mark(StrEnum):
    """Whom an exchange was assigned to and how it went for the client."""

    STUDENT_GOOD = "A"
    STUDENT_BAD = "a"
    FALLBACK_GOOD = "F"  # assigned to the student, answered by the teacher
    FALLBACK_BAD = "f"
    TEACHER_GOOD = "T"
    TEACHER_BAD = "t"

    @property
    def student(self) -> bool:
        """Whether it counts for the student: what it was assigned to counts, whatever answered in the end."""
        return self in (Mark.STUDENT_GOOD, Mark.STUDENT_BAD, Mark.FALLBACK_GOOD, Mark.FALLBACK_BAD)

    @property
    def fallback(self) -> bool:
        return self in (Mark.FALLBACK_GOOD, Mark.FALLBACK_BAD)

    @property
    def good(self) -> bool:
        return self.isupper()


def mark_of(exchange: Exchange) -> Mark | None:
    """None for an exchange outside every rollout, and where the client itself broke off: nobody's fault is judged."""
    if exchange.rollout is None or exchange.assignment is None or (exchange.cause or "").startswith("client_"):
        return None
    good = exchange.status < 400 and exchange.complete
    if exchange.assignment != Assignment.STUDENT:
        return Mark.TEACHER_GOOD if good else Mark.TEACHER_BAD
    if exchange.arm == Arm.FALLBACK:
        return Mark.FALLBACK_GOOD if good else Mark.FALLBACK_BAD
    return Mark.STUDENT_GOOD if good else Mark.STUDENT_BAD


@dataclass(frozen=True)
class Measure:
    """How long one exchange took and what it cost, None: not known; the probability that it was kept with; its luck
    (see students/unpaired.py)."""

    first_ms: float | None = None
    duration_ms: float | None = None
    cost_usd: float | None = None
    probability: float = 1.0
    luck: float = 0.0

    def to_list(self) -> list[float | None]:
        return [self.first_ms, self.duration_ms, self.cost_usd, self.probability, self.luck]


UNKNOWN = Measure()


@dataclass(frozen=True)
class _Seen:
    mark: Mark
    measure: Measure


class Observer:
    """Gathers marks in memory and writes them as one row a rollout and flush. Thread-safe.

    A worker that is killed loses the marks since its last flush: they are a sample of what went on, and its size never
    depends on how it went. `prices` are the settings' own.
    """

    def __init__(self, prices: Mapping[str, PriceSettings] = MappingProxyType({})) -> None:
        self._prices = prices
        self._seen: dict[str, list[_Seen]] = {}
        self._lock = threading.Lock()

    def see(self, exchange: Exchange, answer: Answer | None, probability: float) -> None:
        """`probability`: that this exchange was kept with."""
        mark = mark_of(exchange)
        if mark is not None:
            seen = _Seen(mark, self._measured(exchange, answer, probability))
            with self._lock:
                self._seen.setdefault(str(exchange.rollout), []).append(seen)

    def _measured(self, exchange: Exchange, answer: Answer | None, probability: float) -> Measure:
        usage = None if answer is None else answer.usage
        cost = cost_usd(exchange.served_model or exchange.model, usage, self._prices)
        return Measure(exchange.first_ms, exchange.duration_ms, cost, probability, luck_of(exchange.id))

    def flush(self, store: Store) -> int:
        """Write what was gathered; how many marks. What cannot be written now is kept for the next time."""
        with self._lock:
            taken, self._seen = self._seen, {}
        if not taken:
            return 0
        try:
            with store.write() as connection:
                known = set(connection.execute(select(rollouts.c.id).where(rollouts.c.id.in_(taken))).scalars())
                rows = [_row(rollout, seen) for rollout, seen in taken.items() if rollout in known]
                if rows:
                    connection.execute(insert(observations), rows)
        except Exception:
            self._give_back(taken)
            raise
        return sum(len(seen) for seen in taken.values())

    def _give_back(self, taken: dict[str, list[_Seen]]) -> None:
        with self._lock:
            for rollout, seen in taken.items():
                self._seen[rollout] = seen + self._seen.get(rollout, [])


def _row(rollout: str, seen: list[_Seen]) -> dict[str, Any]:
    marks = "".join(one.mark for one in seen)
    return {"id": new_id(), "rollout_id": rollout, "marks": marks, "measures": [one.measure.to_list() for one in seen]}
