"""Named queries over exchanges: lists by keyset paging, one exchange whole, volumes."""

from collections.abc import Sequence
from typing import Any, Literal, TypeVar

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, Select, and_, func, or_, select

from capture import full_text
from capture.bodies import unpack_answer, unpack_request
from capture.db import Store
from capture.errors import NotFoundError
from capture.exchange import Answer
from capture.loading import load_bodies as load_bodies
from capture.tables import bodies, exchanges, feedback, reviews, scores

Json = dict[str, Any]
Shape = TypeVar("Shape", bound=msgspec.Struct)

COUNT_CAP = 10_000


class TrafficFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which exchanges: every given part must hold. `task` "" means those of no task; times are Unix seconds.

    Raises ValueError for a part that would narrow nothing, though somebody meant it to.
    """

    task: str | None = None
    arm: str | None = None
    key_id: str | None = None
    session: str | None = None
    user: str | None = None
    student: str | None = None
    rollout: str | None = None
    fingerprint: str | None = None
    label: str | None = None
    failed: bool | None = None  # status of 400 and above, or broken off
    since: float | None = None
    until: float | None = None
    text: str | None = None  # words, all in the redacted question or answer, case ignored; the last may be a beginning
    metadata: dict[str, str] = {}
    model: str | None = None  # as asked for, or as answered
    review: Literal["none", "any", "accept", "reject", "correct"] | None = None  # by the newest one
    feedback: Literal["none", "any", "truth", "score", "comment", "correction"] | None = None
    grader: str | None = None  # with a score by this grader,
    score_from: float | None = None  # at least this,
    score_to: float | None = None  # and at most this

    def __post_init__(self) -> None:
        if self.grader is None and (self.score_from is not None or self.score_to is not None):
            raise ValueError("score_from and score_to need a grader: whose score is it?")
        if self.text is not None and not self.text.strip():
            raise ValueError("text is empty: it would let everything through")


class ExchangeRow(msgspec.Struct, frozen=True, kw_only=True):
    """An exchange as lists show it; the columns of `exchanges`."""

    id: str
    started_at: float
    route: str
    task: str | None
    key_id: str | None
    session: str | None
    user: str | None
    fingerprint: str | None
    rollout: str | None
    student: str | None
    assignment: str | None
    arm: str
    reason: str | None
    upstream: str
    model: str
    served_model: str
    status: int
    stream: bool
    stored: bool
    complete: bool
    cause: str | None
    first_ms: float | None
    duration_ms: float
    completion_id: str | None
    finish_reason: str | None
    input_tokens: int | None
    output_tokens: int | None
    tokens_estimated: bool
    cost_usd: float | None
    metadata: Json
    probability: float
    holdout: bool
    conversation: str
    content_hash: str
    label: str | None
    redactions: int
    preview: str


class ScoreRow(msgspec.Struct, frozen=True):
    grader: str
    version: str
    value: float
    scored_at: float


class FeedbackRow(msgspec.Struct, frozen=True):
    id: str
    kind: str
    name: str
    value: Any
    created_at: float


class ReviewRow(msgspec.Struct, frozen=True):
    id: str
    verdict: str
    output: str | None
    reviewer: str
    reviewed_at: float


class StoredExchange(msgspec.Struct, frozen=True):
    """An exchange whole. `request` and `answer` are redacted; the lists are oldest first."""

    row: ExchangeRow
    request: Json
    answer: Answer
    scores: list[ScoreRow]
    feedback: list[FeedbackRow]
    reviews: list[ReviewRow]


class Volume(msgspec.Struct, frozen=True):
    """A task's exchanges and spend; `task` None: those of no task. `cost_usd` None where no price is known."""

    task: str | None
    exchanges: int
    cost_usd: float | None
    arms: dict[str, int]


_ROW = [exchanges.c[name] for name in ExchangeRow.__struct_fields__]


def list_exchanges(
    store: Store, wanted: TrafficFilter, before_id: str | None = None, limit: int = 50
) -> list[ExchangeRow]:
    """The newest exchanges that match, before `before_id`: pass the last one's id to read on."""
    with store.read() as connection:
        query = _filtered(connection, select(*_ROW), wanted, before_id).limit(limit)
        return [_row(row) for row in connection.execute(query)]


def ids_of(store: Store, wanted: TrafficFilter, before_id: str | None = None, limit: int = 50) -> list[str]:
    """As `list_exchanges`, of their ids alone."""
    with store.read() as connection:
        query = _filtered(connection, select(exchanges.c.id), wanted, before_id).limit(limit)
        return list(connection.scalars(query))


def end_of(store: Store, wanted: TrafficFilter) -> float | None:
    """A time just after the newest exchange that matches had begun; None where none does."""
    newest = ids_of(store, wanted, limit=1)
    return (int(newest[0][:12], 16) + 1.5) / 1000 if newest else None


def count_exchanges(store: Store, wanted: TrafficFilter) -> int:
    """How many match, at most `COUNT_CAP` + 1: beyond the cap, say so."""
    with store.read() as connection:
        few = _filtered(connection, select(exchanges.c.id), wanted).limit(COUNT_CAP + 1).subquery()
        return connection.execute(select(func.count()).select_from(few)).scalar_one()


def load_exchange(store: Store, exchange_id: str) -> StoredExchange:
    """One exchange whole, by its id or its completion's. Raises NotFoundError."""
    known = resolve_id(store, exchange_id)
    if known is None:
        raise NotFoundError(f"no exchange {exchange_id}: not captured, not shipped yet, or erased")
    with store.read() as connection:
        row = connection.execute(select(*_ROW).where(exchanges.c.id == known)).one()
        stored = connection.execute(select(bodies).where(bodies.c.exchange_id == known)).one_or_none()
        return StoredExchange(
            row=_row(row),
            request=unpack_request(stored.request) if stored else {},
            answer=unpack_answer(stored.answer) if stored else Answer(message={}),
            scores=_structs(connection.execute(_of(scores, ScoreRow, known, "scored_at")).all(), ScoreRow),
            feedback=_structs(connection.execute(_of(feedback, FeedbackRow, known, "created_at")).all(), FeedbackRow),
            reviews=_structs(connection.execute(_of(reviews, ReviewRow, known, "reviewed_at")).all(), ReviewRow),
        )


def resolve_id(store: Store, exchange_id: str) -> str | None:
    """Our id for an id of ours or of the completion (the newest, should a provider repeat them); None for neither."""
    same = or_(exchanges.c.id == exchange_id, exchanges.c.completion_id == exchange_id)
    with store.read() as connection:
        ids = connection.execute(select(exchanges.c.id).where(same).order_by(exchanges.c.id)).scalars().all()
    return exchange_id if exchange_id in ids else ids[-1] if ids else None


def volumes(store: Store, since: float | None = None) -> list[Volume]:
    """Per task (those of no task last): exchanges by arm, and spend, since a time (Unix seconds) or ever."""
    query = select(
        exchanges.c.task, exchanges.c.arm, func.count().label("many"), func.sum(exchanges.c.cost_usd).label("cost")
    )
    if since is not None:
        query = query.where(exchanges.c.id >= id_at(since))
    with store.read() as connection:
        rows = connection.execute(query.group_by(exchanges.c.task, exchanges.c.arm)).all()
    by_task: dict[str | None, list[Row[Any]]] = {}
    for row in rows:
        by_task.setdefault(row.task, []).append(row)
    return [_volume(task, by_task[task]) for task in sorted(by_task, key=lambda task: (task is None, task or ""))]


def id_at(time_s: float) -> str:
    """The smallest id that an exchange begun at that time may have: ids begin with the milliseconds (UUIDv7)."""
    return f"{max(0, int(time_s * 1000)):012x}"


def _volume(task: str | None, rows: Sequence[Row[Any]]) -> Volume:
    costs = [row.cost for row in rows if row.cost is not None]
    arms = {row.arm: row.many for row in sorted(rows, key=lambda row: row.arm)}
    return Volume(task, sum(arms.values()), sum(costs) if costs else None, arms)


def _filtered(
    connection: Connection, query: Select[Any], wanted: TrafficFilter, before_id: str | None = None
) -> Select[Any]:
    """`query` over exchanges, narrowed, newest first."""
    query = query.where(*_conditions(wanted))
    if wanted.text is not None:
        return full_text.matching(connection, query, exchanges.c.id, _search(wanted, before_id))
    query = query.order_by(exchanges.c.id.desc())
    return query if before_id is None else query.where(exchanges.c.id < before_id)


def _search(wanted: TrafficFilter, before_id: str | None) -> full_text.Search:
    given = {name: getattr(wanted, name) for name in full_text.MARKED}
    return full_text.Search(
        wanted.text or "",
        marks={name: value for name, value in given.items() if value is not None},
        metadata=wanted.metadata,
        model=wanted.model,
        failed=wanted.failed,
        since=wanted.since,
        until=wanted.until,
        before_id=before_id,
    )


def _conditions(wanted: TrafficFilter) -> list[ColumnElement[bool]]:
    columns = exchanges.c
    found: list[ColumnElement[bool]] = []
    for name in ("arm", "key_id", "session", "user", "student", "rollout", "fingerprint", "label"):
        value = getattr(wanted, name)
        if value is not None:
            found.append(columns[name] == value)
    if wanted.task is not None:
        found.append(columns.task == wanted.task if wanted.task else columns.task.is_(None))
    if wanted.failed is not None:
        failed = or_(columns.status >= 400, columns.complete.is_(False))
        found.append(failed if wanted.failed else ~failed)
    if wanted.since is not None:
        found.append(columns.id >= id_at(wanted.since))
    if wanted.until is not None:
        found.append(columns.id < id_at(wanted.until))
    found += [columns.metadata[name].as_string() == value for name, value in wanted.metadata.items()]
    if wanted.model is not None:
        found.append(or_(columns.model == wanted.model, columns.served_model == wanted.model))
    return found + _said(wanted)


def _said(wanted: TrafficFilter) -> list[ColumnElement[bool]]:
    """Conditions on what people, apps and graders said of an exchange."""
    found: list[ColumnElement[bool]] = []
    if wanted.review is not None:
        found.append(_reviewed(wanted.review))
    if wanted.feedback is not None:
        given = select(feedback.c.id).where(feedback.c.exchange_id == exchanges.c.id)
        if wanted.feedback not in ("none", "any"):
            given = given.where(feedback.c.kind == wanted.feedback)
        found.append(~given.exists() if wanted.feedback == "none" else given.exists())
    if wanted.grader is not None:
        scored = select(scores.c.value).where(scores.c.exchange_id == exchanges.c.id, scores.c.grader == wanted.grader)
        if wanted.score_from is not None:
            scored = scored.where(scores.c.value >= wanted.score_from)
        if wanted.score_to is not None:
            scored = scored.where(scores.c.value <= wanted.score_to)
        found.append(scored.exists())
    return found


def _reviewed(verdict: str) -> ColumnElement[bool]:
    if verdict == "none":
        return ~select(reviews.c.id).where(reviews.c.exchange_id == exchanges.c.id).exists()
    if verdict == "any":
        return exchanges.c.id.in_(select(reviews.c.exchange_id))
    later = reviews.alias()
    newer = or_(
        later.c.reviewed_at > reviews.c.reviewed_at,
        and_(later.c.reviewed_at == reviews.c.reviewed_at, later.c.id > reviews.c.id),
    )
    overruled = select(later.c.id).where(later.c.exchange_id == reviews.c.exchange_id, newer).exists()
    return exchanges.c.id.in_(select(reviews.c.exchange_id).where(reviews.c.verdict == verdict, ~overruled))


def _of(table: Any, shape: type[msgspec.Struct], exchange_id: str, order: str) -> Select[Any]:
    columns = [table.c[name] for name in shape.__struct_fields__]
    return select(*columns).where(table.c.exchange_id == exchange_id).order_by(table.c[order])


def _structs(rows: Sequence[Row[Any]], shape: type[Shape]) -> list[Shape]:
    return [shape(*row) for row in rows]


def _row(row: Row[Any]) -> ExchangeRow:
    return ExchangeRow(**row._mapping)
