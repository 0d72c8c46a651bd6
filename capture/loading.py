"""Bodies of many exchanges at once."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, select

from capture.bodies import unpack_answer, unpack_request
from capture.exchange import Answer
from capture.tables import bodies


def load_bodies(connection: Connection, exchange_ids: Sequence[str]) -> dict[str, tuple[dict[str, Any], Answer]]:
    """Request and answer of each of these exchanges that is in the store."""
    if not exchange_ids:
        return {}
    columns = (bodies.c.exchange_id, bodies.c.request, bodies.c.answer)
    found = connection.execute(select(*columns).where(bodies.c.exchange_id.in_(exchange_ids)))
    return {row.exchange_id: (unpack_request(row.request), unpack_answer(row.answer)) for row in found}
