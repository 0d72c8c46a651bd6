"""The shipper: spool → sample → redact → store, once each, from wherever it was stopped.

One transaction writes a batch of exchanges, what counts them, and how far each segment has been read; a segment is
removed only after that is committed. So a batch is either in the store with its offsets, or read again. Two shippers
may run at once: the offsets that a batch starts from are checked, under a lock, in its transaction.
"""

import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import structlog
from sqlalchemy import delete
from sqlalchemy.exc import DBAPIError

from capture import segments, spool
from capture.batch import (
    SAMPLED_OUT,
    UNREADABLE,
    Batch,
    Part,
    StaleError,
    add_counters,
    read_offsets,
    segment_name,
    write,
)
from capture.counters import read_page
from capture.db import Store
from capture.exchange import Answer, Exchange, decode
from capture.reconcile import fold
from capture.redact import Redactor, load_secret
from capture.rows import Opened, Prepared, Rules, opened, prepare
from capture.sampling import keep
from capture.selecting import Owner, Selector, looks_inside, owners_of
from capture.settings import DatasetSettings, RedactionSettings, SamplingSettings, Settings, TaskSettings
from capture.tables import segments as offsets

BATCH_BYTES = 8 * 1024 * 1024

Json = dict[str, Any]
OnStored = Callable[[Exchange, Json, Answer, str | None, float], None]

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Read:
    """A record on its way: how it is kept, and, where that depends on them, its bodies and whose it is."""

    exchange: Exchange
    rules: Rules
    found: Opened | None = None
    owners: Sequence[Owner] = ()


class Shipper:
    """Ships all processes' spools into the store. Not thread-safe; several may run in several processes.

    `tasks` may be replaced at any time. `on_stored` gets each stored exchange after its commit, with its raw request,
    its raw answer, its task and the probability that it was kept with; what it raises is logged and counted, and the
    next one goes on.
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
        self._selector = Selector(store)
        self._turn = -1
        self._made: dict[str, tuple[TaskSettings | None, Rules]] = {}

    def ship_once(self, limit: int = 500) -> int:
        """Ships up to `limit` records and returns how many it read; 0 when nothing is waiting. Raises StoreAwayError.

        Also removes what is shipped: whole segments, and folders of processes that are gone.
        """
        batch = Batch(self._gather(limit))
        records = sum(len(part.chunk.records) for part in batch.parts)
        if batch.parts:
            self._prepare(batch)
            try:
                fresh = self._write(batch)
            except StaleError:
                return 0
            self._remove(batch.parts)
            self._announce(fresh)
        if records < limit:
            self._fold_dead()
        return records

    def _gather(self, limit: int) -> list[Part]:
        parts: list[Part] = []
        room = BATCH_BYTES
        for folder in self._in_turn(spool.folders(self._settings.spool_folder)):
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
                    parts.append(Part(segment, start, chunk))
                limit -= len(chunk.records)
                room -= chunk.end - start
        return parts

    def _in_turn(self, folders: list[Path]) -> list[Path]:
        """Another folder first each time, so that one busy process does not keep the others waiting."""
        self._turn += 1
        first = self._turn % len(folders) if folders else 0
        return folders[first:] + folders[:first]

    def _offsets(self, found: list[Path]) -> dict[str, tuple[int, bool]]:
        if not found:
            return {}
        names = [segment_name(segment) for segment in found]
        with self._store.read() as connection:
            return read_offsets(connection, names)

    def _prepare(self, batch: Batch) -> None:
        """Decides on every record. The store is asked about them all at once, and fails them all at once if it does."""
        read = [self._looked_at(batch, exchange) for part in batch.parts for exchange in self._decoded(batch, part)]
        found = [one for one in read if one is not None]
        self._selector.begin(owner for one in found for owner in one.owners)
        for one in found:
            self._decide(batch, one)

    def _decoded(self, batch: Batch, part: Part) -> Iterator[Exchange]:
        chunk = part.chunk
        if chunk.damaged or chunk.torn_bytes:
            _log.warning("spool_damaged", segment=part.name, stretches=chunk.damaged, torn_bytes=chunk.torn_bytes)
            batch.note_damage(part, chunk.damaged)
        for record in chunk.records:
            try:
                exchange = decode(record)
            except msgspec.MsgspecError:
                batch.note_damage(part)
                continue
            batch.note_read(part, exchange.task)
            yield exchange

    def _looked_at(self, batch: Batch, exchange: Exchange) -> _Read | None:
        name = exchange.task or ""
        rules = self._rules(name, self.tasks.get(name))  # wrong settings stop the shipper: they must lose nothing
        if exchange.store or not looks_inside(rules.sampling):  # a stored completion was promised to its client
            return _Read(exchange, rules)
        try:
            found = opened(exchange)
            return _Read(exchange, rules, found, [owner for owner, _ in owners_of(exchange, found, rules)])
        except Exception as error:  # noqa: BLE001 - one exchange must not stop those behind it
            _pass_over(batch, exchange, error)
            return None

    def _decide(self, batch: Batch, one: _Read) -> None:
        try:
            prepared = self._kept(batch, one)
        except Exception as error:  # noqa: BLE001 - likewise
            _pass_over(batch, one.exchange, error)
            return
        if prepared is None:
            batch.count(one.exchange.task, SAMPLED_OUT)
        else:
            batch.prepared.append(prepared)

    def _kept(self, batch: Batch, one: _Read) -> Prepared | None:
        """Asks no store: what fails here is the exchange's own."""
        exchange, found, rules = one.exchange, one.found, one.rules
        wanted = 1.0 if exchange.store else None
        if found is not None:
            wanted = self._selector.probability(batch.owners, exchange, found, rules)
        kept, probability = keep(exchange.task, rules.sampling, exchange.id, wanted)
        return prepare(exchange, found or opened(exchange), probability, rules) if kept else None

    def _rules(self, name: str, task: TaskSettings | None) -> Rules:
        """A task's rules, made anew when its settings have changed."""
        known = self._made.get(name)
        if known is not None and (known[0] is task or known[0] == task):
            self._made[name] = (task, known[1])  # tasks are loaded again and again; comparing them costs once
            return known[1]
        rules = Rules(
            redactor=Redactor(task.redaction if task else RedactionSettings(), self._secret),
            sampling=task.sampling if task else SamplingSettings(),
            dataset=task.dataset if task else DatasetSettings(),
            label=task.label if task else None,
            prices=self._settings.prices,
        )
        self._made[name] = (task, rules)
        return rules

    def _write(self, batch: Batch) -> list[Prepared]:
        try:
            with self._store.write() as connection:
                return write(connection, batch, self._clock())
        except DBAPIError as error:  # the store is there, but refuses something: find out what
            _log.error("batch_refused", error=type(error.orig).__name__)
        with self._store.write() as connection:
            return write(connection, batch, self._clock(), careful=True)

    def _remove(self, parts: list[Part]) -> None:
        for part in parts:
            if part.chunk.finished:
                part.segment.unlink(missing_ok=True)

    def _announce(self, stored: list[Prepared]) -> None:
        for one in stored:
            try:
                self._on_stored(one.exchange, one.request, one.answer, one.exchange.task, float(one.row["probability"]))
            except Exception as error:  # noqa: BLE001 - the exchange is stored; a pair less is no loss of it
                self.failed_callbacks += 1
                _log.error("on_stored_failed", exchange=one.exchange.id, error=_place(error))

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


def _pass_over(batch: Batch, exchange: Exchange, error: Exception) -> None:
    _log.error("exchange_unreadable", exchange=exchange.id, error=_place(error))
    batch.count(exchange.task, UNREADABLE)


def _place(error: Exception) -> str:
    """What went wrong and where, without its message: that may quote what a client wrote."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}"
