"""Where an exchange went, and taking it out of datasets and the store again, leaving a tombstone."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, select, update

from capture.db import Store, upsert
from capture.errors import NotFoundError, RefusedError
from capture.removal import BODY_BYTES, EXPIRED, Purge, remove
from capture.tables import counters, dataset_rows, datasets, exchanges, outlived, tombstones

BATCH = 500


@dataclass(frozen=True)
class Touched:
    """A dataset that has, or had, a row of an exchange."""

    dataset_id: str
    name: str
    split: str


@dataclass(frozen=True)
class ErasureReport:
    """How many exchanges were erased, and the ids of the datasets that had rows of them, oldest first."""

    erased: int
    datasets: tuple[str, ...]
    rows: int


def known(store: Store, user: str) -> bool:
    """Whether any exchange of this user is stored, or a dataset has rows of one; `user` as the store knows it."""
    with store.read() as connection:
        return any(
            connection.scalar(select(table.c.user).where(table.c.user == user).limit(1))
            for table in (exchanges, outlived)
        )


def touched(store: Store, exchange_id: str) -> list[Touched]:
    """The datasets with a row of this exchange, oldest first; also for one that was erased."""
    columns = (datasets.c.id, datasets.c.task, datasets.c.version, dataset_rows.c.split)
    chosen = select(*columns).join(dataset_rows).where(dataset_rows.c.exchange_id == exchange_id)
    with store.read() as connection:
        found = connection.execute(chosen.order_by(datasets.c.created_at, datasets.c.id))
        return [Touched(row.id, f"{row.task}@{row.version}", row.split) for row in found]


def erase(
    store: Store,
    exchange_ids: Sequence[str],
    user: str | None,
    who: str,
    clock: Callable[[], float],
    purge: Sequence[Purge] = (),
) -> ErasureReport:
    """Deletes exchanges, or all of a user's, with all that was said of them and their copies in datasets.

    `user` as the store knows it. A dataset keeps an empty place where the row was, and its card counts it. Batches are
    transactions of their own: an erasure that was stopped is finished by asking for it again. Raises NotFoundError when
    there is nothing to erase, RefusedError when nothing was asked for.
    """
    if not exchange_ids and user is None:
        raise RefusedError("name the exchanges, or the user, to erase")
    erased, rows, named = 0, 0, set[str]()
    for ids in _batches(store, exchange_ids, user):
        with store.write() as connection:
            _hold_builds(connection)
            for one in purge:
                one(connection, ids)
            counts, in_datasets = _emptied(connection, ids)
            erased += _deleted(connection, ids, in_datasets, (who, clock()))
        named |= counts.keys()
        rows += counts.total()
    if not erased and not rows:
        raise NotFoundError(f"no exchange of user {user!r}" if user is not None else "no such exchange")
    return ErasureReport(erased, _in_order(store, named), rows)


def _batches(store: Store, exchange_ids: Sequence[str], user: str | None) -> list[list[str]]:
    ids = list(dict.fromkeys(exchange_ids))
    if user is not None:
        with store.read() as connection:
            ids += connection.scalars(select(exchanges.c.id).where(exchanges.c.user == user).order_by(exchanges.c.id))
            gone = select(outlived.c.exchange_id).where(outlived.c.user == user)
            ids += connection.scalars(gone.order_by(outlived.c.exchange_id))
    return [ids[start : start + BATCH] for start in range(0, len(ids), BATCH)]


def _hold_builds(connection: Connection) -> None:
    """Has datasets that are not ready wait: what they write next comes after the tombstones, and heeds them."""
    unready = select(datasets.c.id).where(datasets.c.state != "ready").order_by(datasets.c.id)
    connection.execute(unready.with_for_update())


def _emptied(connection: Connection, ids: Sequence[str]) -> tuple[Counter[str], set[str]]:
    """Empties these exchanges' dataset rows, marks the cards; returns how many rows each dataset lost, and whose."""
    chosen = dataset_rows.c.exchange_id.in_(ids)
    columns = (dataset_rows.c.dataset_id, dataset_rows.c.exchange_id, dataset_rows.c.row)
    found = [row for row in connection.execute(select(*columns).where(chosen)) if row.row]
    counts = Counter(row.dataset_id for row in found)
    connection.execute(update(dataset_rows).where(chosen).values(row=b""))
    for dataset_id, count in sorted(counts.items()):
        _mark(connection, dataset_id, count, set(ids))
    return counts, {row.exchange_id for row in found}


def _mark(connection: Connection, dataset_id: str, count: int, ids: set[str]) -> None:
    one = datasets.c.id == dataset_id
    card: dict[str, Any] = dict(connection.execute(select(datasets.c.card).where(one).with_for_update()).scalar_one())
    card["erased"] = card.get("erased", 0) + count
    card["samples"] = [row for row in card.get("samples", []) if row.get("exchange_id") not in ids]
    connection.execute(update(datasets).where(one).values(card=card))


def _deleted(connection: Connection, ids: Sequence[str], in_datasets: set[str], by: tuple[str, float]) -> int:
    """Deletes the exchanges and what was said of them; each leaves a tombstone and moves from stored to erased.

    One that had expired, or came by import, leaves a tombstone for its rows in datasets. `by`: who, and when.
    """
    removed = remove(connection, ids)
    mine = outlived.c.exchange_id.in_(ids)
    gone = connection.execute(select(outlived.c.exchange_id.label("id"), outlived.c.task).where(mine)).all()
    connection.execute(delete(outlived).where(mine))
    named = {row.id: row.task for row in [*removed.rows, *gone]}
    named |= dict.fromkeys(in_datasets - named.keys())
    who, now = by
    rows = [{"exchange_id": one, "task": named[one], "who": who, "erased_at": now} for one in sorted(named)]
    upsert(connection, tombstones, rows, ["exchange_id"])
    expired = Counter(row.task or "" for row in gone)
    moved = [(task, "stored", -count) for task, count in (removed.exchanges + expired).items()]
    moved += [(task, "erased", count) for task, count in (removed.exchanges + expired).items()]
    moved += [(task, EXPIRED, -count) for task, count in expired.items()]
    moved += [(task, BODY_BYTES, -count) for task, count in removed.body_bytes.items()]
    lines = [{"task": task, "name": name, "value": value} for task, name, value in sorted(moved)]
    upsert(connection, counters, lines, ["task", "name"], add=["value"])
    return len(removed.rows) + len(gone)


def _in_order(store: Store, ids: set[str]) -> tuple[str, ...]:
    with store.read() as connection:
        chosen = select(datasets.c.id).where(datasets.c.id.in_(ids)).order_by(datasets.c.created_at, datasets.c.id)
        return tuple(connection.scalars(chosen))
