"""Takes erased exchanges out of this room's tables, and marks and tells what has learnt from them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import Connection, delete, func, or_, select, update

from capture.db import Store
from capture.lineage import ErasureReport
from capture.tables import dataset_rows
from students.tables import evaluation_answers, evaluations, fine_tunes, pairs, students


@dataclass(frozen=True)
class Erased(ErasureReport):
    """An erasure with what was trained on those datasets, oldest first: ids of fine-tunes, names of students.

    They have learnt from the rows, and are marked; training anew without them is the reader's decision.
    """

    fine_tunes: tuple[str, ...] = ()
    students: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """For a person to read: what was erased, and what has it in it, if anything."""
        touched = {"datasets": self.datasets, "fine-tunes": self.fine_tunes, "students": self.students}
        named = [f"{what} touched: {', '.join(names)}" for what, names in touched.items() if names]
        return [f"erased {self.erased:,} exchanges and {self.rows:,} rows of datasets", *named]


def purge(connection: Connection, exchange_ids: Sequence[str]) -> None:
    """Deletes pairs, and answers and texts of evaluations, on these exchanges, in the transaction that erases them.

    What an evaluation measured stays: its figures are over the rows that it had. What has learnt from the rows stays
    too, and is marked with their number.
    """
    for table in (pairs, evaluation_answers):
        connection.execute(delete(table).where(table.c.exchange_id.in_(exchange_ids)))
    _take_out_of_reports(connection, exchange_ids)
    _mark(connection, exchange_ids)


def _mark(connection: Connection, exchange_ids: Sequence[str]) -> None:
    """Fine-tunes first: a student that one registers meanwhile waits, and takes over what it is marked with."""
    trained = (dataset_rows.c.split == "train") & (func.length(dataset_rows.c.row) > 0)
    gone = select(dataset_rows.c.dataset_id, func.count().label("rows")).where(
        dataset_rows.c.exchange_id.in_(exchange_ids), trained
    )
    for row in connection.execute(gone.group_by(dataset_rows.c.dataset_id).order_by(dataset_rows.c.dataset_id)).all():
        begun = (fine_tunes.c.dataset_id == row.dataset_id) & (fine_tunes.c.state != "queued")
        connection.execute(update(fine_tunes).where(begun).values(erased=fine_tunes.c.erased + row.rows))
        learnt = students.c.dataset_id == row.dataset_id
        connection.execute(update(students).where(learnt).values(erased=students.c.erased + row.rows))


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


def with_taught(store: Store, report: ErasureReport) -> Erased:
    """The report, and what has learnt from what was erased of those datasets."""
    found = []
    with store.read() as connection:
        for table, name in ((fine_tunes, fine_tunes.c.id), (students, students.c.name)):
            marked = select(name).where(table.c.dataset_id.in_(report.datasets), table.c.erased > 0)
            found.append(tuple(connection.scalars(marked.order_by(table.c.created_at, table.c.id))))
    return Erased(**asdict(report), fine_tunes=found[0], students=found[1])
