"""Owns what live exchanges say about a rollout without a pair: one mark each, counted by assignment."""

import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from sqlalchemy import delete, insert, select

from capture.db import Store
from capture.exchange import Answer, Arm, Assignment, Exchange
from capture.ids import new_id
from capture.prices import cost_usd
from capture.settings import PriceSettings
from students.claims import Claims, day_of
from students.heavy_keys import HeavyKeys
from students.registry import LIVE_STATES
from students.tables import observations, rollouts
from students.tally import floor_of
from students.unpaired import is_drawn, luck_of


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
    """How long one exchange took and what it cost, None: not known; the probability that it was kept with."""

    first_ms: float | None = None
    duration_ms: float | None = None
    cost_usd: float | None = None
    probability: float = 1.0
    compared: bool = True
    """Whether it speaks for its session: the first of the stage and day in an even sample, see students/unpaired.py."""

    def to_list(self) -> list[float | bool | None]:
        return [self.first_ms, self.duration_ms, self.cost_usd, self.probability, self.compared]


UNKNOWN = Measure()


@dataclass
class _Seen:
    mark: Mark
    measure: Measure
    session: tuple[str, str] | None
    """Its session and the day; None where it has none, and stands for itself."""
    luck: float
    settled: bool = False
    """Whether it is known if it is compared."""


class Observer:
    """Gathers marks in memory and writes them as one row a rollout and flush. Thread-safe.

    A worker that is killed loses the marks since its last flush: they are a sample of what went on, and its size never
    depends on how it went. `prices` are the settings' own.
    """

    def __init__(self, prices: Mapping[str, PriceSettings] = MappingProxyType({})) -> None:
        self._prices = prices
        self._seen: dict[str, list[_Seen]] = {}
        self._spoken, self._heavy = Claims(), HeavyKeys()
        self._floors: dict[str, float] = {}
        self._lock = threading.Lock()

    def see(self, exchange: Exchange, answer: Answer | None, probability: float) -> None:
        """`probability`: that this exchange was kept with."""
        mark = mark_of(exchange)
        if mark is not None:
            measure = self._measured(exchange, answer, probability)
            with self._lock:
                session = self._heavy.session(exchange.task or "", exchange.session)
                spoken = (session, day_of(exchange.started_at)) if session else None
                seen = _Seen(mark, measure, spoken, luck_of(exchange.id))
                self._seen.setdefault(str(exchange.rollout), []).append(seen)

    def _measured(self, exchange: Exchange, answer: Answer | None, probability: float) -> Measure:
        usage = None if answer is None else answer.usage
        cost = cost_usd(exchange.served_model or exchange.model, usage, self._prices)
        return Measure(exchange.first_ms, exchange.duration_ms, cost, probability)

    def flush(self, store: Store) -> int:
        """Write what was gathered; how many marks. What cannot be written now is kept for the next time."""
        with self._lock:
            taken, self._seen = self._seen, {}
        if not taken:
            return 0
        try:
            self._learn_floors(store, taken.keys() - self._floors.keys())
            stages = self._stages(store, taken.keys())
            rows = [self._row(rollout, stage, taken[rollout]) for rollout, stage in stages.items()]
            if rows:
                with store.write() as connection:
                    connection.execute(insert(observations), rows)
        except Exception:
            self._give_back(taken)
            raise
        return sum(len(seen) for seen in taken.values())

    def _learn_floors(self, store: Store, strange: Collection[str]) -> None:
        """What was promised when these rollouts began, which holds as long as they last."""
        if strange:
            query = select(rollouts.c.id, rollouts.c.evidence).where(rollouts.c.id.in_(strange))
            with store.read() as connection:
                self._floors |= {row.id: floor_of(row.evidence) for row in connection.execute(query)}

    def _stages(self, store: Store, seen: Collection[str]) -> dict[str, str]:
        """When the present stage of each began: what is compared by assignment begins anew there."""
        query = select(rollouts.c.id, rollouts.c.stage_at).where(rollouts.c.id.in_(seen))
        with store.read() as connection:
            return {row.id: str(row.stage_at) for row in connection.execute(query)}

    def _give_back(self, taken: dict[str, list[_Seen]]) -> None:
        with self._lock:
            for rollout, seen in taken.items():
                self._seen[rollout] = seen + self._seen.get(rollout, [])

    def _row(self, rollout: str, stage: str, seen: list[_Seen]) -> dict[str, Any]:
        for one in seen:
            if not one.settled:
                drawn = is_drawn(one.luck, one.measure.probability, self._floors[rollout])
                compared = drawn and (one.session is None or self._spoken.take((rollout, stage, *one.session)))
                one.measure, one.settled = replace(one.measure, compared=compared), True
        marks, measures = "".join(one.mark for one in seen), [one.measure.to_list() for one in seen]
        return {"id": new_id(), "rollout_id": rollout, "marks": marks, "measures": measures}


def forget_ended(store: Store) -> int:
    """Delete what was seen too late of rollouts that have ended, which nobody counts; how many rows."""
    live = select(rollouts.c.id).where(rollouts.c.state.in_(LIVE_STATES))
    with store.write() as connection:
        return int(connection.execute(delete(observations).where(observations.c.rollout_id.not_in(live))).rowcount)
