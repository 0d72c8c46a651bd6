"""Owns the turns of a task's loop as rows: one under way at a time, each with a record of what happened and who let it.

A turn builds, trains, evaluates, and starts a rollout; what carries it on is students/turning.py.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update
from sqlalchemy.exc import IntegrityError

from capture.db import Store
from capture.errors import NotFoundError, RefusedError
from capture.ids import new_id
from capture.settings import LoopSettings
from students.tables import fine_tunes, loop_turns

Clock = Callable[[], float]

STEPS = ("build", "train", "evaluate", "rollout")
LOOP = "loop"
"""Who acts, where no person does."""


@dataclass(frozen=True)
class Turn:
    """One row of loop_turns. `record`: [{"at", "who", "text"}], oldest first; `outcome` is None until it has ended."""

    id: str
    task: str
    state: str
    step: str
    approved: tuple[str, ...]
    settings: LoopSettings
    since: float
    until: float
    rows: int
    dataset_id: str | None
    fine_tune_id: str | None
    student_id: str | None
    incumbent_id: str | None
    evaluation_id: str | None
    rollout_id: str | None
    record: list[dict[str, Any]]
    outcome: str | None
    who: str
    created_at: float
    ended_at: float | None

    @property
    def moving(self) -> bool:
        return self.ended_at is None

    def named(self, prefix: str) -> str:
        """The id of what this turn makes: the same however often a step is repeated."""
        return prefix + self.id.removeprefix("turn_")


@dataclass(frozen=True)
class Fresh:
    """The new accepted rows that a turn is about: captured after `since` and until `until`, Unix seconds."""

    since: float
    until: float
    rows: int


def begin(store: Store, task: str, settings: LoopSettings, fresh: Fresh, by: tuple[str, Clock]) -> Turn:
    """A new turn at its first step; `by`: who begins it. Raises RefusedError while another of the task is under way."""
    who, clock = by
    now = clock()
    text = f"{fresh.rows} new accepted rows" if who == LOOP else f"begun by hand, with {fresh.rows} new accepted rows"
    row = {
        "id": new_id("turn_"),
        "task": task,
        "state": "running",
        "step": STEPS[0],
        "approved": [],
        "settings": settings.model_dump(mode="json"),
        "since": fresh.since,
        "until": fresh.until,
        "rows": fresh.rows,
        "record": [{"at": now, "who": who, "text": text}],
        "who": who,
        "created_at": now,
    }
    try:
        with store.write() as connection:
            connection.execute(insert(loop_turns).values(row))
    except IntegrityError as error:
        raise RefusedError(f"task {task} has a turn under way; `stillhouse loop show {task}` shows it") from error
    return load_turn(store, str(row["id"]))


def load_turn(store: Store, turn_id: str) -> Turn:
    """Raises NotFoundError."""
    with store.read() as connection:
        row = connection.execute(select(loop_turns).where(loop_turns.c.id == turn_id)).one_or_none()
    if row is None:
        raise NotFoundError(f"no turn {turn_id!r}; `stillhouse loop show TASK` lists them")
    return _turn(row)


def list_turns(store: Store, task: str | None = None, limit: int = 50) -> list[Turn]:
    """Newest first; of one task or of all."""
    query = select(loop_turns).order_by(loop_turns.c.created_at.desc(), loop_turns.c.id.desc()).limit(limit)
    if task is not None:
        query = query.where(loop_turns.c.task == task)
    with store.read() as connection:
        return [_turn(row) for row in connection.execute(query)]


def moving_turns(store: Store) -> list[Turn]:
    """Those that have not ended, at most one a task."""
    with store.read() as connection:
        return [_turn(row) for row in connection.execute(select(loop_turns).where(loop_turns.c.ended_at.is_(None)))]


def approve(store: Store, turn_id: str, who: str, clock: Clock) -> Turn:
    """A person lets a waiting turn enter the step that it waits before. Raises RefusedError when it does not wait."""
    with store.write() as connection:
        turn = _locked(connection, turn_id)
        if turn.state != "waiting":
            raise RefusedError(f"turn {turn_id} is {turn.state} at {turn.step}: there is nothing to approve")
        changes = {"state": "running", "approved": [*turn.approved, turn.step]}
        change(connection, turn, changes, (who, f"let it {turn.step}"), clock)
    return load_turn(store, turn_id)


def stop(store: Store, turn_id: str, who: str, reason: str, clock: Clock) -> Turn:
    """A person ends a turn, and with it a fine-tune that is under way; a rollout that it started goes on."""
    with store.write() as connection:
        turn = _locked(connection, turn_id)
        if not turn.moving:
            raise RefusedError(f"turn {turn_id} has ended: {turn.outcome}")
        going = (fine_tunes.c.id == turn.fine_tune_id) & fine_tunes.c.state.in_(("queued", "running"))
        connection.execute(update(fine_tunes).where(going).values(cancel_asked=True))
        text = f"stopped at {turn.step}" + (f": {reason}" if reason else "")
        change(connection, turn, _end("stopped", f"{who} {text}", clock), (who, text), clock)
    return load_turn(store, turn_id)


def go_on(store: Store, turn: Turn, changes: dict[str, Any], text: str, clock: Clock) -> bool:
    """One change by the loop, with its line in the record; False when somebody else has changed the turn since."""
    with store.write() as connection:
        return change(connection, turn, changes, (LOOP, text), clock)


def end(store: Store, turn: Turn, state: str, outcome: str, clock: Clock) -> bool:
    """The turn's end by the loop: rolled_out, ended (there is nothing to roll out) or failed."""
    return go_on(store, turn, _end(state, outcome, clock), outcome, clock)


def change(connection: Connection, turn: Turn, changes: dict[str, Any], said: tuple[str, str], clock: Clock) -> bool:
    """Only from the state and step that `turn` was read in: of two that carry it on at once, one wins."""
    who, text = said
    record = [*turn.record, {"at": clock(), "who": who, "text": text}]
    own = loop_turns.c
    same = (own.id == turn.id) & (own.state == turn.state) & (own.step == turn.step) & own.ended_at.is_(None)
    return bool(connection.execute(update(loop_turns).where(same).values(**changes, record=record)).rowcount)


def _end(state: str, outcome: str, clock: Clock) -> dict[str, Any]:
    return {"state": state, "outcome": outcome, "ended_at": clock()}


def _locked(connection: Connection, turn_id: str) -> Turn:
    row = connection.execute(select(loop_turns).where(loop_turns.c.id == turn_id).with_for_update()).one_or_none()
    if row is None:
        raise NotFoundError(f"no turn {turn_id!r}; `stillhouse loop show TASK` lists them")
    return _turn(row)


def _turn(row: Row[Any]) -> Turn:
    values = dict(row._mapping)
    values["approved"] = tuple(values["approved"])
    values["settings"] = LoopSettings.model_validate(values["settings"])
    return Turn(**values)
