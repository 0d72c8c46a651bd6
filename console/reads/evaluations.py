"""Owns what pages and commands show of evaluations: their list, their reports, and answers to look at."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from capture.db import Store
from capture.errors import NotFoundError
from students.tables import evaluation_answers, evaluations


@dataclass(frozen=True)
class Evaluation:
    """One row of evaluations; `report` is students.evaluation.Report, JSON-ready, empty until it succeeded."""

    id: str
    task: str
    dataset_id: str
    students: tuple[str, ...]
    state: str
    progress: dict[str, Any]
    report: dict[str, Any]
    error: str | None
    created_at: float
    ended_at: float | None

    @property
    def moving(self) -> bool:
        return self.state in ("queued", "running")


@dataclass(frozen=True)
class AnswerRow:
    """What a student (or the teacher) answered to one request of a holdout."""

    exchange_id: str
    student_id: str
    output: str
    error: str | None
    duration_ms: float
    scores: dict[str, float]


def list_evaluations(store: Store, task: str | None = None, limit: int = 50) -> list[Evaluation]:
    """Newest first; of one task or of all."""
    query = select(evaluations).order_by(evaluations.c.created_at.desc(), evaluations.c.id.desc()).limit(limit)
    if task is not None:
        query = query.where(evaluations.c.task == task)
    with store.read() as connection:
        return [_evaluation(row) for row in connection.execute(query)]


def load_evaluation(store: Store, evaluation_id: str) -> Evaluation:
    """Raises NotFoundError."""
    with store.read() as connection:
        row = connection.execute(select(evaluations).where(evaluations.c.id == evaluation_id)).one_or_none()
    if row is None:
        raise NotFoundError(f"no evaluation {evaluation_id!r}; the page Students lists them")
    return _evaluation(row)


def answers_of(store: Store, dataset_id: str, student_id: str, limit: int = 2000) -> list[AnswerRow]:
    """A student's answers to a dataset's holdout."""
    columns = [evaluation_answers.c[name] for name in AnswerRow.__dataclass_fields__]
    chosen = select(*columns).where(
        evaluation_answers.c.dataset_id == dataset_id, evaluation_answers.c.student_id == student_id
    )
    with store.read() as connection:
        return [AnswerRow(*row) for row in connection.execute(chosen.limit(limit))]


def worst_answers(store: Store, dataset_id: str, student_id: str, grader: str, limit: int = 20) -> list[AnswerRow]:
    """The answers that `grader` gave least, worst first; answers that erred are the worst of all."""
    found = [row for row in answers_of(store, dataset_id, student_id) if row.error or row.scores.get(grader, 1.0) < 1.0]
    return sorted(found, key=lambda row: (row.error is None, row.scores.get(grader, 0.0)))[:limit]


def _evaluation(row: Any) -> Evaluation:
    values = dict(row._mapping)
    return Evaluation(**{**values, "students": tuple(values["students"])})
