"""Owns the first page's rows: what each task carries, costs, and waits for."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, Table, func, select

from capture.db import Store
from capture.tables import counters, datasets, exchanges, reviews
from capture.tables import tasks as task_table
from console.reads.rollouts import Gate, evidence_of
from students.rollouts import NEEDS_PERSON, WAITS_FOR_PERSON, Rollout, rollout_of
from students.tables import evaluations, fine_tunes, loop_turns, rollouts

RECENT = 10_000
"""How many of a task's newest exchanges the rates and costs are taken over."""

DAY_S = 86_400.0
MOVING = ("running", "paused")


@dataclass(frozen=True)
class Recent:
    """A task's exchanges of the last day, at most RECENT of them; costs are None where every one is unknown."""

    count: int
    cost_usd: float | None
    unpriced: int
    student: int
    fallback: int
    teacher_cost_usd: float | None
    """The mean cost of an exchange that the teacher answered."""

    @property
    def share(self) -> float | None:
        return self.student / self.count if self.count else None

    @property
    def saved_usd(self) -> float | None:
        """What the teacher would have charged for what the student answered; an estimate by its mean cost."""
        if self.teacher_cost_usd is None:
            return None
        return self.student * self.teacher_cost_usd


@dataclass(frozen=True)
class Waiting:
    """One thing that a person has to do (`urgent`), or may do next, and the page where it is done."""

    what: str
    page: str
    urgent: bool = True


@dataclass(frozen=True)
class TaskRow:
    name: str
    teacher: str
    stored: int
    recent: Recent
    rollout: Rollout | None
    gate: Gate | None
    waiting: tuple[Waiting, ...]


def task_rows(store: Store, now: float) -> list[TaskRow]:
    """One row a task, by name. `now`: Unix seconds."""
    with store.read() as connection:
        known = connection.execute(select(task_table.c.name, task_table.c.settings).order_by(task_table.c.name)).all()
        return [_task_row(connection, row.name, row.settings["teacher"]["model"], now) for row in known]


def unmatched(store: Store, cap: int = RECENT) -> int:
    """How many exchanges belong to no task, counted up to `cap`."""
    found = select(exchanges.c.id).where(exchanges.c.task.is_(None)).limit(cap).subquery()
    with store.read() as connection:
        return connection.scalar(select(func.count()).select_from(found)) or 0


def _task_row(connection: Connection, name: str, teacher: str, now: float) -> TaskRow:
    rollout = _newest_rollout(connection, name)
    gates = evidence_of(rollout, now).gates if rollout else ()
    stored = select(counters.c.value).where(counters.c.task == name, counters.c.name == "stored")
    return TaskRow(
        name=name,
        teacher=teacher,
        stored=connection.scalar(stored) or 0,
        recent=_recent(connection, name, now),
        rollout=rollout,
        gate=next((gate for gate in gates if gate.reading), None),
        waiting=tuple(_waiting(connection, name, rollout)),
    )


def _newest_rollout(connection: Connection, task: str) -> Rollout | None:
    newest = select(rollouts).where(rollouts.c.task == task).order_by(rollouts.c.created_at.desc()).limit(1)
    row = connection.execute(newest).one_or_none()
    return None if row is None else rollout_of(row)


def _recent(connection: Connection, task: str, now: float) -> Recent:
    columns = (exchanges.c.arm, exchanges.c.cost_usd, exchanges.c.started_at)
    newest = select(*columns).where(exchanges.c.task == task).order_by(exchanges.c.id.desc()).limit(RECENT).subquery()
    of_day = (
        select(newest.c.arm, func.count(), func.sum(newest.c.cost_usd), func.count(newest.c.cost_usd))
        .where(newest.c.started_at >= now - DAY_S)
        .group_by(newest.c.arm)
    )
    arms = {arm: (count, cost, priced) for arm, count, cost, priced in connection.execute(of_day)}
    costs = [cost for _, cost, _ in arms.values() if cost is not None]
    _, teacher_cost, priced = arms.get("teacher", (0, None, 0))
    return Recent(
        count=sum(count for count, _, _ in arms.values()),
        cost_usd=sum(costs) if costs else None,
        unpriced=sum(count - priced for count, _, priced in arms.values()),
        student=arms.get("student", (0, None, 0))[0],
        fallback=arms.get("fallback", (0, None, 0))[0],
        teacher_cost_usd=teacher_cost / priced if priced else None,
    )


def _waiting(connection: Connection, task: str, rollout: Rollout | None) -> list[Waiting]:
    found = []
    if rollout and rollout.reason in (NEEDS_PERSON, WAITS_FOR_PERSON) and rollout.state in MOVING:
        found.append(Waiting("A rollout waits for your decision", "rollouts"))
    elif rollout and rollout.state == "paused":
        found.append(Waiting("A rollout is paused", "rollouts"))
    if _newest_state(connection, loop_turns, task) == "waiting":
        found.append(Waiting("A turn of the loop waits for your word", "tasks"))
    if _newest_state(connection, fine_tunes, task) == "failed":
        found.append(Waiting("The last fine-tune failed", "students"))
    if _newest_state(connection, evaluations, task) == "failed":
        found.append(Waiting("The last evaluation failed", "students"))
    if _newest_state(connection, datasets, task) == "failed":
        found.append(Waiting("The last dataset build failed", "datasets"))
    return found or [step for step in (_next(connection, task, rollout),) if step]


def _next(connection: Connection, task: str, rollout: Rollout | None) -> Waiting | None:
    """The step that nobody has taken yet, on the way from the first exchange to a rollout."""
    if not _any(connection, select(exchanges.c.id).where(exchanges.c.task == task)):
        return Waiting("No exchange yet: send a request that its rule matches", "tasks", urgent=False)
    if not _reviewed(connection, task):
        return Waiting("Nothing reviewed yet", "traffic")
    if not _any(connection, select(datasets.c.id).where(datasets.c.task == task)):
        return Waiting("Build a first dataset", "datasets", urgent=False)
    if not _any(connection, select(fine_tunes.c.id).where(fine_tunes.c.task == task)):
        return Waiting("Train a first student", "students", urgent=False)
    if rollout is not None or _newest_state(connection, fine_tunes, task) != "succeeded":
        return None
    if not _any(connection, select(evaluations.c.id).where(evaluations.c.task == task)):
        return Waiting("Evaluate the student", "students", urgent=False)
    return Waiting("Start the student's rollout", "rollouts", urgent=False)


def _any(connection: Connection, query: Select[Any]) -> bool:
    return connection.scalar(query.limit(1)) is not None


def _newest_state(connection: Connection, table: Table, task: str) -> str | None:
    newest = select(table.c.state).where(table.c.task == task).order_by(table.c.created_at.desc()).limit(1)
    return connection.scalar(newest)


def _reviewed(connection: Connection, task: str) -> bool:
    one = select(reviews.c.id).join(exchanges, exchanges.c.id == reviews.c.exchange_id)
    return _any(connection, one.where(exchanges.c.task == task))
