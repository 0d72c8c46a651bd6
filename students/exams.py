"""Owns the rows that are examined: a sealed holdout, or captured traffic replayed, with what is known around them."""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from capture.datasets import Filters, Row, rows
from capture.datasets.balance import rank
from capture.datasets.conversation import UnusableError
from capture.datasets.filters import Terms, answered, reason_against
from capture.datasets.selection import row_parts
from capture.datasets.sources import Found, by_id, candidates, known_of, with_bodies
from capture.exchange import Answer
from capture.feedback import truths
from capture.settings import TaskSettings
from capture.tables import exchanges
from students.asking import Replay
from students.workshop import Workshop

BATCH = 200
SEED = 7


@dataclass(frozen=True)
class Exam:
    """One row with everything around it: the teacher's own answer, the truth (None: none is known).

    `redacted`: whether redaction changed it; None where its exchange is gone.
    """

    row: Row
    teacher: Answer
    truth: Any
    cost_usd: float | None = None
    duration_ms: float | None = None
    key_id: str | None = None
    redacted: bool | None = None

    @property
    def id(self) -> str:
        return str(self.row.exchange_id)

    @property
    def request(self) -> dict[str, Any]:
        """In Chat's shape, with the parameters of the live traffic."""
        return dict(self.row.request)


def exams_of(shop: Workshop, dataset_id: str) -> Iterator[Exam]:
    """A dataset's holdout, in its order."""
    return _examined(shop, rows(shop.store, dataset_id, "holdout"))


def replayed(shop: Workshop, name: str, task: TaskSettings, replay: Replay) -> Iterator[Exam]:
    """The teacher's captured answers that pass the filters, by id; of too many, an even draw that is always the same.

    The upstreams' terms on training do not matter here: nothing is trained.
    """
    picked = heapq.nsmallest(replay.rows, _passing(shop, name, task, replay.filters), key=lambda one: rank(SEED, one))
    return _examined(shop, _captured(shop, sorted(picked)))


def drawn(exams: Sequence[Exam], most: int | None) -> list[Exam]:
    """At most so many of the exams, drawn evenly and the same each time; in their order."""
    if most is None or len(exams) <= most:
        return list(exams)
    chosen = {exam.id for exam in heapq.nsmallest(most, exams, key=lambda exam: rank(SEED, exam.id))}
    return [exam for exam in exams if exam.id in chosen]


def _passing(shop: Workshop, name: str, task: TaskSettings, filters: Filters) -> Iterator[str]:
    until = filters.until or float("inf")
    for holdout in (False, True):
        for batch in candidates(shop.store, name, until, holdout=holdout):
            allowed = frozenset(one.upstream for one in batch)
            terms = Terms(task.label, filters.minimum_score or {}, frozenset(), allowed)
            with shop.store.read() as connection:
                found = known_of(connection, [one for one in batch if answered(one) is None])
            for one in found:
                if reason_against(one.candidate, one.known, filters, terms) is None:
                    yield one.candidate.id


def _captured(shop: Workshop, ids: Sequence[str]) -> Iterator[Row]:
    for start in range(0, len(ids), BATCH):
        with shop.store.read() as connection:
            batch = known_of(connection, by_id(connection, ids[start : start + BATCH]))
            found = list(with_bodies(connection, batch))
        for one in found:
            row = _row(one)
            if row is not None:
                yield row


def _row(found: Found) -> Row | None:
    """The exchange as a row of a holdout would hold it; None where it can be none."""
    try:
        request, target = row_parts(found, as_answered=True)
    except UnusableError:
        return None
    one = found.candidate
    return Row(
        exchange_id=one.id,
        request=request,
        target=target,
        label=one.label,
        fingerprint=one.fingerprint,
        conversation=one.conversation,
        session=one.session,
        truth=found.known.truth,
        started_at=one.started_at,
        metadata=dict(one.metadata),
        probability=one.probability,
    )


def _examined(shop: Workshop, found: Iterator[Row]) -> Iterator[Exam]:
    batch: list[Row] = []
    for row in found:
        batch.append(row)
        if len(batch) == BATCH:
            yield from _with_captured(shop, batch)
            batch = []
    if batch:
        yield from _with_captured(shop, batch)


def _with_captured(shop: Workshop, batch: Sequence[Row]) -> Iterator[Exam]:
    """A truth that has come since the dataset was built goes before the row's own."""
    ids = [row.exchange_id for row in batch]
    known = exchanges.c
    columns = (known.id, known.cost_usd, known.duration_ms, known.key_id, known.redactions)
    with shop.store.read() as connection:
        true = truths(connection, ids)
        found = {row.id: row for row in connection.execute(select(*columns).where(known.id.in_(ids)))}
    for row in batch:
        captured = found.get(row.exchange_id)
        yield Exam(
            row=row,
            teacher=Answer(message=row.target),
            truth=true.get(row.exchange_id, row.truth),
            cost_usd=captured.cost_usd if captured else None,
            duration_ms=captured.duration_ms if captured else None,
            key_id=captured.key_id if captured else None,
            redacted=captured.redactions > 0 if captured else None,
        )
