"""Takes erased exchanges out of this room's tables, and tells which students have learnt from their datasets."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import Connection, delete, or_, select, update

from capture.db import Store
from capture.lineage import ErasureReport
from capture.tables import dataset_rows
from students.tables import evaluation_answers, evaluations, pairs, students


@dataclass(frozen=True)
class Erased(ErasureReport):
    """An erasure with the names of the students trained on those datasets, oldest first."""

    students: tuple[str, ...] = ()


def purge(connection: Connection, exchange_ids: Sequence[str]) -> None:
    """Deletes pairs, and answers and texts of evaluations, on these exchanges, in the transaction that erases them.

    What an evaluation measured stays: its figures are over the rows that it had.
    """
    for table in (pairs, evaluation_answers):
        connection.execute(delete(table).where(table.c.exchange_id.in_(exchange_ids)))
    _take_out_of_reports(connection, exchange_ids)


def _take_out_of_reports(connection: Connection, exchange_ids: Sequence[str]) -> None:
    """The worst answers stand there with their texts. Replayed traffic has no dataset to tell its evaluations by."""
    touched = select(dataset_rows.c.dataset_id).where(dataset_rows.c.exchange_id.in_(exchange_ids))
    told = or_(evaluations.c.dataset_id.is_(None), evaluations.c.dataset_id.in_(touched))
    found = select(evaluations.c.id, evaluations.c.report).where(told).order_by(evaluations.c.id).with_for_update()
    gone = frozenset(exchange_ids)
    for row in connection.execute(found).all():
        arms = row.report.get("arms", [])
        kept = [{**arm, "worst": [one for one in arm["worst"] if one["exchange_id"] not in gone]} for arm in arms]
        if kept != arms:
            report = {**row.report, "arms": kept}
            connection.execute(update(evaluations).where(evaluations.c.id == row.id).values(report=report))


def taught(store: Store, dataset_ids: Sequence[str]) -> tuple[str, ...]:
    """The names of the students trained on any of these datasets, oldest first."""
    chosen = select(students.c.name).where(students.c.dataset_id.in_(dataset_ids))
    with store.read() as connection:
        return tuple(connection.scalars(chosen.order_by(students.c.created_at, students.c.id)))


def with_taught(store: Store, report: ErasureReport) -> Erased:
    """The report, and who learnt from what was erased."""
    return Erased(**asdict(report), students=taught(store, report.datasets))
