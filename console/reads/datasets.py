"""Owns what the page Datasets shows beside the card: a dataset's rows, a page at a time, and who learnt from it."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select

from capture.datasets import Row
from capture.datasets.row import decode_row
from capture.db import Store
from capture.tables import dataset_rows
from students.tables import students


@dataclass(frozen=True)
class Rows:
    """A page of a dataset's rows; `last` is the position to read on from, None at the end."""

    rows: Sequence[tuple[int, Row]]
    last: int | None


def train_rows(store: Store, dataset_id: str, after: int = -1, limit: int = 25) -> Rows:
    """The train split's rows behind a position, erased ones left out. The holdout stays sealed."""
    chosen = select(dataset_rows.c.position, dataset_rows.c.row).where(
        dataset_rows.c.dataset_id == dataset_id, dataset_rows.c.split == "train", dataset_rows.c.position > after
    )
    with store.read() as connection:
        found = connection.execute(chosen.order_by(dataset_rows.c.position).limit(limit)).all()
    last = found[-1].position if len(found) == limit else None
    return Rows([(row.position, decode_row(row.row)) for row in found if row.row], last)


def learners(store: Store, dataset_id: str) -> list[tuple[str, str]]:
    """(id, name) of the students that were trained on it."""
    chosen = select(students.c.id, students.c.name).where(students.c.dataset_id == dataset_id)
    with store.read() as connection:
        return list(connection.execute(chosen.order_by(students.c.created_at)))
