"""Steers a rollout by a person's will: pause, resume, promote, abort; each is one transaction with its verdict."""

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Row, select, update

from capture.db import Store
from capture.errors import NotFoundError, RefusedError
from capture.settings import RolloutSettings
from students.rate import carried
from students.registry import LIVE_STATES, server_of
from students.rollouts import (
    NEEDS_PERSON,
    WAITS_FOR_PERSON,
    Clock,
    Rollout,
    load_rollout,
    supersede,
    traffic_per_s,
    write_verdict,
)
from students.sentences import capacity, stage_name
from students.tables import rollouts

STAGE_ANEW = -1
"""In place of a standing's stage: the controller begins the counts of the rollout's stage anew."""


def pause(store: Store, rollout_id: str, who: str, clock: Clock, reason: str = "") -> Rollout:
    """Keep the share as it is: evidence goes on, harm still rolls back, nothing advances."""
    return _act(store, rollout_id, ("pause", ("running",), lambda _row: {"state": "paused"}), (who, reason), clock)


def resume(store: Store, rollout_id: str, who: str, clock: Clock, seen: int | None = None, reason: str = "") -> Rollout:
    """Let a paused rollout go on.

    One that paused by itself, undecided, gets its stage's whole bound again. One that waited for a person before the
    next stage may enter it now, as soon as (and only while) its proof stands. `seen`: as for `promote`.
    """

    def changes(row: Row[Any]) -> dict[str, Any]:
        if row.reason == NEEDS_PERSON:
            return {"state": "running", "stage_at": clock(), "evidence": {**row.evidence, "stage": STAGE_ANEW}}
        if row.reason == WAITS_FOR_PERSON:
            return {"state": "running", "evidence": {**row.evidence, "agreed": row.stage}}
        return {"state": "running"}

    return _act(store, rollout_id, ("resume", ("paused",), changes), (who, reason), clock, seen)


def abort(store: Store, rollout_id: str, who: str, reason: str, clock: Clock) -> Rollout:
    """End a rollout at any stage: all its traffic goes back at once."""
    changes = {"state": "aborted", "share": 0.0, "ended_at": clock()}
    return _act(store, rollout_id, ("abort", LIVE_STATES, lambda _row: changes), (who, reason), clock)


def promote(store: Store, rollout_id: str, who: str, reason: str, clock: Clock, seen: int | None = None) -> Rollout:
    """Move a rollout on by one stage, by a person's will instead of by proof.

    `seen`: the stage that the person decided on. Raises RefusedError without a reason, where somebody else, or a
    verdict, has moved it from there meanwhile, and for a share beyond the student's measured capacity: all that it
    cannot carry would reach the teacher late. A dry run gets no share of the traffic by it.
    """
    if not reason.strip():
        raise RefusedError("promoting by hand needs a reason")
    carries = capacity_share(store, load_rollout(store, rollout_id))

    def changes(row: Row[Any]) -> dict[str, Any]:
        shares = RolloutSettings.model_validate(row.policy).shares
        if row.stage >= len(shares):
            raise RefusedError(f"rollout {rollout_id} is at its last stage")
        stage = row.stage + 1
        full = stage == len(shares) and not row.dry_run
        share = 0.0 if row.dry_run else shares[stage - 1]
        _check_capacity(share, carries)
        return {"stage": stage, "share": share, "stage_at": clock(), "state": "full" if full else "running"}

    return _act(store, rollout_id, ("promote", ("running", "paused"), changes), (who, reason), clock, seen)


def capacity_share(store: Store, rollout: Rollout) -> float | None:
    """The part of the task's traffic that the rollout's student can carry; None and 0: as for students.rate.carried."""
    server = server_of(store, rollout.student_id)
    with store.read() as connection:
        rate_per_s = traffic_per_s(connection, rollout.task)
    return carried(server.capacity_per_s if server else None, rate_per_s)


def _check_capacity(share: float, carries: float | None) -> None:
    if carries is None or share <= carries:
        return
    mend = "; serve it on a larger machine, or start a rollout whose shares end lower" if carries else ""
    raise RefusedError(f"cannot promote to {stage_name(share)}: {capacity(share, carries)}{mend}")


Changes = Callable[[Row[Any]], dict[str, Any]]
"""The rollout's row, locked → the columns that an action sets."""


def _act(
    store: Store,
    rollout_id: str,
    action: tuple[str, Sequence[str], Changes],
    by: tuple[str, str],
    clock: Clock,
    seen: int | None = None,
) -> Rollout:
    """One change by a person, in one transaction with its row in verdicts; only from the states that allow it."""
    kind, states, changes_of = action
    who, reason = by
    now = clock()
    with store.write() as connection:
        row = connection.execute(select(rollouts).where(rollouts.c.id == rollout_id).with_for_update()).one_or_none()
        if row is None:
            raise NotFoundError(f"no rollout {rollout_id!r}; `stillhouse rollouts status` shows them")
        if row.state not in states:
            raise RefusedError(f"cannot {kind} rollout {rollout_id}: it is {row.state} at stage {row.stage}")
        if seen is not None and row.stage != seen:
            raise RefusedError(
                f"rollout {rollout_id} has moved to stage {row.stage} since you looked at it; look again"
            )
        changes = changes_of(row)
        note = reason or f"{kind} by {who}"
        connection.execute(update(rollouts).where(rollouts.c.id == rollout_id).values(**changes, reason=note))
        if changes.get("state") == "full":
            supersede(connection, row.task, rollout_id, now)
        after = changes.get("stage", row.stage), changes.get("share", row.share)
        sentence = f"{who}: {kind}" + (f", because {reason}" if reason else "")
        write_verdict(connection, rollout_id, (kind, *after), sentence, who, now)
    return load_rollout(store, rollout_id)
