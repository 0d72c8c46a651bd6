"""Owns the rows of rollouts and verdicts: what they hold, how they are read, and how an incumbent gives way."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, select, update

from capture.db import Store
from capture.errors import NotFoundError
from capture.ids import new_id
from capture.settings import RolloutSettings
from students.rate import rate_of
from students.registry import LIVE_STATES
from students.tables import rollouts, verdicts

Clock = Callable[[], float]

NEEDS_PERSON, WAITS_FOR_PERSON = "needs_person", "waits_for_person"
"""Reasons of a hold that pauses a rollout until a person resumes, promotes or aborts it."""


@dataclass(frozen=True)
class Rollout:
    """One row of rollouts. `evidence` is students.standing's state; `share` is what gateways route by."""

    id: str
    task: str
    student_id: str
    state: str
    stage: int
    share: float
    policy: RolloutSettings
    evidence: dict[str, Any]
    reason: str | None
    dry_run: bool
    created_at: float
    stage_at: float
    ended_at: float | None


@dataclass(frozen=True)
class VerdictRow:
    """One row of verdicts: what was decided or done, by whom, and the share after it."""

    id: str
    rollout_id: str
    at: float
    kind: str
    stage: int
    share: float
    reason: str
    sentence: str
    numbers: dict[str, Any]
    who: str


def load_rollout(store: Store, rollout_id: str) -> Rollout:
    """Raises NotFoundError."""
    with store.read() as connection:
        row = connection.execute(select(rollouts).where(rollouts.c.id == rollout_id)).one_or_none()
    if row is None:
        raise NotFoundError(f"no rollout {rollout_id!r}; `stillhouse rollouts status` shows them")
    return rollout_of(row)


def list_rollouts(store: Store, task: str | None = None, limit: int = 50) -> list[Rollout]:
    """Newest first; of one task or of all."""
    query = select(rollouts).order_by(rollouts.c.created_at.desc(), rollouts.c.id.desc()).limit(limit)
    if task is not None:
        query = query.where(rollouts.c.task == task)
    with store.read() as connection:
        return [rollout_of(row) for row in connection.execute(query)]


def list_verdicts(store: Store, rollout_id: str, limit: int = 100) -> list[VerdictRow]:
    """The last `limit` of a rollout's verdicts, oldest first."""
    query = select(verdicts).where(verdicts.c.rollout_id == rollout_id).order_by(verdicts.c.id.desc()).limit(limit)
    with store.read() as connection:
        return [VerdictRow(**row._mapping) for row in connection.execute(query)][::-1]


def traffic_per_s(connection: Connection, task: str, beside: str = "") -> float | None:
    """A task's eligible requests a second, as its live rollouts (but `beside`) have seen it; None: none of them has.

    While a student is in shadow beside an incumbent, it is the incumbent's marks that tell.
    """
    live = (rollouts.c.task == task) & rollouts.c.state.in_(LIVE_STATES) & (rollouts.c.id != beside)
    found = [
        rate_of(evidence).per_s for evidence in connection.execute(select(rollouts.c.evidence).where(live)).scalars()
    ]
    return max((rate for rate in found if rate is not None), default=None)


def paired_at(rollout: Rollout, stage: int) -> float:
    """The part of the traffic that is paired at a stage: a factor of each pair's probability, common to all."""
    policy = rollout.policy
    return policy.watch_share if stage == len(policy.shares) and not rollout.dry_run else policy.pair_share


def rollout_of(row: Row[Any]) -> Rollout:
    values = dict(row._mapping)
    del values["fence"]
    values["policy"] = RolloutSettings.model_validate(values["policy"])
    return Rollout(**values)


def supersede(connection: Connection, task: str, winner: str, now: float) -> None:
    """The incumbent's share is the new student's now; its rollout ends."""
    others = (rollouts.c.task == task) & (rollouts.c.state == "full") & (rollouts.c.id != winner)
    values = {"state": "superseded", "share": 0.0, "ended_at": now, "reason": f"superseded by {winner}"}
    connection.execute(update(rollouts).where(others).values(values))


def write_verdict(
    connection: Connection, rollout_id: str, verdict: tuple[str, int, float], sentence: str, who: str, now: float
) -> None:
    """What a person did, as (kind, stage and share after it), in the transaction that does it."""
    kind, stage, share = verdict
    values = {"id": new_id(), "rollout_id": rollout_id, "at": now, "kind": kind, "stage": stage, "share": share}
    connection.execute(verdicts.insert().values(**values, reason=kind, sentence=sentence, numbers={}, who=who))
