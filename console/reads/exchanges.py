"""Owns what an opened exchange shows beside itself: its pairs, and the datasets that it went into."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select

from capture.db import Store
from capture.reviews import latest
from capture.tables import dataset_rows, datasets, exchanges
from capture.traffic import TrafficFilter
from students.pairs import read_output
from students.tables import pairs

MOST_DATASETS = 20
LOOKED_AT = 400_000
UNINDEXED = ("fingerprint", "label", "model", "failed", "metadata", "review", "feedback", "grader")


@dataclass(frozen=True)
class PairTexts:
    """Both sides' answers to one request, paired for a rollout; `student` None: it erred."""

    rollout: str
    teacher: str
    student: str | None
    error: str | None
    differences: dict[str, float]


@dataclass(frozen=True)
class Membership:
    """One dataset that an exchange is in."""

    id: str
    task: str
    version: int
    split: str


def reach(store: Store, wanted: TrafficFilter, before_id: str | None = None) -> float | None:
    """How far back one look at a filter goes that no index carries, in Unix seconds; None: as far as there is traffic.

    Such a filter is asked of LOOKED_AT exchanges at a time, so that a value that is rare, or nowhere, is soon told.
    """
    if wanted.text is not None or not any(getattr(wanted, name) not in (None, {}) for name in UNINDEXED):
        return None
    newest = select(exchanges.c.id).order_by(exchanges.c.id.desc()).offset(LOOKED_AT).limit(1)
    with store.read() as connection:
        oldest = connection.scalar(newest if before_id is None else newest.where(exchanges.c.id < before_id))
    if oldest is None:
        return None
    return max(int(oldest[:12], 16) / 1000, wanted.since or 0.0)


def pairs_of(store: Store, exchange_id: str) -> list[PairTexts]:
    of_it = pairs.c.exchange_id == exchange_id
    outputs = (pairs.c.teacher_output, pairs.c.student_output, pairs.c.student_error)
    with store.read() as connection:
        found = connection.execute(select(pairs.c.rollout_id, *outputs, pairs.c.differences).where(of_it)).all()
    return [
        PairTexts(rollout, _text(teacher), None if student is None else _text(student), error, dict(differences))
        for rollout, teacher, student, error, differences in found
    ]


def _text(output: str) -> str:
    return read_output(output).text


def verdicts_of(store: Store, exchange_ids: Sequence[str]) -> dict[str, str]:
    """The newest review's verdict, of those that have one."""
    with store.read() as connection:
        return {identity: one.verdict for identity, one in latest(connection, list(exchange_ids)).items()}


def datasets_with(store: Store, exchange_id: str) -> list[Membership]:
    """Newest version first."""
    columns = (datasets.c.id, datasets.c.task, datasets.c.version, dataset_rows.c.split)
    joined = select(*columns).join(dataset_rows, dataset_rows.c.dataset_id == datasets.c.id)
    chosen = joined.where(dataset_rows.c.exchange_id == exchange_id).order_by(datasets.c.version.desc())
    with store.read() as connection:
        return [Membership(*row) for row in connection.execute(chosen.limit(MOST_DATASETS))]
