"""Owns what live exchanges say about a rollout without a pair: one mark each, counted by assignment."""

import threading
from enum import StrEnum

from sqlalchemy import insert, select

from capture.db import Store
from capture.exchange import Arm, Assignment, Exchange
from capture.ids import new_id
from students.tables import observations, rollouts


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


class Observer:
    """Gathers marks in memory and writes them as one row a rollout and flush. Thread-safe.

    A worker that is killed loses the marks since its last flush: they are a sample of what went on, and its size never
    depends on how it went.
    """

    def __init__(self) -> None:
        self._marks: dict[str, list[str]] = {}
        self._lock = threading.Lock()

    def see(self, exchange: Exchange) -> None:
        mark = mark_of(exchange)
        if mark is not None:
            with self._lock:
                self._marks.setdefault(str(exchange.rollout), []).append(mark)

    def flush(self, store: Store) -> int:
        """Write what was gathered; how many marks. What cannot be written now is kept for the next time."""
        with self._lock:
            taken, self._marks = self._marks, {}
        if not taken:
            return 0
        try:
            with store.write() as connection:
                known = set(connection.execute(select(rollouts.c.id).where(rollouts.c.id.in_(taken))).scalars())
                rows = [
                    {"id": new_id(), "rollout_id": rollout, "marks": "".join(marks)}
                    for rollout, marks in taken.items()
                    if rollout in known
                ]
                if rows:
                    connection.execute(insert(observations), rows)
        except Exception:
            self._give_back(taken)
            raise
        return sum(len(marks) for marks in taken.values())

    def _give_back(self, taken: dict[str, list[str]]) -> None:
        with self._lock:
            for rollout, marks in taken.items():
                self._marks[rollout] = marks + self._marks.get(rollout, [])
