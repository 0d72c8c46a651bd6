"""Takes exchanges out of the store with what hangs on them, in the caller's transaction; datasets keep their rows."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, and_, delete, func, select

from capture import full_text
from capture.tables import bodies, exchanges, feedback

BODY_BYTES = "body_bytes"
"""Counter: what a task's bodies take in the store, compressed."""

EXPIRED = "expired"
"""Counter: what of the stored was removed since, by age or size."""

Purge = Callable[[Connection, Sequence[str]], None]
"""Takes exchanges out of another room's tables, in the transaction that removes them here."""


@dataclass(frozen=True, slots=True)
class Removed:
    """What was taken out: the exchanges (id, task, user), and by task ("": none) their number and bodies' bytes."""

    rows: Sequence[Any] = ()
    exchanges: Counter[str] = field(default_factory=Counter)
    body_bytes: Counter[str] = field(default_factory=Counter)


def remove(connection: Connection, exchange_ids: Sequence[str], *, unless_stored: bool = False) -> Removed:
    """Removes those of these exchanges that are there. `unless_stored`: not what a client asked to keep."""
    named = exchanges.c.id.in_(exchange_ids)
    chosen = and_(named, exchanges.c.stored.is_(False)) if unless_stored else named
    columns = (exchanges.c.id, exchanges.c.task, exchanges.c.user, exchanges.c.completion_id)
    rows: Sequence[Any] = connection.execute(
        select(*columns).where(chosen).order_by(exchanges.c.id).with_for_update()
    ).all()
    ids = [row.id for row in rows]
    size = func.length(bodies.c.request) + func.length(bodies.c.answer)
    query = select(exchanges.c.task, func.sum(size).label("size")).join(bodies).where(exchanges.c.id.in_(ids))
    sizes = Counter({row.task or "": int(row.size) for row in connection.execute(query.group_by(exchanges.c.task))})
    said_of = [*ids, *(row.completion_id for row in rows if row.completion_id)]
    connection.execute(delete(feedback).where(feedback.c.exchange_id.in_(said_of)))
    full_text.remove(connection, ids)
    connection.execute(delete(exchanges).where(exchanges.c.id.in_(ids)))
    return Removed(rows, Counter(row.task or "" for row in rows), sizes)
