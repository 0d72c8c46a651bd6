"""Owns the simulator: plays made or recorded traffic through what decides live, and counts how often it errs."""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from students.evidence import Floats
from students.intervals import clopper_pearson
from students.made_traffic import GRADER, Plan, check, made_traffic, planted_difference
from students.playing import Batch, Ending, Look
from students.policy import Policy, validate
from students.recorded_traffic import Recording, as_recorded, drawn_anew
from students.rollouts import NEEDS_PERSON

BATCH = 200
RECORDED_BATCH = 50
"""Runs played at once, so that memory stays bounded; recorded traffic has more slices and graders."""


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
    """What became of the runs. Of recorded traffic it is not known whether the student deserved it."""

    policy: Policy
    mean_difference: float | None
    """What was planted before any drift: the teacher's rate of errors less the student's; None for recorded traffic."""
    promoted: Rate
    """Reached the last stage at any time."""
    rolled_back: Rate
    asked: Rate
    """Paused, past the policy's bound, and asked a person: there the run ends."""
    false_promotions: Rate | None
    """Promotions of a student that is not within the margin; None where it is, or where that is not known."""
    misses: Rate | None
    """Runs that never reached full though the student is within the margin; None where it is not, or not known."""
    pairs_to_proof: Spread
    pairs_to_full: Spread
    pairs_to_roll_back: Spread
    hours_to_roll_back: Spread
    bad_answers: Spread
    """Wrong answers that the student gave to clients before it was rolled back, over the runs that were."""
    reasons: dict[str, int]
    """How often each reason ended a run."""
    proven_at: tuple[int, ...]
    """Of each run, the pair that proved the first gate; 0 for never."""
    endings: tuple[Ending, ...]


def run(plan: Plan) -> Report:
    """Play all runs of a plan, the same for the same seed. RefusedError for a policy that cannot be met, or a plan that
    cannot be played."""
    validate(plan.policy, [GRADER])
    check(plan)
    good = planted_difference(plan) > -plan.policy.margin
    return _report(plan.policy, _made(plan), planted_difference(plan), good)


def run_recorded(recorded: Recording, policy: Policy, plan: Plan) -> Report:
    """Play recorded pairs, drawn anew in each of the plan's runs. RefusedError for a policy that cannot be met."""
    validate(policy)
    source = np.random.default_rng(plan.seed)
    batches = (
        Batch(policy, drawn_anew(recorded, policy.gates[0], runs, source), plan.tick_every)
        for runs in _batches(plan, RECORDED_BATCH)
    )
    return _report(policy, batches, None, None)


def looks(plan: Plan) -> Iterator[Look]:
    """The first run of a plan, look by look, under `decide`."""
    validate(plan.policy, [GRADER])
    check(plan)
    return next(_made(plan)).looks(0)


def looks_recorded(recorded: Recording, policy: Policy, tick_every: int) -> Iterator[Look]:
    """The recording as it was, look by look, under `decide` and any policy."""
    validate(policy)
    return Batch(policy, as_recorded(recorded, policy.gates[0]), tick_every).looks(0)


def _batches(plan: Plan, most: int = BATCH) -> list[int]:
    return [min(most, plan.runs - begun) for begun in range(0, plan.runs, most)]


def _made(plan: Plan) -> Iterator[Batch]:
    source = np.random.default_rng(plan.seed)
    for runs in _batches(plan):
        batch = Batch(plan.policy, made_traffic(plan, runs, source), plan.tick_every, f"simulated-{plan.seed}")
        yield batch if plan.watch_share >= 1 else batch.thinned(plan.watch_share, source)


def _report(policy: Policy, batches: Iterator[Batch], difference: float | None, good: bool | None) -> Report:
    endings: list[Ending] = []
    proven_at: list[NDArray[np.int64]] = []
    for batch in batches:
        proven_at.append(batch.proven_at)
        endings += [batch.play(number) for number in range(batch.traffic.runs)]
    runs = len(endings)
    full = [ending.full_at for ending in endings]
    promoted = sum(at > 0 for at in full)
    back = [ending for ending in endings if ending.rolled_back_at]
    proofs = np.concatenate(proven_at)
    return Report(
        policy=policy,
        mean_difference=difference,
        promoted=rate(promoted, runs),
        rolled_back=rate(len(back), runs),
        asked=rate(sum(ending.reason == NEEDS_PERSON for ending in endings), runs),
        false_promotions=rate(promoted, runs) if good is False else None,
        misses=rate(runs - promoted, runs) if good else None,
        pairs_to_proof=spread(proofs),
        pairs_to_full=spread(np.array(full)),
        pairs_to_roll_back=spread(np.array([ending.rolled_back_at for ending in endings])),
        hours_to_roll_back=_quantiles(np.array([ending.rolled_back_h for ending in back])),
        bad_answers=_quantiles(np.array([float(ending.bad_answers) for ending in back])),
        reasons=dict(Counter(ending.reason for ending in endings)),
        proven_at=tuple(proofs.tolist()),
        endings=tuple(endings),
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
