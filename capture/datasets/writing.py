"""A dataset's rows on their way into the store: begun, inserted, finished; what is erased meanwhile stays out of them.

An erasure empties the rows that it sees. Those that come after it are emptied here, by the tombstone that it left; so
that none falls between the two, both first lock the dataset that is not ready yet.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, delete, func, insert, select, update

from capture.datasets.card import Contents
from capture.db import Store
from capture.tables import dataset_rows, datasets, tombstones


def begin(store: Store, dataset_id: str) -> None:
    """Clears away what an earlier attempt left."""
    with store.write() as connection:
        connection.execute(delete(dataset_rows).where(dataset_rows.c.dataset_id == dataset_id))
        chosen = update(datasets).where(datasets.c.id == dataset_id, datasets.c.state != "ready")
        connection.execute(chosen.values(state="building", error=None))


def insert_rows(connection: Connection, lines: Sequence[dict[str, Any]]) -> None:
    """Lines of one dataset (`Lines.line`); where the exchange was erased, an empty place."""
    if not lines:
        return
    own = datasets.c.id == lines[0]["dataset_id"]
    connection.execute(select(datasets.c.id).where(own).with_for_update())
    ids = [line["exchange_id"] for line in lines]
    gone = set(connection.scalars(select(tombstones.c.exchange_id).where(tombstones.c.exchange_id.in_(ids))))
    connection.execute(
        insert(dataset_rows), [{**line, "row": b""} if line["exchange_id"] in gone else line for line in lines]
    )


def finish(connection: Connection, dataset_id: str, contents: Contents, digest: str, now: float) -> None:
    """Calls the dataset ready, with what its card says; rows that were erased meanwhile are counted, and no samples."""
    mine = dataset_rows.c.dataset_id == dataset_id
    erased = dataset_rows.c.exchange_id.in_(select(tombstones.c.exchange_id))
    connection.execute(update(dataset_rows).where(mine, erased).values(row=b""))
    emptied = mine & (func.length(dataset_rows.c.row) == 0)
    contents.erased = connection.scalar(select(func.count()).select_from(dataset_rows).where(emptied)) or 0
    shown = emptied & dataset_rows.c.exchange_id.in_([row.exchange_id for row in contents.samples])
    gone = set(connection.scalars(select(dataset_rows.c.exchange_id).where(shown)))
    contents.samples = [row for row in contents.samples if row.exchange_id not in gone]
    chosen = update(datasets).where(datasets.c.id == dataset_id, datasets.c.state == "building")
    ready = {"state": "ready", "hash": digest, "card": msgspec.to_builtins(contents), "ready_at": now}
    connection.execute(chosen.values(**ready))


def fail(store: Store, dataset_id: str, reason: str) -> None:
    """Takes the rows out again and says why there are none."""
    with store.write() as connection:
        connection.execute(delete(dataset_rows).where(dataset_rows.c.dataset_id == dataset_id))
        chosen = update(datasets).where(datasets.c.id == dataset_id)
        connection.execute(chosen.values(state="failed", error=reason))
