"""Owns the first page's rows: what each task carries, costs, and waits for."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, Table, func, select

from capture.db import Store
from capture.exchange import Arm
from capture.tables import counters, datasets, exchanges, reviews
from capture.tables import tasks as task_table
from capture.traffic import id_at
from console.reads.rollouts import MOVING, Gate, evidence_of
from students.ledger import COUNTED, ArmTotals, Span, span_over
from students.rollouts import NEEDS_PERSON, WAITS_FOR_PERSON, Rollout, rollout_of
from students.tables import evaluations, fine_tunes, loop_turns, rollouts

RECENT = 50_000
"""How many of a task's newest kept exchanges its figures are taken over, at most."""

LOOSE = 10_000
DAY_S = 86_400.0
NONE = ArmTotals()


@dataclass(frozen=True)
class Recent:
    """A task's answers since a time: a day ago, or later where it has kept more than RECENT in a day.

    Those that were sampled out are counted in; money is what the ledger would say of the same stretch of time.
    """

    span: Span
    since: float
    whole: bool
    """It is the whole last day."""

    @property
    def count(self) -> int:
        return self.span.requests

    @property
    def cost_usd(self) -> float | None:
        """None where the price of every one is unknown."""
        return sum(arm.cost_usd for arm in self.span.arms.values()) if self.count > self.unpriced else None

    @property
    def unpriced(self) -> int:
        return sum(arm.unpriced for arm in self.span.arms.values())

    @property
    def student(self) -> int:
        return self.span.arms.get(Arm.STUDENT, NONE).requests

    @property
    def fallback(self) -> int:
        return self.span.arms.get(Arm.FALLBACK, NONE).requests

    @property
    def share(self) -> float | None:
        return self.student / self.count if self.count else None

    @property
    def saved_usd(self) -> float | None:
        """As if the teacher had answered all, less everything spent, in the background too; None where not known."""
        return self.span.saved_usd


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


def unmatched(store: Store, cap: int = LOOSE) -> int:
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
    since, first = now - DAY_S, id_at(now - DAY_S)
    of_day = (exchanges.c.task == task) & (exchanges.c.id >= first)
    newest = select(exchanges.c.id).where(of_day).order_by(exchanges.c.id.desc())
    beyond = connection.scalar(newest.offset(RECENT).limit(1))
    if beyond is not None:
        of_day = (exchanges.c.task == task) & (exchanges.c.id > beyond)
        since = connection.scalars(select(exchanges.c.started_at).where(exchanges.c.id == beyond)).one()
    answers = select(*COUNTED).where(of_day, exchanges.c.status == 200)
    return Recent(span_over(connection, task, since, answers), since, whole=beyond is None)


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
