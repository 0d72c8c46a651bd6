"""The sum that must hold per task: seen = pending + stored + sampled out + opted out + dropped + erased.

`seen`, `opted_out` and the drops at the door stand in each living process's counter page; the rest, and the pages of
processes that are gone, in the store's `counters`. `spool_ledger` says how many records were read from each folder, so
that what a crash or damage took can be told: what its process saw and nobody ever read.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, delete, select

from capture import segments, spool
from capture.counters import DROPPED, OPTED_OUT, SEEN, Key, read_page
from capture.db import Store, insert_once
from capture.tables import counters, spool_ledger
from capture.tables import segments as offsets

LOST = DROPPED + "crash"  # seen by a process that died before the append was done: never acknowledged
DAMAGED = DROPPED + "damaged"  # written, but no longer readable
FOLDED = "folded"  # what the lines of `spool_ledger` are called
READ = "read"
DAMAGED_STRETCHES = "damaged"


@dataclass(frozen=True, slots=True)
class Balance:
    """One task's counts, all since the store was made."""

    seen: int = 0
    pending: int = 0
    stored: int = 0
    sampled_out: int = 0
    opted_out: int = 0
    erased: int = 0
    expired: int = 0  # of those stored: removed since, by age or size
    dropped: Mapping[str, int] = field(default_factory=dict)  # by cause

    @property
    def difference(self) -> int:
        """Seen, less all that became of it; 0 when everything is accounted for."""
        became = self.pending + self.stored + self.sampled_out + self.opted_out + self.erased
        return self.seen - became - sum(self.dropped.values())


def reconcile(store: Store, spool_folder: Path, *, counted: bool = True) -> dict[str, Balance]:
    """The balance of every task ("": requests of no task). Exact while nothing moves; what is underway may show.

    `counted`: all that waits in the spool is read and counted, which takes seconds when it is gigabytes. Otherwise
    `pending` is what was seen and not read yet: quick, but then the sum holds by itself and proves nothing.
    """
    with store.read() as connection:
        known: Counter[Key] = Counter()
        for row in connection.execute(select(counters)):
            known[row.task, row.name] += row.value
        ledger = connection.execute(select(spool_ledger)).all()
        reached = {row.name: row.offset for row in connection.execute(select(offsets.c.name, offsets.c.offset))}
    folded = {row.folder for row in ledger if row.name == FOLDED}
    for folder in spool.folders(spool_folder):
        if folder.name not in folded:
            page = read_page(folder)
            known.update(page)
            known.update(_waiting(folder, reached) if counted else _unread(folder, page, ledger))
    for row in ledger:
        if row.name == DAMAGED_STRETCHES:
            known["", DAMAGED] += row.value
    return {task: _balance(task, known) for task in sorted({task for task, _ in known})}


def fold(connection: Connection, folder: str, page: Mapping[Key, int]) -> Counter[Key]:
    """What a dead process's page adds to the store's counters; nothing when that was done before.

    Call it in the transaction that adds it. What was seen and never read is counted as lost in the crash, or damaged.
    """
    marker = {"folder": folder, "task": "", "name": FOLDED, "value": 1}
    if not insert_once(connection, spool_ledger, marker, ["folder", "task", "name"]):
        return Counter()
    mine = (spool_ledger.c.folder == folder) & (spool_ledger.c.name != FOLDED)
    ledger = connection.execute(select(spool_ledger).where(mine)).all()
    connection.execute(delete(spool_ledger).where(mine))
    read = {row.task: row.value for row in ledger if row.name == READ}
    damaged = sum(row.value for row in ledger if row.name == DAMAGED_STRETCHES)
    tally: Counter[Key] = Counter(page)
    for task in sorted({task for task, _ in page} | set(read)):
        missing = _appended(page, task) - read.get(task, 0)
        if missing < 0:  # a power cut kept newer records than counters
            tally[task, SEEN] -= missing
        elif missing:
            tally[task, DAMAGED if damaged else LOST] += missing
    return tally


def is_folded(connection: Connection, folders: Collection[str]) -> bool:
    """True when the counters of any of these folders were folded: nothing more may be read from it."""
    query = select(spool_ledger.c.folder).where(spool_ledger.c.folder.in_(folders), spool_ledger.c.name == FOLDED)
    return connection.execute(query).first() is not None


def _unread(folder: Path, page: Mapping[Key, int], ledger: Sequence[Row[Any]]) -> Counter[Key]:
    read = {row.task: row.value for row in ledger if row.folder == folder.name and row.name == READ}
    tasks = {task for task, _ in page}
    return Counter({(task, "pending"): max(0, _appended(page, task) - read.get(task, 0)) for task in tasks})


def _appended(page: Mapping[Key, int], task: str) -> int:
    """What a page says was seen, less what never went to the spool."""
    door = sum(n for (t, name), n in page.items() if t == task and (name == OPTED_OUT or name.startswith(DROPPED)))
    return page.get((task, SEEN), 0) - door


class _TaskOnly(msgspec.Struct):
    task: str | None = None


def _waiting(folder: Path, reached: Mapping[str, int]) -> Counter[Key]:
    decoder = msgspec.msgpack.Decoder(_TaskOnly)

    def task_of(record: bytes) -> str:
        try:
            return decoder.decode(record).task or ""
        except msgspec.MsgspecError:
            return ""

    found: Counter[Key] = Counter()
    for segment, _ in segments.listed(folder):
        offset = reached.get(f"{folder.name}/{segment.name}", 0)
        found.update((task, "pending") for task in segments.waiting(segment, offset, task_of))
    return found


def _balance(task: str, known: Mapping[Key, int]) -> Balance:
    mine: dict[str, Any] = {name: value for (owner, name), value in known.items() if owner == task}
    return Balance(
        seen=mine.get(SEEN, 0),
        pending=mine.get("pending", 0),
        stored=mine.get("stored", 0),
        sampled_out=mine.get("sampled_out", 0),
        opted_out=mine.get(OPTED_OUT, 0),
        erased=mine.get("erased", 0),
        expired=mine.get("expired", 0),
        dropped={name.removeprefix(DROPPED): value for name, value in mine.items() if name.startswith(DROPPED)},
    )
