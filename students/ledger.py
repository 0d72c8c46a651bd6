"""Owns the ledger: what was spent and what was saved by letting students answer, with unknown prices left unknown."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, case, func, select

from capture.db import Store
from capture.exchange import Arm
from capture.tables import exchanges
from students.tables import fine_tunes, spend

DAY_S = 86_400.0


@dataclass(frozen=True)
class ArmTotals:
    """One arm's answers. `cost_usd` is of those whose price is known; `unpriced` counts the others."""

    requests: int = 0
    cost_usd: float = 0.0
    unpriced: int = 0
    mean_ms: float | None = None


@dataclass(frozen=True)
class Ledger:
    """One task's account since a time. `background`: purpose → USD of priced calls; `unpriced_calls` counts the others.

    `would_have_cost_usd`: all answers at the teacher's mean cost; None while no teacher's answer has a known price.
    `saved_usd` is that less everything spent since, background calls and training included; None where a part of it is
    unknown. `break_even_at` is the date (Unix seconds) at which the savings of late will have paid for the rest; None
    if unknown or never.
    """

    task: str
    since: float
    arms: dict[str, ArmTotals]
    background: dict[str, float] = field(default_factory=dict)
    unpriced_calls: int = 0
    would_have_cost_usd: float | None = None
    saved_usd: float | None = None
    break_even_at: float | None = None
    latency_gained_ms: float | None = None
    """How much sooner a student's answer is complete than a teacher's, on average; None without either."""


def account(store: Store, task: str, since: float, now: float) -> Ledger:
    """The ledger of one task from `since` to `now`."""
    with store.read() as connection:
        arms = _arms(connection, task, since)
        background, unpriced = _background(connection, task, since)
        training = _training(connection, task, since)
    if training:
        background["training"] = background.get("training", 0.0) + training
    return _balanced(Ledger(task, since, arms, background, unpriced), now)


def accounts(store: Store, tasks: Sequence[str], since: float, now: float) -> list[Ledger]:
    """One ledger a task, in the order given."""
    return [account(store, task, since, now) for task in tasks]


def _arms(connection: Connection, task: str, since: float) -> dict[str, ArmTotals]:
    unpriced = func.sum(case((exchanges.c.cost_usd.is_(None), 1), else_=0))
    columns: tuple[Any, ...] = (
        exchanges.c.arm,
        func.count(),
        func.sum(exchanges.c.cost_usd),
        unpriced,
        func.avg(exchanges.c.duration_ms),
    )
    answered = (exchanges.c.task == task) & (exchanges.c.started_at >= since) & (exchanges.c.status == 200)
    rows = connection.execute(select(*columns).where(answered).group_by(exchanges.c.arm))
    return {arm: ArmTotals(count, float(cost or 0), int(missing), mean) for arm, count, cost, missing, mean in rows}


def _background(connection: Connection, task: str, since: float) -> tuple[dict[str, float], int]:
    unpriced = func.sum(case((spend.c.cost_usd.is_(None), 1), else_=0))
    query = select(spend.c.purpose, func.sum(spend.c.cost_usd), unpriced).where(
        spend.c.task == task, spend.c.at >= since
    )
    rows = connection.execute(query.group_by(spend.c.purpose)).all()
    return {purpose: float(cost or 0) for purpose, cost, _ in rows}, sum(int(missing) for *_, missing in rows)


def _training(connection: Connection, task: str, since: float) -> float:
    """What hosted trainers charged; a local fine-tune has no price."""
    query = select(func.sum(fine_tunes.c.cost_usd)).where(fine_tunes.c.task == task, fine_tunes.c.created_at >= since)
    return float(connection.execute(query).scalar() or 0.0)


def _balanced(ledger: Ledger, now: float) -> Ledger:
    teacher = ledger.arms.get(Arm.TEACHER, ArmTotals())
    student = ledger.arms.get(Arm.STUDENT, ArmTotals())
    gained = None if teacher.mean_ms is None or student.mean_ms is None else teacher.mean_ms - student.mean_ms
    priced = teacher.requests - teacher.unpriced
    would = saved = even = None
    if priced > 0:
        would = teacher.cost_usd / priced * sum(arm.requests for arm in ledger.arms.values())
        if not ledger.unpriced_calls and not any(arm.unpriced for arm in ledger.arms.values()):
            saved = would - sum(arm.cost_usd for arm in ledger.arms.values()) - sum(ledger.background.values())
            even = _break_even(ledger, saved, now)
    return Ledger(
        task=ledger.task,
        since=ledger.since,
        arms=ledger.arms,
        background=ledger.background,
        unpriced_calls=ledger.unpriced_calls,
        would_have_cost_usd=would,
        saved_usd=saved,
        break_even_at=even,
        latency_gained_ms=gained,
    )


def _break_even(ledger: Ledger, saved: float, now: float) -> float | None:
    """Now, if it has paid for itself; else by the gross saving a day so far; None while nothing is saved."""
    if saved >= 0:
        return now
    days = max((now - ledger.since) / DAY_S, 1e-6)
    gross_a_day = (saved + sum(ledger.background.values())) / days
    return now - saved / gross_a_day * DAY_S if gross_a_day > 0 else None
