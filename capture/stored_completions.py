"""Chat completions that a client asked to keep (`store: true`): found, paged, tagged, let go of, by their own key."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, select, update

from capture.bodies import unpack_answer, unpack_request
from capture.db import Store
from capture.tables import bodies, exchanges

Json = dict[str, Any]

ROUTE = "chat.completions"
SCANNED_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Filters:
    """`after`: a completion's id; `tags` must all be among its metadata."""

    key_id: str | None = None
    model: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    after: str | None = None
    limit: int = 20
    newest_first: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """One stored completion, redacted as everything in the store is."""

    exchange_id: str
    completion_id: str
    metadata: dict[str, str]
    request: Json
    completion: Json


def find(store: Store, filters: Filters) -> list[Found]:
    """One more than `limit`, where there are as many. An `after` that is not there finds nothing."""
    with store.read() as connection:
        at: str | None = None
        if filters.after is not None:
            at = connection.scalar(_owned(filters.key_id).where(exchanges.c.completion_id == filters.after))
            if at is None:
                return []
        chosen = _ids(connection, filters, at)
        rows = connection.execute(_whole().where(exchanges.c.id.in_(chosen)))
        return sorted(map(_found, rows), key=lambda one: one.exchange_id, reverse=filters.newest_first)


def load(store: Store, completion_id: str, key_id: str | None) -> Found | None:
    """The completion, if that key stored one of this id; the newest where an upstream gave an id twice."""
    owned = _owned(key_id).where(exchanges.c.completion_id == completion_id)
    with store.read() as connection:
        exchange_id = connection.scalar(owned.order_by(exchanges.c.id.desc()).limit(1))
        row = connection.execute(_whole().where(exchanges.c.id == exchange_id)).one_or_none()
    return None if row is None else _found(row)


def set_metadata(store: Store, exchange_id: str, metadata: Mapping[str, str]) -> None:
    """Puts new metadata in the old one's place."""
    with store.write() as connection:
        connection.execute(update(exchanges).where(exchanges.c.id == exchange_id).values(metadata=dict(metadata)))


def delete(store: Store, exchange_id: str) -> None:
    """The client's stored completion is gone; the captured exchange stays until it is erased."""
    with store.write() as connection:
        connection.execute(update(exchanges).where(exchanges.c.id == exchange_id).values(stored=False))


def _owned(key_id: str | None) -> Select[Any]:
    return select(exchanges.c.id).where(_is_stored(key_id))


def _is_stored(key_id: str | None) -> ColumnElement[bool]:
    own = (exchanges.c.key_id == key_id,) if key_id else ()
    return and_(exchanges.c.stored, exchanges.c.route == ROUTE, exchanges.c.completion_id.is_not(None), *own)


def _ids(connection: Connection, filters: Filters, at: str | None) -> list[str]:
    """The ids of a page, in order. Metadata is compared here: the two databases spell its look-up differently."""
    found: list[str] = []
    while True:
        query = _window(filters, at)
        rows = connection.execute(query).all()
        found += [row.id for row in rows if filters.tags.items() <= row.metadata.items()]
        if len(found) > filters.limit or len(rows) < SCANNED_AT_ONCE:
            return found[: filters.limit + 1]
        at = rows[-1].id


def _window(filters: Filters, at: str | None) -> Select[Any]:
    query = select(exchanges.c.id, exchanges.c.metadata).where(_is_stored(filters.key_id))
    if filters.model:
        query = query.where(exchanges.c.model == filters.model)
    if at is not None:
        query = query.where(exchanges.c.id < at if filters.newest_first else exchanges.c.id > at)
    return query.order_by(exchanges.c.id.desc() if filters.newest_first else exchanges.c.id).limit(SCANNED_AT_ONCE)


def _whole() -> Select[Any]:
    columns = (exchanges.c.id, exchanges.c.completion_id, exchanges.c.metadata, bodies.c.request, bodies.c.answer)
    return select(*columns).join(bodies, bodies.c.exchange_id == exchanges.c.id)


def _found(row: Row[Any]) -> Found:
    completion = unpack_answer(row.answer).raw
    return Found(row.id, row.completion_id, dict(row.metadata), unpack_request(row.request), completion)
