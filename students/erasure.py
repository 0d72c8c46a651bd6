"""Takes erased exchanges out of this room's tables, and tells which students have learnt from their datasets."""

from collections.abc import Sequence

from sqlalchemy import Connection, delete, select

from capture.db import Store
from students.tables import evaluation_answers, pairs, students


def purge(connection: Connection, exchange_ids: Sequence[str]) -> None:
    """Deletes pairs and answers of evaluations on these exchanges, in the transaction that erases them."""
    for table in (pairs, evaluation_answers):
        connection.execute(delete(table).where(table.c.exchange_id.in_(exchange_ids)))


def taught(store: Store, dataset_ids: Sequence[str]) -> tuple[str, ...]:
    """The names of the students trained on any of these datasets, oldest first."""
    chosen = select(students.c.name).where(students.c.dataset_id.in_(dataset_ids))
    with store.read() as connection:
        return tuple(connection.scalars(chosen.order_by(students.c.created_at, students.c.id)))
