"""Owns what pages and commands show of evaluations: their list and their reports."""

from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import select

from capture.db import Store
from capture.errors import NotFoundError
from students.report import Report
from students.tables import evaluations


@dataclass(frozen=True)
class Evaluation:
    """One row of evaluations; `report` is None until it succeeded, `dataset_id` where captured traffic was replayed."""

    id: str
    task: str
    dataset_id: str | None
    students: tuple[str, ...]
    asked: dict[str, Any]
    state: str
    progress: dict[str, Any]
    report: Report | None
    error: str | None
    created_at: float
    ended_at: float | None

    @property
    def moving(self) -> bool:
        return self.state in ("queued", "running")


def list_evaluations(store: Store, task: str | None = None, limit: int = 50) -> list[Evaluation]:
    """Newest first; of one task or of all."""
    query = select(evaluations).order_by(evaluations.c.created_at.desc(), evaluations.c.id.desc()).limit(limit)
    if task is not None:
        query = query.where(evaluations.c.task == task)
    with store.read() as connection:
        return [_evaluation(row) for row in connection.execute(query)]


def evaluations_of(store: Store, student_id: str, task: str) -> list[Evaluation]:
    """Those among a task's newest fifty that this student was part of, newest first."""
    return [found for found in list_evaluations(store, task) if student_id in found.students]


def load_evaluation(store: Store, evaluation_id: str) -> Evaluation:
    """Raises NotFoundError."""
    with store.read() as connection:
        row = connection.execute(select(evaluations).where(evaluations.c.id == evaluation_id)).one_or_none()
    if row is None:
        raise NotFoundError(f"no evaluation {evaluation_id!r}; the page Students lists them")
    return _evaluation(row)


def _evaluation(row: Any) -> Evaluation:
    values = dict(row._mapping)
    report = msgspec.convert(values["report"], Report) if values["report"] else None
    return Evaluation(**{**values, "students": tuple(values["students"]), "report": report})
