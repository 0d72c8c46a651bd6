"""Owns the ledger: what was spent and what was saved by letting students answer, with unknown prices left unknown."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, Select, case, func, select

from capture.db import Store
from capture.exchange import Arm
from capture.removal import EXPIRED
from capture.tables import counters, exchanges
from students.tables import fine_tunes, spend

DAY_S = 86_400.0
LATE_S = 7 * DAY_S
"""What the savings of late are taken from at most, for the date at which the rest will be paid for."""
LEAST_S = 3_600.0
"""Savings a day are told of no shorter time than this."""
MOST_NAMED = 5
LOCAL = "local"
COUNTED = (exchanges.c.arm, exchanges.c.cost_usd, exchanges.c.duration_ms, exchanges.c.probability)
"""What an account needs to know of an answer."""


@dataclass(frozen=True)
class ArmTotals:
    """One arm's answers, those that were sampled out counted in. `cost_usd` is of those whose price is known;
    `unpriced` counts the others. `mean_ms` is until an answer is complete."""

    requests: int = 0
    cost_usd: float = 0.0
    unpriced: int = 0
    mean_ms: float | None = None


@dataclass(frozen=True)
class Ledger:
    """One task's account since a time, or several tasks' (`task` is empty then). `since` is later than what was asked
    for where retention has removed exchanges: what was spent beside those that are gone is not counted either.

    `background`: purpose (shadow, pairing, judge, training, evaluation) → USD of what has a price; `unpriced_calls`
    counts the calls and hosted fine-tunes without one. `would_have_cost_usd`: all answers at the teacher's mean cost;
    None while no teacher's answer has a known price. `saved_usd` is that less everything spent since; None where a part
    of it is unknown. `break_even_at` is the date (Unix seconds) at which the savings of late will have paid for the
    rest: `now` if they have; None if unknown or never.
    """

    task: str
    since: float
    arms: dict[str, ArmTotals]
    background: dict[str, float] = field(default_factory=dict)
    unpriced_calls: int = 0
    unpriced_models: tuple[str, ...] = ()
    """Models, MOST_NAMED a task, whose answers have no known price; `[prices."NAME"]` gives it."""
    would_have_cost_usd: float | None = None
    saved_usd: float | None = None
    saved_a_day_usd: float | None = None
    """Of late, background calls that go on paid for, fine-tunes not; None where a part of it is unknown."""
    break_even_at: float | None = None
    latency_gained_ms: float | None = None
    """How much sooner a student's answer is complete than a teacher's, on average; None without either."""


@dataclass(frozen=True)
class Span:
    """What was counted in a stretch of time; `unpriced` of background calls and fine-tunes: see Ledger."""

    arms: dict[str, ArmTotals]
    background: dict[str, float]
    unpriced: int

    @property
    def mean_teacher_usd(self) -> float | None:
        teacher = self.arms.get(Arm.TEACHER, ArmTotals())
        priced = teacher.requests - teacher.unpriced
        return teacher.cost_usd / priced if priced > 0 else None

    @property
    def known(self) -> bool:
        return not self.unpriced and not any(arm.unpriced for arm in self.arms.values())

    @property
    def requests(self) -> int:
        return sum(arm.requests for arm in self.arms.values())

    @property
    def spent_usd(self) -> float:
        return sum(arm.cost_usd for arm in self.arms.values()) + sum(self.background.values())

    @property
    def would_have_cost_usd(self) -> float | None:
        mean = self.mean_teacher_usd
        return None if mean is None else mean * self.requests

    @property
    def saved_usd(self) -> float | None:
        would = self.would_have_cost_usd
        return would - self.spent_usd if would is not None and self.known else None


def account(store: Store, task: str, since: float, now: float) -> Ledger:
    """The ledger of one task from `since` to `now`."""
    with store.read() as connection:
        since = max(since, _kept_since(connection, task, now))
        late = max(now - LATE_S, _first(connection, task, since) or since)
        whole, recent = _span(connection, task, since), _span(connection, task, late)
        models = _unpriced_models(connection, task, since)
    ledger = _balanced(task, since, (whole, recent), (now, max(now - late, LEAST_S) / DAY_S))
    return replace(ledger, unpriced_models=models)


def _kept_since(connection: Connection, task: str, now: float) -> float:
    """The time from which a task's exchanges are all still there: 0 where none has expired."""
    expired = select(counters.c.value).where(counters.c.task == task, counters.c.name == EXPIRED)
    if not connection.scalar(expired):
        return 0.0
    # What clients asked to keep outlives the rest, so it says nothing of where the rest begins.
    rest = select(func.min(exchanges.c.started_at)).where(exchanges.c.task == task, exchanges.c.stored.is_(False))
    oldest = connection.scalar(rest)
    return now if oldest is None else float(oldest)


def _first(connection: Connection, task: str, since: float) -> float | None:
    """When the first of a task's exchanges since then was made."""
    query = select(func.min(exchanges.c.started_at))
    found: float | None = connection.scalar(query.where(exchanges.c.task == task, exchanges.c.started_at >= since))
    return found


def _unpriced_models(connection: Connection, task: str, since: float) -> tuple[str, ...]:
    unpriced = (exchanges.c.task == task) & (exchanges.c.started_at >= since) & exchanges.c.cost_usd.is_(None)
    query = select(exchanges.c.served_model).distinct().where(unpriced, exchanges.c.status == 200)
    return tuple(connection.scalars(query.order_by(exchanges.c.served_model).limit(MOST_NAMED)))


def accounts(store: Store, tasks: Sequence[str], since: float, now: float) -> list[Ledger]:
    """One ledger a task, in the order given."""
    return [account(store, task, since, now) for task in tasks]


def total(ledgers: Sequence[Ledger], now: float) -> Ledger:
    """Several tasks' ledgers added up: what is unknown in one of them is unknown in the sum."""
    arms: dict[str, ArmTotals] = {}
    background: dict[str, float] = {}
    for ledger in ledgers:
        for name, arm in ledger.arms.items():
            arms[name] = _added(arms.get(name, ArmTotals()), arm)
        for purpose, cost in ledger.background.items():
            background[purpose] = background.get(purpose, 0.0) + cost
    active = [ledger for ledger in ledgers if ledger.arms or ledger.background or ledger.unpriced_calls]
    saved = _sum([ledger.saved_usd for ledger in active])
    a_day = _sum([ledger.saved_a_day_usd for ledger in active])
    return Ledger(
        task="",
        since=min((ledger.since for ledger in ledgers), default=now),
        arms=arms,
        background=background,
        unpriced_calls=sum(ledger.unpriced_calls for ledger in ledgers),
        unpriced_models=tuple(sorted({name for ledger in ledgers for name in ledger.unpriced_models})),
        would_have_cost_usd=_sum([ledger.would_have_cost_usd for ledger in active]),
        saved_usd=saved,
        saved_a_day_usd=a_day,
        break_even_at=_break_even(saved, a_day, now),
        latency_gained_ms=_gained(active),
    )


def _gained(ledgers: Sequence[Ledger]) -> float | None:
    """The mean over students' answers of what each gained beside its own task's teacher."""
    known = [
        (ledger.arms[Arm.STUDENT].requests, ledger.latency_gained_ms)
        for ledger in ledgers
        if ledger.latency_gained_ms is not None
    ]
    answers = sum(count for count, _ in known)
    return sum(count * gained for count, gained in known) / answers if answers else None


def _added(one: ArmTotals, other: ArmTotals) -> ArmTotals:
    requests = one.requests + other.requests
    times = [(arm.requests, arm.mean_ms) for arm in (one, other) if arm.mean_ms is not None]
    counted = sum(count for count, _ in times)
    mean = sum(count * ms for count, ms in times) / counted if counted else None
    return ArmTotals(requests, one.cost_usd + other.cost_usd, one.unpriced + other.unpriced, mean)


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known and len(known) == len(values) else None


def _span(connection: Connection, task: str, since: float) -> Span:
    answered = (exchanges.c.task == task) & (exchanges.c.started_at >= since) & (exchanges.c.status == 200)
    return span_over(connection, task, since, select(*COUNTED).where(answered))


def span_over(connection: Connection, task: str, since: float, answers: Select[Any]) -> Span:
    """The account of these answers, of which `answers` selects COUNTED, and of what was spent beside them `since`."""
    background, unpriced = _background(connection, task, since)
    training, unpriced_training = _training(connection, task, since)
    if training:
        background["training"] = background.get("training", 0.0) + training
    return Span(_arms(connection, answers), background, unpriced + unpriced_training)


def _arms(connection: Connection, answers: Select[Any]) -> dict[str, ArmTotals]:
    """Each kept answer stands for as many as its sampling probability says (Horvitz and Thompson)."""
    kept = answers.subquery().c
    weight = 1.0 / kept.probability
    columns: tuple[Any, ...] = (
        kept.arm,
        func.sum(weight),
        func.sum(kept.cost_usd * weight),
        func.sum(case((kept.cost_usd.is_(None), weight), else_=0.0)),
        func.sum(kept.duration_ms * weight),
    )
    rows = connection.execute(select(*columns).group_by(kept.arm))
    return {
        arm: ArmTotals(round(count), float(cost or 0), round(missing), total_ms / count)
        for arm, count, cost, missing, total_ms in rows
    }


def _background(connection: Connection, task: str, since: float) -> tuple[dict[str, float], int]:
    unpriced = func.sum(case((spend.c.cost_usd.is_(None), 1), else_=0))
    query = select(spend.c.purpose, func.sum(spend.c.cost_usd), unpriced).where(
        spend.c.task == task, spend.c.at >= since
    )
    rows = connection.execute(query.group_by(spend.c.purpose)).all()
    return {purpose: float(cost or 0) for purpose, cost, _ in rows}, sum(int(missing) for *_, missing in rows)


def _training(connection: Connection, task: str, since: float) -> tuple[float, int]:
    """(USD that hosted trainers charged, fine-tunes of theirs whose price is not known); a local one costs nothing."""
    hosted = (fine_tunes.c.trainer != LOCAL) & (fine_tunes.c.state == "succeeded")
    unknown = func.sum(case((hosted & fine_tunes.c.cost_usd.is_(None), 1), else_=0))
    query = select(func.sum(fine_tunes.c.cost_usd), unknown)
    row = connection.execute(query.where(fine_tunes.c.task == task, fine_tunes.c.created_at >= since)).one()
    return float(row[0] or 0.0), int(row[1] or 0)


def _balanced(task: str, since: float, spans: tuple[Span, Span], when: tuple[float, float]) -> Ledger:
    whole, recent = spans
    now, late_days = when
    mean = whole.mean_teacher_usd
    saved = whole.saved_usd
    a_day = None
    if mean is not None and whole.known:
        once = recent.background.get("training", 0.0)
        a_day = (mean * recent.requests - recent.spent_usd + once) / late_days
    teacher, student = whole.arms.get(Arm.TEACHER, ArmTotals()), whole.arms.get(Arm.STUDENT, ArmTotals())
    gained = None if teacher.mean_ms is None or student.mean_ms is None else teacher.mean_ms - student.mean_ms
    return Ledger(
        task=task,
        since=since,
        arms=whole.arms,
        background=whole.background,
        unpriced_calls=whole.unpriced,
        would_have_cost_usd=whole.would_have_cost_usd,
        saved_usd=saved,
        saved_a_day_usd=a_day,
        break_even_at=_break_even(saved, a_day, now),
        latency_gained_ms=gained,
    )


def _break_even(saved: float | None, a_day: float | None, now: float) -> float | None:
    """Now, if it has paid for itself; else by the savings a day of late; None while nothing is saved."""
    if saved is None or a_day is None:
        return None
    if saved >= 0:
        return now
    return now - saved / a_day * DAY_S if a_day > 0 else None
