"""Owns what pages and commands show of fine-tunes: their state, how far they are, and what they said on the way."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from capture.db import Store
from capture.errors import NotFoundError
from students.tables import fine_tune_events, fine_tunes

MOST_EVENTS = 2_000


@dataclass(frozen=True)
class FineTune:
    """One row of fine_tunes; `progress` is what the trainer said last."""

    id: str
    task: str
    dataset_id: str | None
    base: str
    trainer: str
    settings: dict[str, Any]
    state: str
    cancel_asked: bool
    progress: dict[str, Any]
    error: str | None
    student_id: str | None
    trained_tokens: int | None
    cost_usd: float | None
    key_id: str | None
    asked: dict[str, Any] | None
    created_at: float
    started_at: float | None
    ended_at: float | None
    erased: int = 0  # rows that it may have learnt from, erased since

    @property
    def moving(self) -> bool:
        return self.state in ("queued", "running")


@dataclass(frozen=True)
class Event:
    at: float
    level: str
    message: str
    data: dict[str, Any]


def list_fine_tunes(store: Store, task: str | None = None, limit: int = 50) -> list[FineTune]:
    """Newest first; of one task or of all."""
    query = select(fine_tunes).order_by(fine_tunes.c.created_at.desc(), fine_tunes.c.id.desc()).limit(limit)
    if task is not None:
        query = query.where(fine_tunes.c.task == task)
    with store.read() as connection:
        return [FineTune(**row._mapping) for row in connection.execute(query)]


def load_fine_tune(store: Store, fine_tune_id: str) -> FineTune:
    """Raises NotFoundError."""
    with store.read() as connection:
        row = connection.execute(select(fine_tunes).where(fine_tunes.c.id == fine_tune_id)).one_or_none()
    if row is None:
        raise NotFoundError(f"no fine-tune {fine_tune_id!r}; the page Students lists them")
    return FineTune(**row._mapping)


def events_of(store: Store, fine_tune_id: str, limit: int = MOST_EVENTS) -> list[Event]:
    """The last `limit` events, oldest first."""
    columns = (fine_tune_events.c.at, fine_tune_events.c.level, fine_tune_events.c.message, fine_tune_events.c.data)
    newest = select(*columns).where(fine_tune_events.c.fine_tune_id == fine_tune_id)
    with store.read() as connection:
        found = connection.execute(newest.order_by(fine_tune_events.c.id.desc()).limit(limit)).all()
    return [Event(*row) for row in reversed(found)]


def losses(events: list[Event]) -> list[tuple[int, float]]:
    """(step, loss) of the events that carry both."""
    measured = [(event.data.get("step"), event.data.get("loss")) for event in events]
    return [(int(step), float(loss)) for step, loss in measured if step is not None and loss is not None]
