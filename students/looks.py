"""Owns the count of how often a holdout was looked at: what is chosen by a holdout fits it a little more each time."""

from typing import Any

from sqlalchemy import Connection, func, select

from capture.db import Store
from capture.tables import dataset_rows
from students.tables import evaluations

MOST = 20
"""Looks after which a fresh holdout is asked for."""

SAME = 0.5
"""Two holdouts that share more than this part of the asked one's rows are one holdout, looked at twice."""


def looks_at(store: Store, evaluation: Any) -> int:
    """How often its holdout, or an earlier dataset's with mostly the same rows, was looked at, this time included.

    0 for replayed traffic: it has no holdout.
    """
    if evaluation.dataset_id is None:
        return 0
    own = evaluations.c
    done = (own.task == evaluation.task) & (own.state == "succeeded") & (own.id != evaluation.id)
    query = select(own.dataset_id, func.count()).where(done, own.dataset_id.is_not(None)).group_by(own.dataset_id)
    with store.read() as connection:
        counted = [(str(dataset_id), int(count)) for dataset_id, count in connection.execute(query)]
        same = {dataset_id for dataset_id, _ in counted if _is_same(connection, evaluation.dataset_id, dataset_id)}
    return 1 + sum(count for dataset_id, count in counted if dataset_id in same)


def _is_same(connection: Connection, asked: str, other: str) -> bool:
    if asked == other:
        return True
    rows = dataset_rows.c
    held = select(rows.exchange_id).where(rows.split == "holdout")
    theirs = held.where(rows.dataset_id == other)
    own = select(func.count()).where(rows.dataset_id == asked, rows.split == "holdout")
    total = connection.execute(own).scalar_one()
    shared = connection.execute(own.where(rows.exchange_id.in_(theirs))).scalar_one()
    return bool(total) and shared > SAME * total
