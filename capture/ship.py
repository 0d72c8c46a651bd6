"""The shipper: spool → sample → redact → store, once each, from wherever it was stopped.

One transaction writes a batch of exchanges, what counts them, and how far each segment has been read; a segment is
removed only after that is committed. So a batch is either in the store with its offsets, or read again. Two shippers
may run at once: the offsets that a batch starts from are checked, under a lock, in its transaction.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import structlog
from sqlalchemy import Connection, delete, insert, select

from capture import segments, spool
from capture.counters import DROPPED, read_page
from capture.db import Store, upsert
from capture.exchange import Answer, Exchange, decode
from capture.reconcile import fold, is_folded
from capture.redact import Redactor, load_secret
from capture.rows import Prepared, Rules, prepare
from capture.sampling import keep
from capture.settings import DatasetSettings, RedactionSettings, SamplingSettings, Settings, TaskSettings
from capture.tables import bodies, counters, exchanges, prompt_versions, spool_ledger, tombstones
from capture.tables import segments as offsets

STORED = "stored"
SAMPLED_OUT = "sampled_out"
DUPLICATE = DROPPED + "duplicate"
UNREADABLE = DROPPED + "unreadable"
NOT_JSON = "not_json"  # kept as text; no part of the sum

BATCH_BYTES = 8 * 1024 * 1024

Json = dict[str, Any]
OnStored = Callable[[Exchange, Json, Answer, str | None], None]

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Part:
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


class _Stale(Exception):  # noqa: N818 - a signal, not an error
    """Another shipper was faster."""


def segment_name(segment: Path) -> str:
    """A segment's name in the store: its folder and its file."""
    return f"{segment.parent.name}/{segment.name}"


class Shipper:
    """Ships all processes' spools into the store. Not thread-safe; several may run in several processes.

    `tasks` may be replaced at any time. `on_stored` gets each stored exchange after its commit, with its raw request,
    its raw answer and its task; what it raises is logged and counted, and the next one goes on.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        tasks: Mapping[str, TaskSettings],
        on_stored: OnStored,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.tasks = tasks
        self.failed_callbacks = 0
        self._store = store
        self._settings = settings
        self._on_stored = on_stored
        self._clock = clock
        self._secret = load_secret(settings.data)
        self._made: dict[str, tuple[TaskSettings | None, Rules]] = {}

    def ship_once(self, limit: int = 500) -> int:
        """Ships up to `limit` records and returns how many it read; 0 when nothing is waiting. Raises StoreAwayError.

        Also removes what is shipped: whole segments, and folders of processes that are gone.
        """
        parts = self._gather(limit)
        records = sum(len(part.chunk.records) for part in parts)
        if parts:
            tally: Counter[tuple[str, str]] = Counter()
            read: Counter[tuple[str, str, str]] = Counter()
            prepared = self._prepare(parts, tally, read)
            try:
                fresh = self._commit(parts, prepared, tally, read)
            except _Stale:
                return 0
            self._remove(parts)
            self._announce(fresh)
        if records < limit:
            self._fold_dead()
        return records

    def _gather(self, limit: int) -> list[_Part]:
        parts: list[_Part] = []
        room = BATCH_BYTES
        for folder in spool.folders(self._settings.spool_folder):
            dead = spool.is_dead(folder)  # before the listing: what dies in between is seen as open once more
            found = [path for path, _ in segments.listed(folder)]
            known = self._offsets(found)
            for number, segment in enumerate(found):
                start, done = known.get(segment_name(segment), (0, False))
                if done:
                    segment.unlink(missing_ok=True)
                    continue
                if limit <= 0 or room <= 0:
                    return parts
                closed = dead or number < len(found) - 1
                try:
                    chunk = segments.read(segment, start, closed=closed, limit=limit, limit_bytes=room)
                except FileNotFoundError:  # another shipper has just removed it
                    continue
                if chunk.end > start or chunk.finished:
                    parts.append(_Part(segment, start, chunk))
                limit -= len(chunk.records)
                room -= chunk.end - start
        return parts

    def _offsets(self, found: list[Path]) -> dict[str, tuple[int, bool]]:
        if not found:
            return {}
        names = [segment_name(segment) for segment in found]
        with self._store.read() as connection:
            return _read_offsets(connection, names)

    def _prepare(
        self, parts: list[_Part], tally: Counter[tuple[str, str]], read: Counter[tuple[str, str, str]]
    ) -> list[Prepared]:
        prepared: list[Prepared] = []
        for part in parts:
            if part.chunk.damaged or part.chunk.torn_bytes:
                _log.warning(
                    "spool_damaged", segment=part.name, stretches=part.chunk.damaged, torn=part.chunk.torn_bytes
                )
                read[part.folder, "", "damaged"] += part.chunk.damaged
            for record in part.chunk.records:
                try:
                    exchange = decode(record)
                except msgspec.MsgspecError:
                    read[part.folder, "", "damaged"] += 1
                    continue
                read[part.folder, exchange.task or "", "read"] += 1
                one = self._prepare_one(exchange, tally)
                if one is not None:
                    prepared.append(one)
        return prepared

    def _prepare_one(self, exchange: Exchange, tally: Counter[tuple[str, str]]) -> Prepared | None:
        name = exchange.task or ""
        task = self.tasks.get(name)
        kept, probability = keep(exchange.task, task.sampling if task else SamplingSettings(), exchange.id)
        if exchange.store:  # a stored completion was promised to its client
            kept, probability = True, 1.0
        if not kept:
            tally[name, SAMPLED_OUT] += 1
            return None
        rules = self._rules(name, task)  # wrong settings stop the shipper: they must lose nothing
        try:
            return prepare(exchange, probability, rules)
        except Exception as error:  # noqa: BLE001 - one exchange must not stop those behind it
            _log.error("exchange_unreadable", exchange=exchange.id, error=type(error).__name__)
            tally[name, UNREADABLE] += 1
            return None

    def _rules(self, name: str, task: TaskSettings | None) -> Rules:
        """A task's rules, made anew when its settings have changed."""
        known = self._made.get(name)
        if known is not None and known[0] is task:
            return known[1]
        rules = Rules(
            redactor=Redactor(task.redaction if task else RedactionSettings(), self._secret),
            dataset=task.dataset if task else DatasetSettings(),
            label=task.label if task else None,
            prices=self._settings.prices,
        )
        self._made[name] = (task, rules)
        return rules

    def _commit(
        self,
        parts: list[_Part],
        prepared: list[Prepared],
        tally: Counter[tuple[str, str]],
        read: Counter[tuple[str, str, str]],
    ) -> list[Prepared]:
        with self._store.write() as connection:
            self._advance(connection, parts)
            fresh = _unknown(connection, prepared, tally)
            if fresh:
                connection.execute(insert(exchanges), [one.row for one in fresh])
                connection.execute(insert(bodies), [one.body for one in fresh])
            upsert(
                connection,
                prompt_versions,
                _versions(fresh),
                ["task", "fingerprint"],
                add=["exchanges"],
                keep=["template", "first_seen"],
            )
            for one in fresh:
                tally[one.exchange.task or "", STORED] += 1
                if not one.is_json:
                    tally[one.exchange.task or "", NOT_JSON] += 1
            add_counters(connection, tally)
            lines = [{"folder": f, "task": t, "name": n, "value": v} for (f, t, n), v in read.items() if v]
            upsert(connection, spool_ledger, lines, ["folder", "task", "name"], add=["value"])
        return fresh

    def _advance(self, connection: Connection, parts: list[_Part]) -> None:
        """Moves the segments' offsets on; raises `_Stale` when they are not where this batch began."""
        now = self._clock()
        rows = [{"name": part.name, "offset": 0, "done": False, "shipped_at": now} for part in parts]
        upsert(connection, offsets, rows, ["name"], keep=["offset", "done", "shipped_at"])
        known = _read_offsets(connection, [part.name for part in parts], lock=True)
        if any(known[part.name] != (part.start, False) for part in parts):
            raise _Stale
        if is_folded(connection, {part.folder for part in parts}):
            raise _Stale
        rows = [
            {"name": part.name, "offset": part.chunk.end, "done": part.chunk.finished, "shipped_at": now}
            for part in parts
        ]
        upsert(connection, offsets, rows, ["name"])

    def _remove(self, parts: list[_Part]) -> None:
        for part in parts:
            if part.chunk.finished:
                part.segment.unlink(missing_ok=True)

    def _announce(self, stored: list[Prepared]) -> None:
        for one in stored:
            try:
                self._on_stored(one.exchange, one.request, one.answer, one.exchange.task)
            except Exception as error:  # noqa: BLE001 - the exchange is stored; a pair less is no loss of it
                self.failed_callbacks += 1
                _log.error("on_stored_failed", exchange=one.exchange.id, error=repr(error))

    def _fold_dead(self) -> None:
        """Takes a dead process's counters into the store, once, and removes its folder when all of it is shipped."""
        spool.remove_unborn(self._settings.spool_folder)
        for folder in spool.folders(self._settings.spool_folder):
            if spool.is_dead(folder) and not segments.listed(folder):
                with self._store.write() as connection:
                    tally = fold(connection, folder.name, read_page(folder))
                    add_counters(connection, tally)
                    connection.execute(
                        delete(offsets).where(offsets.c.name.startswith(f"{folder.name}/", autoescape=True))
                    )
                spool.remove_folder(folder)


def add_counters(connection: Connection, tally: Mapping[tuple[str, str], int]) -> None:
    """Adds to the store's counters, in the caller's transaction: (task or "", name) → amount."""
    rows = [{"task": task, "name": name, "value": value} for (task, name), value in sorted(tally.items()) if value]
    upsert(connection, counters, rows, ["task", "name"], add=["value"])


def _read_offsets(connection: Connection, names: list[str], *, lock: bool = False) -> dict[str, tuple[int, bool]]:
    query = (
        select(offsets.c.name, offsets.c.offset, offsets.c.done)
        .where(offsets.c.name.in_(names))
        .order_by(offsets.c.name)
    )
    rows = connection.execute(query.with_for_update() if lock else query).all()
    return {row.name: (row.offset, row.done) for row in rows}


def _unknown(connection: Connection, prepared: list[Prepared], tally: Counter[tuple[str, str]]) -> list[Prepared]:
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


def _versions(fresh: list[Prepared]) -> list[dict[str, Any]]:
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for one in fresh:
        task, seen = one.exchange.task or "", one.exchange.started_at
        row = found.setdefault(
            (task, one.row["fingerprint"]),
            {
                "task": task,
                "fingerprint": one.row["fingerprint"],
                "template": one.template,
                "first_seen": seen,
                "last_seen": seen,
                "exchanges": 0,
            },
        )
        row["exchanges"] += 1
        row["first_seen"] = min(row["first_seen"], seen)
        row["last_seen"] = max(row["last_seen"], seen)
    return [found[key] for key in sorted(found)]
