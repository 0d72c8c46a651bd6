"""Owns what pages show of a rollout's evidence: what the tests say now, how they came there, the pairs behind."""

from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import func, select

from capture.db import Store
from students.evidence import NonInferiority, Reading
from students.policy import Policy, policy_of
from students.rollouts import Rollout, load_rollout
from students.standing import standing_of
from students.tables import pairs
from students.tally import Evidence, GateEvidence

Gate = GateEvidence

MOST_REPLAYED = 3_000
"""Pairs whose confidence sequence is drawn; a rollout with more shows its first ones and where it stands now."""

POINTS = 300


@dataclass(frozen=True)
class Point:
    """The confidence sequence after so many pairs; differences are student minus teacher, in [-1, 1]."""

    pairs: int
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class PairRow:
    id: str
    exchange_id: str
    at: float
    stage: int
    state: str
    served: bool
    student: float | None
    teacher: float | None
    difference: float | None
    error: str | None


def policy(rollout: Rollout) -> Policy:
    """The policy that was frozen when the rollout started."""
    return policy_of(rollout.policy, rollout.policy.gates)


def evidence_of(rollout: Rollout, now: float) -> Evidence:
    """What the tests said at the controller's last turn, with the time that has passed since."""
    standing = standing_of(policy(rollout), rollout.evidence)
    standing.pass_time(rollout.ended_at or now)
    evidence = standing.evidence(standing.seconds / 3600, None)
    if standing.stage != rollout.stage:  # the controller has not had its turn at this stage yet
        return replace(evidence, pairs_at_stage=0, sessions_at_stage=0, fallback_rate=None)
    return evidence


def trail(store: Store, rollout_id: str, grader: str) -> list[Point]:
    """One gate's confidence sequence over the pairs it has counted, at most POINTS points. Raises NotFoundError."""
    rules = policy(load_rollout(store, rollout_id))
    counted = select(pairs.c.differences).where(pairs.c.rollout_id == rollout_id, pairs.c.state == "consumed")
    with store.read() as connection:
        found = connection.scalars(counted.order_by(pairs.c.id).limit(MOST_REPLAYED)).all()
    differences = [pair[grader] for pair in found if grader in pair]
    test = NonInferiority(rules.margin, rules.alpha)
    every = max(1, len(differences) // POINTS)
    points = []
    for number, difference in enumerate(differences, start=1):
        test.update(difference)
        if number % every == 0 or number == len(differences):
            points.append(_point(test.reading()))
    return points


def _point(reading: Reading) -> Point:
    return Point(pairs=reading.count, mean=reading.mean, low=reading.low, high=reading.high)


def pair_counts(store: Store, rollout_id: str) -> dict[str, int]:
    """How many pairs are in which state."""
    counted = select(pairs.c.state, func.count()).where(pairs.c.rollout_id == rollout_id).group_by(pairs.c.state)
    with store.read() as connection:
        return dict(connection.execute(counted).all())


def worst_pairs(store: Store, rollout_id: str, grader: str, limit: int = 20) -> list[PairRow]:
    """Among the newest thousand pairs those that the student lost by most."""
    newest = select(pairs).where(pairs.c.rollout_id == rollout_id, pairs.c.state.in_(("scored", "consumed")))
    with store.read() as connection:
        found = connection.execute(newest.order_by(pairs.c.id.desc()).limit(1000)).all()
    rows = [_pair_row(row, grader) for row in found]
    lost = [row for row in rows if row.difference is not None and row.difference < 0]
    return sorted(lost, key=lambda row: row.difference or 0.0)[:limit]


def _pair_row(row: Any, grader: str) -> PairRow:
    return PairRow(
        id=row.id,
        exchange_id=row.exchange_id,
        at=row.created_at,
        stage=row.stage,
        state=row.state,
        served=row.served,
        student=row.student_scores.get(grader),
        teacher=row.teacher_scores.get(grader),
        difference=row.differences.get(grader),
        error=row.student_error,
    )
