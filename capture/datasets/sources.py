"""What a build reads: candidates in batches by key, and what has been said of each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from sqlalchemy import Connection, or_, select

from capture import feedback, reviews
from capture.bodies import unpack_answer, unpack_request
from capture.datasets.filters import Candidate, Known
from capture.db import Store
from capture.exchange import Answer
from capture.loading import CHUNK, is_large, stream_bodies
from capture.tables import dataset_rows, datasets, exchanges, scores
from capture.tables import feedback as feedback_table
from capture.tables import reviews as reviews_table

BATCH = 500

_COLUMNS = tuple(exchanges.c[column.name] for column in fields(Candidate))


@dataclass(frozen=True, slots=True)
class Found:
    """A candidate, what is known of it, and its bodies (None: gone, or not asked for)."""

    candidate: Candidate
    known: Known
    bodies: tuple[dict[str, Any], Answer] | None = None
    trouble: str = "erased"  # why there are no bodies


def candidates(store: Store, task: str, until: float, *, holdout: bool) -> Iterator[list[Candidate]]:
    """The task's exchanges of one side, by id, begun at or before `until` (Unix seconds)."""
    after = ""
    chosen = select(*_COLUMNS).where(exchanges.c.task == task, exchanges.c.holdout.is_(holdout))
    chosen = chosen.where(exchanges.c.started_at <= until).order_by(exchanges.c.id).limit(BATCH)
    while True:
        with store.read() as connection:
            batch = [Candidate(*row) for row in connection.execute(chosen.where(exchanges.c.id > after))]
        if not batch:
            return
        yield batch
        after = batch[-1].id


def corrected(store: Store, task: str, until: float) -> Iterator[list[Candidate]]:
    """The task's exchanges outside the holdout that a review or feedback corrects, by id."""
    by_review = select(reviews_table.c.exchange_id).where(reviews_table.c.verdict == "correct")
    by_feedback = select(feedback_table.c.exchange_id).where(feedback_table.c.kind == "correction")
    own = (exchanges.c.task == task, exchanges.c.holdout.is_(False), exchanges.c.started_at <= until)
    named = or_(exchanges.c.id.in_(by_review), exchanges.c.id.in_(by_feedback))
    with store.read() as connection:
        ids = list(connection.scalars(select(exchanges.c.id).where(*own, named).order_by(exchanges.c.id)))
    for start in range(0, len(ids), BATCH):
        with store.read() as connection:
            yield by_id(connection, ids[start : start + BATCH])


def by_id(connection: Connection, ids: Sequence[str]) -> list[Candidate]:
    chosen = select(*_COLUMNS).where(exchanges.c.id.in_(ids)).order_by(exchanges.c.id)
    return [Candidate(*row) for row in connection.execute(chosen)]


def known_of(connection: Connection, batch: Sequence[Candidate]) -> list[Found]:
    """What has been said of each candidate, by people, outcomes and graders."""
    ids = [candidate.id for candidate in batch]
    reviewed, truths = reviews.latest(connection, ids), feedback.truths(connection, ids)
    corrections = feedback.corrections(connection, ids)
    scored: dict[str, dict[str, float]] = {}
    for row in connection.execute(select(scores).where(scores.c.exchange_id.in_(ids))):
        scored.setdefault(row.exchange_id, {})[row.grader] = row.value
    return [
        Found(one, Known(reviewed.get(one.id), corrections.get(one.id), truths.get(one.id), scored.get(one.id, {})))
        for one in batch
    ]


def with_bodies(connection: Connection, batch: Sequence[Found]) -> Iterator[Found]:
    """The batch, by id, each with its bodies, one in memory at a time; those that have none any more at the end."""
    waiting = {found.candidate.id: found for found in batch}
    for start in range(0, len(batch), CHUNK):
        ids = [found.candidate.id for found in batch[start : start + CHUNK]]
        for exchange_id, request, answer in sorted(stream_bodies(connection, ids)):
            found = waiting.pop(exchange_id)
            if is_large(request) or is_large(answer):
                yield replace(found, trouble="too_large")
            else:
                yield replace(found, bodies=(unpack_request(request), unpack_answer(answer)))
    yield from waiting.values()


def once_held_out(store: Store, task: str) -> Iterator[list[bytes]]:
    """The rows of the holdouts of the task's earlier datasets, each exchange's once, in batches."""
    chosen = select(dataset_rows.c.exchange_id, dataset_rows.c.row).join(datasets)
    chosen = chosen.where(datasets.c.task == task, datasets.c.state == "ready", dataset_rows.c.split == "holdout")
    after = ""
    while True:
        with store.read() as connection:
            later = chosen.where(dataset_rows.c.exchange_id > after).order_by(dataset_rows.c.exchange_id).limit(BATCH)
            batch = {row.exchange_id: row.row for row in connection.execute(later)}
        if not batch:
            return
        yield [row for row in batch.values() if row]
        after = max(batch)
