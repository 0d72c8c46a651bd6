"""Owns what pages show of a rollout's evidence: what the tests say now, how they came there, the pairs behind."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sqlalchemy import func, select

from capture.db import Store
from capture.errors import ConfigError
from capture.graders import graders_of
from capture.tasks import load_tasks
from students.evidence import NonInferiority, Reading
from students.pairs import JUDGING, WAITING
from students.policy import Policy, policy_of
from students.rollouts import Rollout, load_rollout, paired_at
from students.sentences import percent
from students.slices import UNPROVEN
from students.standing import standing_of
from students.steering import capacity_share
from students.tables import pairs
from students.tally import Evidence, GateEvidence, floor_of

Gate = GateEvidence

MOST_REPLAYED = 3_000
"""Pairs whose confidence sequence is drawn; a rollout with more shows its first ones and where it stands now."""

POINTS = 300
MOVING = ("running", "paused")
"""States that may go on to a next stage."""

AT_LAST_STAGE = "It is at its last stage: there is no next step."

NEWEST = 1_000
"""Pairs that averages and lists of the lost ones look back over."""


@dataclass(frozen=True)
class Point:
    """The confidence sequence after so many pairs; differences are student minus teacher, in [-1, 1]."""

    pairs: int
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Sides:
    """What student and teacher scored by one gate, on average over `pairs` pairs, fractions of 1."""

    grader: str
    student: float
    teacher: float
    pairs: int
    asked_twice: bool
    """The gate compares with the teacher: its score is its agreement with itself, the ceiling."""

    @property
    def sentence(self) -> str:
        by = f"By {self.grader} the student scores {percent(self.student)}"
        if self.asked_twice:
            rest = f"asked twice, the teacher agrees with itself by {percent(self.teacher)}, which is the ceiling"
        else:
            rest = f"the teacher {percent(self.teacher)}"
        return f"{by}, {rest} ({self.pairs:,} newest pairs)."


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
    evidence = standing.evidence(standing.seconds / 3600, capacity_per_s=None)
    if standing.stage != rollout.stage:  # the controller has not had its turn at this stage yet
        return replace(evidence, pairs_at_stage=0, sessions_at_stage=0, fallback_rate=None)
    return evidence


def evidence(store: Store, rollout: Rollout, now: float) -> Evidence:
    """All that the next decision looks at: with what the student can carry of the task's traffic."""
    return replace(evidence_of(rollout, now), capacity_share=capacity_share(store, rollout))


def following(rollout: Rollout) -> float | None:
    """The share of the next stage; None where there is none: it is at full or over, or a dry run at its last stage."""
    later = policy(rollout).shares[rollout.stage + 1 :]
    return later[0] if later and rollout.state in MOVING else None


def needs(policy: Policy, evidence: Evidence, following: float) -> list[tuple[bool, str]]:
    """What the step to the share `following` asks for, each in words, and whether it is there."""
    minimums = [
        (evidence.pairs_at_stage, policy.minimum_pairs, "pairs at this stage"),
        (evidence.sessions_at_stage, policy.minimum_sessions, "sessions at this stage"),
        (round(evidence.hours_at_stage, 2), policy.minimum_hours, "hours at this stage"),
    ]
    found = [(have >= least, f"{have:,g} {what}, {least:,g} needed") for have, least, what in minimums if least]
    for gate in evidence.gates:
        proven = bool(gate.reading and gate.reading.proven)
        claim = f"{gate.grader} at most {policy.margin * 100:.3g} points worse than the teacher"
        found.append((proven, f"{claim}: {'proven' if proven else 'not yet proven'} at α {policy.alpha:.2g}"))
    fallbacks, most = evidence.fallback_rate, policy.most_fallbacks
    if fallbacks is not None:
        found.append((fallbacks <= most, f"{percent(fallbacks)} fallbacks, {percent(most)} allowed"))
    return [*found, *_carried(evidence.capacity_share, following)]


def _carried(share: float | None, following: float) -> list[tuple[bool, str]]:
    needed = f"{percent(following)} needed"
    if share is None:
        return []
    if share == 0.0:
        unknown = "how much of the traffic the student can carry: too little seen to say"
        return [(False, f"{unknown}, {needed}")]
    return [(share >= following, f"the student can carry {percent(min(1.0, share))} of the traffic, {needed}")]


def trail(store: Store, rollout_id: str, grader: str) -> list[Point]:
    """One gate's confidence sequence over the pairs it has counted, and last where it stands now.

    Over the first MOST_REPLAYED pairs, at about POINTS points. Raises NotFoundError.
    """
    rollout = load_rollout(store, rollout_id)
    rules, floor = policy(rollout), floor_of(rollout.evidence)
    columns = (pairs.c.differences, pairs.c.probability, pairs.c.stage, pairs.c.slices)
    counted = select(*columns).where(pairs.c.rollout_id == rollout_id, pairs.c.state == "consumed")
    with store.read() as connection:
        found = connection.execute(counted.order_by(pairs.c.id).limit(MOST_REPLAYED)).all()
    scored = [row for row in found if grader in row.differences and UNPROVEN not in row.slices]
    test = NonInferiority(rules.margin, rules.alpha, floor)
    every = max(1, len(scored) // POINTS)
    points = []
    for number, row in enumerate(scored, start=1):
        kept = row.probability / paired_at(rollout, row.stage)
        test.update(row.differences[grader], min(1.0, max(floor, kept)))
        if number % every == 0 or number == len(scored):
            points.append(_point(test.reading()))
    now = _reading(rollout, grader)
    if now is not None and now.count > (points[-1].pairs if points else 0):
        points.append(_point(now))
    return points


def _reading(rollout: Rollout, grader: str) -> Reading | None:
    gates = standing_of(policy(rollout), rollout.evidence).tally.evidence().gates
    return next((gate.reading for gate in gates if gate.grader == grader), None)


def sides(store: Store, rollout: Rollout) -> list[Sides]:
    """What both sides scored by each gate, over the newest pairs that it judged; nothing of a gate without any."""
    newest = select(pairs.c.student_scores, pairs.c.teacher_scores, pairs.c.probability)
    newest = newest.where(pairs.c.rollout_id == rollout.id, pairs.c.state.in_(("scored", "consumed")))
    with store.read() as connection:
        rows = connection.execute(newest.order_by(pairs.c.id.desc()).limit(NEWEST)).all()
    twice = _asking_twice(store, rollout.task)
    found = []
    for gate in rollout.policy.gates:
        both = [row for row in rows if gate in row.student_scores and gate in row.teacher_scores]
        if both:
            scores = [(row.student_scores[gate], row.teacher_scores[gate]) for row in both]
            student, teacher = np.average(scores, axis=0, weights=[1 / row.probability for row in both])
            found.append(Sides(gate, float(student), float(teacher), len(both), gate in twice))
    return found


def _asking_twice(store: Store, name: str) -> set[str]:
    """The task's graders that compare with the teacher; none where it is gone or cannot be graded."""
    task = load_tasks(store).get(name)
    if task is None:
        return set()
    try:
        known = graders_of(task)
    except ConfigError:
        return set()
    return {name for name, one in known.graders.items() if one.needs_reference and known.against[name] == "teacher"}


def _point(reading: Reading) -> Point:
    return Point(pairs=reading.count, mean=reading.mean, low=reading.low, high=reading.high)


def pair_counts(store: Store, rollout_id: str) -> dict[str, int]:
    """How many pairs are in which state."""
    counted = select(pairs.c.state, func.count()).where(pairs.c.rollout_id == rollout_id).group_by(pairs.c.state)
    with store.read() as connection:
        return dict(connection.execute(counted).all())


def waiting(store: Store, rollout_id: str) -> list[str]:
    """What pairs wait for, a sentence each; nothing where none waits."""
    counts = pair_counts(store, rollout_id)
    found = {"a judge": counts.get(JUDGING, 0), "a truth": counts.get(WAITING, 0)}
    verb = {True: "pair waits", False: "pairs wait"}
    return [f"{count:,} {verb[count == 1]} for {what}." for what, count in found.items() if count]


def worst_pairs(store: Store, rollout_id: str, grader: str, limit: int = 20) -> list[PairRow]:
    """Among the newest thousand pairs those that the student lost by most."""
    newest = select(pairs).where(pairs.c.rollout_id == rollout_id, pairs.c.state.in_(("scored", "consumed")))
    with store.read() as connection:
        found = connection.execute(newest.order_by(pairs.c.id.desc()).limit(NEWEST)).all()
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
