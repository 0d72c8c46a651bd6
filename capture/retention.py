"""Retention: exchanges that are older than their task keeps them, or beyond its room, leave the store, oldest first.

What a client asked to keep stays, and so do the rows that datasets own; for these a note of whose they were stays too,
since erasing a user must still find them. Counters go on: what expired is a part of what was stored.
"""

from collections.abc import Callable, Mapping, Sequence

from sqlalchemy import Connection, delete, func, select

from capture.db import Store, upsert
from capture.removal import BODY_BYTES, EXPIRED, Purge, Removed, remove
from capture.sampling import DAY_S
from capture.settings import RetentionSettings, TaskSettings
from capture.tables import bodies, counters, dataset_rows, exchanges, outlived, sampled
from capture.traffic import id_at

BATCH = 500
MEGABYTE = 1_000_000

_KEPT_DAYS = 2  # of counts for caps


def sweep(
    store: Store,
    tasks: Mapping[str, TaskSettings],
    untasked: RetentionSettings,
    clock: Callable[[], float],
    limit: int = BATCH,
    purge: Purge = lambda _connection, _ids: None,
) -> int:
    """Removes up to `limit` exchanges of each task and returns how many; 0 when all is as it should be.

    `untasked`: what holds for exchanges of no task, or of one that is gone. `purge`: for what other rooms keep of them.
    Each task's are one transaction: a sweep that was killed goes on with the next call.
    """
    now = clock()
    total = 0
    for name in _names(store):
        rule = tasks[name].retention if name in tasks else untasked
        if rule.days is not None or rule.megabytes is not None:
            total += _swept(store, name, rule, (now, limit), purge)
    _forget_counts(store, now)
    return total


def _swept(store: Store, name: str, rule: RetentionSettings, when: tuple[float, int], purge: Purge) -> int:
    now, limit = when
    with store.read() as connection:
        ids = _expired(connection, name, rule, now, limit)
    if not ids:
        return 0
    with store.write() as connection:
        removed = remove(connection, ids, unless_stored=True)
        purge(connection, [row.id for row in removed.rows])
        _note_outlived(connection, removed, now)
        lines = {(EXPIRED, task): count for task, count in removed.exchanges.items()}
        lines |= {(BODY_BYTES, task): -count for task, count in removed.body_bytes.items()}
        rows = [{"task": task, "name": what, "value": value} for (what, task), value in sorted(lines.items())]
        upsert(connection, counters, rows, ["task", "name"], add=["value"])
    return len(removed.rows)


def _expired(connection: Connection, name: str, rule: RetentionSettings, now: float, limit: int) -> list[str]:
    """The oldest that are too old; else, while the task's bodies take more than their room, the oldest."""
    own = exchanges.c.task == name if name else exchanges.c.task.is_(None)
    oldest = select(exchanges.c.id).where(own, exchanges.c.stored.is_(False)).order_by(exchanges.c.id).limit(limit)
    ids: list[str] = []
    if rule.days is not None:
        ids = list(connection.scalars(oldest.where(exchanges.c.id < id_at(now - rule.days * DAY_S))))
    if ids or rule.megabytes is None:
        return ids
    taken = select(counters.c.value).where(counters.c.task == name, counters.c.name == BODY_BYTES)
    beyond = (connection.scalar(taken) or 0) - round(rule.megabytes * MEGABYTE)
    if beyond <= 0:
        return []
    return _first_of(connection, list(connection.scalars(oldest)), beyond)


def _first_of(connection: Connection, ids: Sequence[str], beyond: int) -> list[str]:
    """As many of these as make up for what lies beyond the room."""
    size = func.length(bodies.c.request) + func.length(bodies.c.answer)
    chosen = select(bodies.c.exchange_id, size.label("size")).where(bodies.c.exchange_id.in_(ids))
    sizes = {row.exchange_id: row.size for row in connection.execute(chosen)}
    going: list[str] = []
    for one in ids:
        if beyond <= 0:
            break
        beyond -= sizes.get(one, 0)
        going.append(one)
    return going


def _note_outlived(connection: Connection, removed: Removed, now: float) -> None:
    ids = [row.id for row in removed.rows]
    kept = set(connection.scalars(select(dataset_rows.c.exchange_id).where(dataset_rows.c.exchange_id.in_(ids))))
    rows = [
        {"exchange_id": row.id, "task": row.task, "user": row.user, "removed_at": now}
        for row in removed.rows
        if row.id in kept
    ]
    upsert(connection, outlived, rows, ["exchange_id"])


def _names(store: Store) -> list[str]:
    with store.read() as connection:
        return list(connection.scalars(select(counters.c.task).where(counters.c.name == BODY_BYTES)))


def _forget_counts(store: Store, now: float) -> None:
    old = sampled.c.day < int(now // DAY_S) - _KEPT_DAYS
    with store.read() as connection:
        if connection.scalar(select(sampled.c.day).where(old).limit(1)) is None:
            return
    with store.write() as connection:
        connection.execute(delete(sampled).where(old))
