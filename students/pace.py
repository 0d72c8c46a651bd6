"""Owns the teacher's pace and price as its captured answers show them: what targets are taken from."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, select

from capture.db import Store
from capture.exchange import Arm
from capture.tables import exchanges
from students.presets import Pace

LAST_ANSWERS = 200


def teacher_pace(store: Store, task: str) -> Pace:
    """p95 of the time to the first content and of the whole answer, and the mean cost, over a task's last answers."""
    with store.read() as connection:
        query = (
            select(exchanges.c.first_ms, exchanges.c.duration_ms, exchanges.c.cost_usd)
            .where(exchanges.c.task == task, exchanges.c.arm == Arm.TEACHER, _answered())
            .order_by(exchanges.c.id.desc())
            .limit(LAST_ANSWERS)
        )
        rows = connection.execute(query).all()
    costs = [row.cost_usd for row in rows if row.cost_usd is not None]
    return Pace(
        first_ms=_p95([row.first_ms for row in rows if row.first_ms is not None]),
        duration_ms=_p95([row.duration_ms for row in rows]),
        cost_usd=sum(costs) / len(costs) if costs else None,
    )


def _answered() -> ColumnElement[bool]:
    return exchanges.c.complete & (exchanges.c.status == 200)


def _p95(values: Sequence[float]) -> float | None:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))] if ordered else None
