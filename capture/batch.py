"""One batch of shipped records, and the single transaction that writes it: rows, counters, and how far was read."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import Connection, insert, select
from sqlalchemy.exc import DBAPIError

from capture import full_text, segments
from capture.counters import DROPPED, Key
from capture.db import upsert
from capture.reconcile import DAMAGED_STRETCHES, READ, is_folded
from capture.removal import BODY_BYTES
from capture.rows import Prepared
from capture.tables import bodies, counters, exchanges, prompt_versions, sampled, spool_ledger, tombstones
from capture.tables import segments as offsets

STORED = "stored"
SAMPLED_OUT = "sampled_out"
DUPLICATE = DROPPED + "duplicate"
UNREADABLE = DROPPED + "unreadable"
NOT_JSON = "not_json"  # kept as text; no part of the sum

_log = structlog.get_logger(__name__)


class StaleError(Exception):
    """Another shipper was faster: nothing of this batch was written."""


@dataclass(frozen=True, slots=True)
class Part:
    """What a batch takes from one segment."""

    segment: Path
    start: int
    chunk: segments.Chunk

    @property
    def name(self) -> str:
        return segment_name(self.segment)

    @property
    def folder(self) -> str:
        return self.segment.parent.name


@dataclass(slots=True)
class Batch:
    """What was read and made ready; `tally` counts per task what became of it, `read` per folder what was found."""

    parts: list[Part]
    prepared: list[Prepared] = field(default_factory=list)
    tally: Counter[Key] = field(default_factory=Counter)
    read: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    owners: Counter[tuple[int, str]] = field(default_factory=Counter)  # (day, owner) -> exchanges, for caps

    def note_read(self, part: Part, task: str | None) -> None:
        self.read[part.folder, task or "", READ] += 1

    def note_damage(self, part: Part, stretches: int = 1) -> None:
        self.read[part.folder, "", DAMAGED_STRETCHES] += stretches

    def count(self, task: str | None, name: str) -> None:
        self.tally[task or "", name] += 1


def write(connection: Connection, batch: Batch, now: float, *, careful: bool = False) -> list[Prepared]:
    """Writes the batch in the caller's transaction and returns the exchanges that are new; `batch` stays as it was.

    `careful`: each exchange by itself, so that one which the database refuses is counted and left out. Raises
    StaleError when the segments are not where the batch began, or their folder's account was closed.
    """
    _advance(connection, batch.parts, now)
    tally = Counter(batch.tally)
    fresh = _unknown(connection, batch.prepared, tally)
    if careful:
        fresh = [one for one in fresh if _accepted(connection, one, tally)]
    elif fresh:
        connection.execute(insert(exchanges), [one.row for one in fresh])
        connection.execute(insert(bodies), [one.body for one in fresh])
    full_text.add(connection, [full_text.Entry(one.exchange.id, one.words, one.row) for one in fresh])
    kept = ["template", "first_seen"]
    upsert(connection, prompt_versions, _versions(fresh), ["task", "fingerprint"], add=["exchanges"], keep=kept)
    for one in fresh:
        tally[one.exchange.task or "", STORED] += 1
        tally[one.exchange.task or "", BODY_BYTES] += len(one.body["request"]) + len(one.body["answer"])
        tally[one.exchange.task or "", NOT_JSON] += not one.is_json
    add_counters(connection, tally)
    lines = [{"folder": f, "task": t, "name": n, "value": v} for (f, t, n), v in sorted(batch.read.items()) if v]
    upsert(connection, spool_ledger, lines, ["folder", "task", "name"], add=["value"])
    owners = [{"day": day, "owner": owner, "seen": seen} for (day, owner), seen in sorted(batch.owners.items())]
    upsert(connection, sampled, owners, ["day", "owner"], add=["seen"])
    return fresh


def add_counters(connection: Connection, tally: Mapping[Key, int]) -> None:
    """Adds to the store's counters, in the caller's transaction: (task or "", name) → amount."""
    rows = [{"task": task, "name": name, "value": value} for (task, name), value in sorted(tally.items()) if value]
    upsert(connection, counters, rows, ["task", "name"], add=["value"])


def segment_name(segment: Path) -> str:
    """A segment's name in the store: its folder and its file."""
    return f"{segment.parent.name}/{segment.name}"


def read_offsets(connection: Connection, names: list[str], *, lock: bool = False) -> dict[str, tuple[int, bool]]:
    """How far each of these segments was read, and whether it is done; what was never read is missing."""
    columns = (offsets.c.name, offsets.c.offset, offsets.c.done)
    query = select(*columns).where(offsets.c.name.in_(names)).order_by(offsets.c.name)
    rows = connection.execute(query.with_for_update() if lock else query).all()
    return {row.name: (row.offset, row.done) for row in rows}


def _advance(connection: Connection, parts: list[Part], now: float) -> None:
    fresh = [{"name": part.name, "offset": 0, "done": False, "shipped_at": now} for part in parts]
    upsert(connection, offsets, fresh, ["name"], keep=["offset", "done", "shipped_at"])
    known = read_offsets(connection, [part.name for part in parts], lock=True)
    if any(known[part.name] != (part.start, False) for part in parts):
        raise StaleError
    if is_folded(connection, {part.folder for part in parts}):
        raise StaleError
    moved = [{"name": p.name, "offset": p.chunk.end, "done": p.chunk.finished, "shipped_at": now} for p in parts]
    upsert(connection, offsets, moved, ["name"])


def _unknown(connection: Connection, prepared: list[Prepared], tally: Counter[Key]) -> list[Prepared]:
    """Those whose id the store does not have, nor had before it was erased, once each; the others are counted."""
    ids = [one.exchange.id for one in prepared]
    known: set[str] = set()
    for column in (exchanges.c.id, tombstones.c.exchange_id) if ids else ():
        known.update(connection.execute(select(column).where(column.in_(ids))).scalars())
    fresh: list[Prepared] = []
    for one in prepared:
        if one.exchange.id in known:
            tally[one.exchange.task or "", DUPLICATE] += 1
            continue
        known.add(one.exchange.id)
        fresh.append(one)
    return fresh


def _accepted(connection: Connection, one: Prepared, tally: Counter[Key]) -> bool:
    try:
        with connection.begin_nested():
            connection.execute(insert(exchanges), one.row)
            connection.execute(insert(bodies), one.body)
    except DBAPIError as error:
        if error.connection_invalidated:
            raise
        _log.error("exchange_refused", exchange=one.exchange.id, error=type(error.orig).__name__)
        tally[one.exchange.task or "", UNREADABLE] += 1
        return False
    return True


def _versions(fresh: list[Prepared]) -> list[dict[str, Any]]:
    """The prompt versions that these exchanges were asked with, in key order: two shippers must not lock crosswise."""
    found: dict[Key, dict[str, Any]] = {}
    for one in fresh:
        task, version, seen = one.exchange.task or "", one.row["fingerprint"], one.exchange.started_at
        row = found.setdefault((task, version), {"template": one.template, "first_seen": seen, "last_seen": seen})
        row["exchanges"] = row.get("exchanges", 0) + 1
        row["first_seen"] = min(row["first_seen"], seen)
        row["last_seen"] = max(row["last_seen"], seen)
    return [{"task": task, "fingerprint": version, **found[task, version]} for task, version in sorted(found)]
