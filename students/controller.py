"""Owns the controller: under a lease, it feeds new evidence to every live rollout and carries out the verdict, once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection, Row, delete, select, update

from capture.db import Store
from capture.errors import OperationError
from capture.ids import new_id
from students.holding import Silence, held_back, moves
from students.leases import Lease, acquire, fence, mark_tick
from students.observing import Measure
from students.policy import policy_of
from students.registry import LIVE_STATES
from students.rollouts import NEEDS_PERSON, WAITS_FOR_PERSON, Rollout, paired_at, rollout_of, supersede, traffic_per_s
from students.said import Said, newly_said
from students.standing import Pair, Standing, standing_of
from students.tables import observations, pairs, rollouts, student_servers, students, verdicts
from students.verdicts import Verdict, decide

LEASE = "rollouts"
LEASE_S = 10.0
MOST_PAIRS = 200
MOST_OBSERVATIONS = 100
"""What one turn of one rollout takes in: a tick's cost does not depend on the history."""

RETIRE_AFTER_S = 30.0
"""How long a student is still served after its rollout's end, so that streams under way can finish."""


class MovedError(OperationError):
    """The rollout was changed between the look and the write; the next tick looks again."""


@dataclass(frozen=True)
class Tick:
    """What one tick did. Not leading: another controller holds the lease."""

    leading: bool
    consumed: int = 0
    verdicts: tuple[Verdict, ...] = ()


@dataclass(frozen=True)
class _Look:
    """One rollout and its new evidence, as read before the transaction that consumes it."""

    rollout: Rollout
    pairs: Sequence[Row[Any]]
    observations: Sequence[Row[Any]]
    said: Said
    capacity_per_s: float | None
    beside_per_s: float | None
    last: tuple[str, str, int] | None


def tick(
    store: Store,
    clock: Callable[[], float],
    holder: str,
    obstacles: Mapping[str, str] = MappingProxyType({}),
    unheard: Mapping[str, str] = MappingProxyType({}),
) -> Tick:
    """Take or keep the lease, give every live rollout its turn, and write that the controller ticked.

    `obstacles`: by rollout, why its pairs are off at present; a hold for want of evidence says so. `unheard`: by
    rollout, why one of those that it decides by cannot speak at present: it does not advance meanwhile. A rollout that
    a person changed has its turn at the next tick. Raises StaleLeaseError when another controller leads now: what was
    under way is not written. Any other error stops the tick before its mark, on purpose: gateways that see no tick for
    a minute send everything to the teacher.
    """
    lease = acquire(store, LEASE, holder, clock(), LEASE_S)
    if lease is None:
        return Tick(leading=False)
    consumed, found = 0, []
    for rollout_id in _live(store):
        look = _look(store, rollout_id, clock())
        if look is not None:
            try:
                known = Silence(obstacles.get(rollout_id), unheard.get(rollout_id))
                verdict = _turn(store, look, lease, clock(), known)
            except MovedError:
                continue
            consumed += len(look.pairs)
            found += [verdict] if verdict is not None else []
    with store.write() as connection:
        mark_tick(connection, lease, clock())
        _retire(connection, clock())
    return Tick(leading=True, consumed=consumed, verdicts=tuple(found))


def _live(store: Store) -> list[str]:
    with store.read() as connection:
        query = select(rollouts.c.id).where(rollouts.c.state.in_(LIVE_STATES)).order_by(rollouts.c.created_at)
        return list(connection.execute(query).scalars())


def _look(store: Store, rollout_id: str, now: float) -> _Look | None:
    with store.read() as connection:
        row = connection.execute(select(rollouts).where(rollouts.c.id == rollout_id)).one()
        if row.state not in LIVE_STATES:
            return None
        scored = (pairs.c.rollout_id == rollout_id) & (pairs.c.state == "scored")
        seen = select(observations).where(observations.c.rollout_id == rollout_id).order_by(observations.c.id)
        capacity = select(student_servers.c.capacity_per_s).where(student_servers.c.student_id == row.student_id)
        return _Look(
            rollout=rollout_of(row),
            pairs=connection.execute(select(pairs).where(scored).order_by(pairs.c.id).limit(MOST_PAIRS)).all(),
            observations=connection.execute(seen.limit(MOST_OBSERVATIONS)).all(),
            said=newly_said(connection, rollout_of(row), now),
            capacity_per_s=connection.execute(capacity).scalar(),
            beside_per_s=traffic_per_s(connection, row.task, rollout_id),
            last=_last_decision(connection, rollout_id),
        )


def _last_decision(connection: Connection, rollout_id: str) -> tuple[str, str, int] | None:
    query = select(verdicts.c.kind, verdicts.c.reason, verdicts.c.stage).where(verdicts.c.rollout_id == rollout_id)
    row = connection.execute(query.order_by(verdicts.c.id.desc()).limit(1)).one_or_none()
    return None if row is None else (row.kind, row.reason, row.stage)


def _turn(store: Store, look: _Look, lease: Lease, now: float, silence: Silence) -> Verdict | None:
    """Count the look's evidence, decide, and write it all in one fenced transaction; the verdict if it is news."""
    standing = _counted(look, now)
    rollout = look.rollout
    evidence = standing.evidence(standing.seconds / 3600, look.capacity_per_s, look.beside_per_s)
    verdict = held_back(decide(standing.tally.policy, rollout.stage, evidence), rollout, silence)
    news = (verdict.kind, verdict.reason, verdict.stage) != look.last
    with store.write() as connection:
        fence(connection, lease)
        _consume(connection, look)
        if moves(rollout, silence):
            for fingerprint in standing.take_proven_prompts():
                _prove_prompt(connection, rollout, fingerprint, now)
        _move(connection, look, verdict, (standing, lease, now))
        if news:
            _write(connection, rollout, verdict, now)
    return verdict if news else None


def _counted(look: _Look, now: float) -> Standing:
    rollout = look.rollout
    standing = standing_of(policy_of(rollout.policy, rollout.policy.gates), rollout.evidence)
    if standing.stage != rollout.stage:  # a person moved it, or the last verdict did
        standing.enter(rollout.stage)
    for row in look.pairs:
        kept = row.probability / paired_at(rollout, row.stage)
        standing.add_pair(Pair(row.session, row.differences, row.slices, kept))
    for metric, score in look.said.scores:
        standing.add_score(metric, score)
    standing.said_until = look.said.until
    marks = "".join(row.marks for row in look.observations)
    standing.add_marks(marks, now, [Measure(*found) for row in look.observations for found in row.measures])
    return standing


def _consume(connection: Connection, look: _Look) -> None:
    """Mark the pairs consumed and take the observations away; whoever consumed one of them before stops this turn."""
    if look.pairs:
        ids = [row.id for row in look.pairs]
        mine = (pairs.c.id.in_(ids)) & (pairs.c.state == "scored")
        if connection.execute(update(pairs).where(mine).values(state="consumed")).rowcount != len(ids):
            raise MovedError(f"pairs of rollout {look.rollout.id} were consumed by somebody else")
    if look.observations:
        ids = [row.id for row in look.observations]
        if connection.execute(delete(observations).where(observations.c.id.in_(ids))).rowcount != len(ids):
            raise MovedError(f"observations of rollout {look.rollout.id} were consumed by somebody else")


def _move(connection: Connection, look: _Look, verdict: Verdict, by: tuple[Standing, Lease, float]) -> None:
    standing, lease, now = by
    rollout = look.rollout
    asks = verdict.kind == "hold" and rollout.state == "paused" and rollout.reason in (NEEDS_PERSON, WAITS_FOR_PERSON)
    reason = rollout.reason if asks else verdict.reason  # what was asked decides what resuming means
    values: dict[str, Any] = {"evidence": standing.to_state(), "fence": lease.token, "reason": reason}
    if verdict.kind == "roll_back":
        values |= {"state": "rolled_back", "share": 0.0, "ended_at": now}
    elif verdict.kind == "advance":
        values |= {"stage": verdict.stage, "stage_at": now, "share": 0.0 if rollout.dry_run else verdict.share}
        if verdict.stage == len(rollout.policy.shares) and not rollout.dry_run:
            values["state"] = "full"
            supersede(connection, rollout.task, rollout.id, now)
    elif verdict.reason in (NEEDS_PERSON, WAITS_FOR_PERSON) and rollout.state == "running":
        values["state"] = "paused"  # it asks, and waits for whoever resumes, promotes or aborts it
    unchanged = (
        (rollouts.c.id == rollout.id) & (rollouts.c.state == rollout.state) & (rollouts.c.stage == rollout.stage)
    )
    if connection.execute(update(rollouts).where(unchanged).values(values)).rowcount != 1:
        raise MovedError(f"rollout {rollout.id} was changed by somebody else")


def _prove_prompt(connection: Connection, rollout: Rollout, fingerprint: str, now: float) -> None:
    """From now on the student may answer requests with this prompt version."""
    student = students.c.id == rollout.student_id
    known = connection.execute(select(students.c.fingerprints).where(student).with_for_update()).scalar_one()
    connection.execute(update(students).where(student).values(fingerprints=sorted({*known, fingerprint})))
    sentence = f"The student is proven on prompt version {fingerprint} too, by its own shadow pairs: it may answer it."
    verdict = Verdict("hold", "prompt_proven", sentence, rollout.stage, rollout.share, {"fingerprint": fingerprint})
    _write(connection, rollout, verdict, now)


def _write(connection: Connection, rollout: Rollout, verdict: Verdict, now: float) -> None:
    share = 0.0 if rollout.dry_run else verdict.share
    values = {"id": new_id(), "rollout_id": rollout.id, "at": now, "stage": verdict.stage, "share": share}
    connection.execute(
        verdicts.insert().values(
            **values,
            kind=verdict.kind,
            reason=verdict.reason,
            sentence=verdict.sentence,
            numbers=verdict.numbers,
            who="controller",
        )
    )


def _retire(connection: Connection, now: float) -> None:
    """Stop serving the students of rollouts that ended a while ago, unless somebody asked for them since."""
    live = select(rollouts.c.student_id).where(rollouts.c.state.in_(LIVE_STATES))
    ended = select(rollouts.c.student_id).where(
        rollouts.c.ended_at < now - RETIRE_AFTER_S,
        rollouts.c.student_id == student_servers.c.student_id,
        rollouts.c.ended_at > student_servers.c.wanted_at,
    )
    idle = student_servers.c.wanted_at.is_not(None) & student_servers.c.student_id.not_in(live) & ended.exists()
    connection.execute(update(student_servers).where(idle).values(wanted_at=None))
