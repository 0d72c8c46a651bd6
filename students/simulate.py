"""Owns the simulator: plays made traffic through the functions that decide live, and counts how often they err."""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from students.assignment import position
from students.drift import Drift, alarms
from students.evidence import Floats, Harm, MeanTest, NonInferiority, Paths, Reading, guardrail_alpha, paths
from students.intervals import clopper_pearson
from students.made_traffic import GRADER, Plan, made_traffic, planted_difference
from students.policy import validate
from students.tally import EVERYWHERE, DriftEvidence, Evidence, GateEvidence, GuardrailEvidence
from students.verdicts import decide

BATCH = 200
"""Runs played at once, so that memory stays bounded."""


@dataclass(frozen=True)
class Rate:
    """`count` of `total` runs, with the exact 95 % interval of the rate behind it."""

    count: int
    total: int
    low: float
    high: float


@dataclass(frozen=True)
class Spread:
    """Median and 80th percentile over all runs, infinite where too few got there; `reached` counts those that did."""

    median: float
    eightieth: float
    reached: int


@dataclass(frozen=True)
class Report:
    plan: Plan
    mean_difference: float
    """What was planted before any drift: the teacher's rate of errors less the student's, over all traffic."""
    promoted: Rate
    """Reached the last stage at any time."""
    rolled_back: Rate
    asked: Rate
    """Ended with a person being asked."""
    false_promotions: Rate | None
    """Promotions of a student that is not within the margin; None where it is."""
    misses: Rate | None
    """Runs that never reached full though the student is within the margin; None where it is not."""
    pairs_to_proof: Spread
    pairs_to_full: Spread
    pairs_to_roll_back: Spread
    bad_answers: Spread
    """Wrong answers that the student gave to clients before it was rolled back, over the runs that were."""
    reasons: dict[str, int]
    """How often each reason ended a run."""


@dataclass(frozen=True)
class _Ending:
    reason: str
    full_at: int
    rolled_back_at: int
    bad_answers: int


def run(plan: Plan) -> Report:
    """Play all runs of a plan, the same for the same seed. RefusedError for a policy that cannot be met."""
    validate(plan.policy, [GRADER])
    source = np.random.default_rng(plan.seed)
    endings: list[_Ending] = []
    proven_at: list[NDArray[np.int64]] = []
    while len(endings) < plan.runs:
        batch = _Batch(plan, min(BATCH, plan.runs - len(endings)), source)
        proven_at.append(batch.gate.proven_at)
        endings += [_play(plan, batch, index) for index in range(batch.runs)]
    return _report(plan, np.concatenate(proven_at), endings)


class _Batch:
    """The traffic of some runs, and what every test would say after each of its pairs."""

    def __init__(self, plan: Plan, runs: int, source: np.random.Generator) -> None:
        policy = plan.policy
        self.runs, self.traffic = runs, made_traffic(plan, runs, source)
        self.positions = np.array([position(f"simulated-{plan.seed}", str(number)) for number in range(plan.sessions)])
        differences = self.traffic.differences
        self.pairs = differences.shape[1]
        self.means = np.cumsum(differences, axis=1) / np.arange(1, self.pairs + 1)
        self.gate = paths(differences, NonInferiority(policy.margin, policy.alpha), every=plan.tick_every)
        self.drift = Drift(policy.margin, policy.pairs_between_false_alarms)
        self.alarm_at = alarms(differences, self.drift)
        self.guards = list(_guards(plan, differences, self.traffic.slice[self.traffic.taken]))


def _guards(plan: Plan, differences: Floats, slices: NDArray[np.int64]) -> Iterator[tuple[GuardrailEvidence, Paths]]:
    """Each harm test in its order of appearance, with its way; the reading in it is still empty."""
    places = [(EVERYWHERE, np.ones(slices.size, dtype=bool))]
    for number in dict.fromkeys(slices[slices > 0].tolist()):
        places += [(f"slice={plan.slices[number - 1].name}", slices == number)]
    order = 0
    for guard in plan.policy.guardrails:
        for place, inside in places:
            order += 1
            test = Harm(guard.smallest, guardrail_alpha(plan.policy.alpha, order))
            empty = GuardrailEvidence(guard.metric, place, guard.smallest, test.alpha, test.reading())
            yield empty, paths(np.where(inside, differences, np.nan), test, every=plan.tick_every)


def _play(plan: Plan, batch: _Batch, index: int) -> _Ending:
    """One rollout under `decide`, looked at after every `tick_every` pairs until traffic ends or it is rolled back."""
    policy, stage, entered, full_at, bad_answers, reason = plan.policy, 0, 0, 0, 0, "no_traffic"
    for pairs in range(plan.tick_every, batch.pairs + 1, plan.tick_every):
        bad_answers += _served_badly(plan, batch, index, pairs, policy.shares[stage])
        evidence = _evidence(plan, batch, index, pairs, entered)
        verdict = decide(policy, stage, evidence)
        reason = verdict.reason
        if verdict.kind == "roll_back":
            return _Ending(reason, full_at, pairs, bad_answers)
        if verdict.stage > stage:
            stage, entered = verdict.stage, pairs
            full_at = pairs if stage == len(policy.shares) - 1 else full_at
    return _Ending(reason, full_at, 0, bad_answers)


def _served_badly(plan: Plan, batch: _Batch, index: int, pairs: int, share: float) -> int:
    """Wrong answers the student gave to clients while the last `tick_every` pairs came in."""
    if share == 0:
        return 0
    span = batch.traffic.session.size / batch.pairs
    requests = slice(round((pairs - plan.tick_every) * span), round(pairs * span))
    served = batch.positions[batch.traffic.session[requests]] < share
    return int(np.count_nonzero(batch.traffic.student_bad[index, requests] & served))


def _evidence(plan: Plan, batch: _Batch, index: int, pairs: int, entered: int) -> Evidence:
    mean = float(batch.means[index, pairs - 1])
    gate = _reading(batch.gate, NonInferiority(plan.policy.margin, plan.policy.alpha), index, pairs, mean)
    guards = tuple(
        replace(empty, reading=_reading(way, Harm(empty.smallest, empty.alpha), index, pairs, mean))
        for empty, way in batch.guards
    )
    here = pairs - entered
    span = batch.traffic.session.size / batch.pairs / plan.requests_per_session
    return Evidence(
        gates=(GateEvidence(GRADER, gate),),
        guardrails=guards,
        drifts=(_drift(batch, index, pairs),),
        pairs_at_stage=here,
        sessions_at_stage=round(here * span),
        hours_at_stage=here * span / plan.sessions_per_hour,
    )


def _drift(batch: _Batch, index: int, pairs: int) -> DriftEvidence:
    alarmed = 0 < batch.alarm_at[index] <= pairs
    return DriftEvidence(GRADER, batch.drift.smallest, batch.drift.run_length, 0.0, bool(alarmed))


def _reading(way: Paths, test: MeanTest, index: int, pairs: int, mean: float) -> Reading:
    """What the live test would read after so many pairs. Decisions look at no bounds, and at no slice's count or mean,
    so those are not followed."""
    proven_at, refuted_at = int(way.proven_at[index]), int(way.refuted_at[index])
    return replace(
        test.reading(),
        count=pairs,
        mean=mean,
        proven=0 < proven_at <= pairs,
        refuted=0 < refuted_at <= pairs,
        proven_at=proven_at if proven_at <= pairs else 0,
        log_wealth=float(way.trail[index, pairs // way.every - 1]),
    )


def _report(plan: Plan, proven_at: NDArray[np.int64], endings: list[_Ending]) -> Report:
    runs = len(endings)
    difference = planted_difference(plan)
    full = [ending.full_at for ending in endings]
    promoted = sum(at > 0 for at in full)
    good = difference > -plan.policy.margin
    back = [ending for ending in endings if ending.rolled_back_at]
    return Report(
        plan=plan,
        mean_difference=difference,
        promoted=rate(promoted, runs),
        rolled_back=rate(len(back), runs),
        asked=rate(sum(ending.reason == "needs_person" for ending in endings), runs),
        false_promotions=None if good else rate(promoted, runs),
        misses=rate(runs - promoted, runs) if good else None,
        pairs_to_proof=spread(proven_at),
        pairs_to_full=spread(np.array(full)),
        pairs_to_roll_back=spread(np.array([ending.rolled_back_at for ending in endings])),
        bad_answers=_quantiles(np.array([float(ending.bad_answers) for ending in back])),
        reasons=dict(Counter(ending.reason for ending in endings)),
    )


def rate(count: int, total: int) -> Rate:
    """The rate of `count` in `total`, with its exact interval."""
    return Rate(count, total, *clopper_pearson(count, total))


def spread(reached_at: NDArray[np.int64]) -> Spread:
    """Of the pair numbers at which runs got somewhere; 0 stands for a run that never did."""
    return _quantiles(np.where(reached_at == 0, math.inf, reached_at))


def _quantiles(values: Floats) -> Spread:
    if not values.size:
        return Spread(math.inf, math.inf, 0)
    median, eightieth = np.quantile(values, [0.5, 0.8], method="inverted_cdf")
    return Spread(float(median), float(eightieth), int(np.isfinite(values).sum()))
