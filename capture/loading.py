"""Bodies of many exchanges at once."""

import zlib
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, select

from capture.bodies import unpack_answer, unpack_request
from capture.exchange import Answer
from capture.tables import bodies

CHUNK = 50
"""Bodies that are in memory at once, compressed."""

LARGEST_BYTES = 2 * 1024 * 1024
"""Of a request's or an answer's JSON that `is_large` lets pass."""

_ALWAYS_SMALL = LARGEST_BYTES // 1032  # zlib makes nothing smaller than by this factor


def load_bodies(connection: Connection, exchange_ids: Sequence[str]) -> dict[str, tuple[dict[str, Any], Answer]]:
    """Request and answer of each of these exchanges that is in the store."""
    return {
        exchange_id: (unpack_request(request), unpack_answer(answer))
        for exchange_id, request, answer in stream_bodies(connection, exchange_ids)
    }


def stream_bodies(connection: Connection, exchange_ids: Sequence[str]) -> Iterator[tuple[str, bytes, bytes]]:
    """(exchange, request, answer), packed, of each of these exchanges that is in the store, few at a time."""
    columns = (bodies.c.exchange_id, bodies.c.request, bodies.c.answer)
    for start in range(0, len(exchange_ids), CHUNK):
        chunk = exchange_ids[start : start + CHUNK]
        for row in connection.execute(select(*columns).where(bodies.c.exchange_id.in_(chunk))).all():
            yield row.exchange_id, row.request, row.answer


def is_large(packed: bytes) -> bool:
    """Whether a packed body is of more than LARGEST_BYTES, found out without unpacking more than that."""
    if len(packed) <= _ALWAYS_SMALL:
        return False
    return (
        len(packed) > LARGEST_BYTES or len(zlib.decompressobj().decompress(packed, LARGEST_BYTES + 1)) > LARGEST_BYTES
    )
