"""Owns the rows by which long jobs are asked for, each once: the worker's workflows find them queued."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from capture.db import insert_once
from capture.settings import TrainingSettings
from students.tables import evaluations, fine_tunes


@dataclass(frozen=True, kw_only=True)
class FineTune:
    """One training that somebody asks for.

    `dataset_id` None: on the file that the job of a client names, which is in `asked` (students.jobs.Asked as JSON).
    """

    id: str
    task: str
    dataset_id: str | None
    base: str
    trainer: str
    settings: TrainingSettings
    key_id: str | None = None
    asked: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One evaluation that somebody asks for. `students`: their ids; `asked`: students.asking.Asked as JSON.

    `dataset_id` None: captured traffic is replayed.
    """

    id: str
    task: str
    dataset_id: str | None
    students: Sequence[str]
    asked: dict[str, Any]


def queue_fine_tune(connection: Connection, wanted: FineTune, now: float) -> bool:
    """False, and nothing done, where one of this id was asked for before."""
    row = {
        "id": wanted.id,
        "task": wanted.task,
        "dataset_id": wanted.dataset_id,
        "base": wanted.base,
        "trainer": wanted.trainer,
        "settings": wanted.settings.model_dump(mode="json"),
        "state": "queued",
        "cancel_asked": False,
        "progress": {},
        "key_id": wanted.key_id,
        "created_at": now,
        **({} if wanted.asked is None else {"asked": wanted.asked}),  # left out it is null; None would be JSON's null
    }
    return insert_once(connection, fine_tunes, row, ["id"])


def queue_evaluation(connection: Connection, wanted: Evaluation, now: float) -> bool:
    """False, and nothing done, where one of this id was asked for before."""
    row = {
        "id": wanted.id,
        "task": wanted.task,
        "dataset_id": wanted.dataset_id,
        "students": list(wanted.students),
        "asked": wanted.asked,
        "state": "queued",
        "progress": {},
        "report": {},
        "created_at": now,
    }
    return insert_once(connection, evaluations, row, ["id"])
