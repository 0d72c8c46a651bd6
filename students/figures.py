"""Owns the figures that the rollout arithmetic promises: measured here, printed in the docs, checked in the tests."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from students.drift import Drift, alarms
from students.evidence import Floats, Harm, MeanTest, NonInferiority, paths
from students.made_traffic import GRADER, Plan, Slice, made_traffic
from students.policy import Policy
from students.simulate import BATCH, Rate, Spread, rate, spread


@dataclass(frozen=True)
class Figure:
    """One promise: how many pairs a proof takes, or how rarely a false one comes."""

    name: str
    test: MeanTest
    plan: Plan
    median_at_most: float | None = None
    eightieth_at_most: float | None = None
    false: bool = False
    """The proof would be false: its rate must not lie above alpha, by the lower end of its interval."""

    @property
    def bar(self) -> str:
        """What is promised, in words."""
        if self.false:
            return f"at most {self.test.alpha * 100:g} %"
        bounds = (("median", self.median_at_most), ("80th percentile", self.eightieth_at_most))
        return ", ".join(f"{name} ≤ {most:,}" for name, most in bounds if most is not None) or "none"


@dataclass(frozen=True)
class Measured:
    figure: Figure
    pairs: Spread
    proven: Rate

    @property
    def kept(self) -> bool:
        figure, pairs = self.figure, self.pairs
        bounds = ((pairs.median, figure.median_at_most), (pairs.eightieth, figure.eightieth_at_most))
        return all(most is None or value <= most for value, most in bounds) and not (
            figure.false and self.proven.low > figure.test.alpha
        )


def promised(runs: int = 2_000, sessions: int = 10_000) -> tuple[Figure, ...]:
    """The figures of the design; `sessions` is how long one waits for a false proof, looking after every pair."""
    close, wide = NonInferiority(0.03, 0.05), NonInferiority(0.1, 0.05)
    equal = Plan(runs=runs, sessions=4_000)
    alone = Plan(runs=runs, sessions=4_000, never_both=True)
    worse = Plan(runs=runs, sessions=2_000, student_wrong=0.09)
    broken = Plan(runs=runs, sessions=2_000, teacher_wrong=0.03, student_wrong=0.13)
    margin = Plan(runs=runs, sessions=sessions, student_wrong=0.08)
    mixed = Plan(runs=runs, sessions=sessions, student_wrong=0.08, spread=0.6, requests_per_session=2)
    limit = Plan(runs=runs, sessions=sessions, student_wrong=0.07)
    return (
        Figure("equal student, margin 3 points", close, equal, 1_050, 1_650),
        Figure("equal student, never wrong together, margin 3 points", close, alone, 1_050, 1_650),
        Figure("harm of 10 points, smallest 2, at α", Harm(0.02, 0.05), broken, 170),
        Figure("harm of 10 points, smallest 2, at α/30", Harm(0.02, 0.05 / 30), broken, 330),
        Figure("equal student, margin 10 points", wide, equal),
        Figure("student 4 points worse, margin 10 points", wide, worse),
        Figure("false promotion exactly at the margin", close, margin, false=True),
        Figure("the same, clustered sessions of mixed quality", close, mixed, false=True),
        Figure("false alarm exactly at the smallest harm", Harm(0.02, 0.05), limit, false=True),
    )


def measure(figure: Figure) -> Measured:
    """Play all runs of a figure; the same for the same plan."""
    proven_at = np.concatenate([paths(differences, figure.test).proven_at for differences in _played(figure.plan)])
    return Measured(figure, spread(proven_at), rate(int(np.count_nonzero(proven_at)), proven_at.size))


def _played(plan: Plan) -> Iterator[Floats]:
    source = np.random.default_rng(plan.seed)
    for begun in range(0, plan.runs, BATCH):
        yield made_traffic(plan, min(BATCH, plan.runs - begun), source).differences[GRADER]


def scenarios(runs: int = 2_000) -> dict[str, Plan]:
    """Whole rollouts by the default policy, from shadow on, with one request a session."""
    ten_worse = Plan(runs=runs, teacher_wrong=0.03, student_wrong=0.13)
    turns_bad = Plan(
        runs=runs, sessions=4_000, teacher_wrong=0.03, student_wrong=0.03, drift_at=2_000, drift_wrong=0.13
    )
    return {
        "equal (5 % / 5 %)": Plan(runs=runs, sessions=4_000),
        "exactly at the margin (5 % / 8 %)": Plan(runs=runs, sessions=4_000, student_wrong=0.08),
        "10 points worse from the start (3 % / 13 %)": ten_worse,
        "10 points worse after 2,000 good sessions": turns_bad,
        "1 point worse, 30 % wrong in a slice of 15 %": Plan(
            runs=runs, sessions=4_000, slices=(Slice("fr", 0.15, 0.3),), student_wrong=0.02
        ),
        "equal; truth 100 sessions late, a tenth twice, out of order": Plan(
            runs=runs, sessions=4_000, delayed_sessions=100, duplicated=0.1, reordered_within=50
        ),
        "10 points worse after 2,000, the store away for 300 from there": replace(
            turns_bad, outage_at=2_000, outage_sessions=300
        ),
        "10 points worse after 2,000, a tenth paired at full": replace(
            turns_bad, runs=max(1, runs // 4), sessions=16_000, watch_share=0.1
        ),
    }


@dataclass(frozen=True)
class RunLength:
    """How often the drift detector alarmed where nothing drifted; `low` is the 95 % bound of the mean."""

    name: str
    pairs: int
    alarms: int
    mean: float
    low: float


def undrifted(runs: int = 50, sessions: int = 20_000) -> dict[str, Plan]:
    """Students that stay as they are."""
    return {
        "equal (5 % / 5 %)": Plan(runs=runs, sessions=sessions),
        "exactly at the margin (5 % / 8 %)": Plan(runs=runs, sessions=sessions, student_wrong=0.08),
    }


def measure_run_length(name: str, plan: Plan, policy: Policy | None = None) -> RunLength:
    """Watch every run until its first false alarm or its end: pairs watched per alarm, which is the mean run length
    where alarms come without memory, and below it where they come later than that."""
    policy = policy or plan.policy
    drift = Drift(policy.margin, policy.pairs_between_false_alarms)
    alarm_at = np.concatenate([alarms(differences, drift) for differences in _played(plan)])
    watched = int(np.where(alarm_at == 0, plan.sessions, alarm_at).sum())
    count = int(np.count_nonzero(alarm_at))
    most = most_alarms(count)
    return RunLength(name, watched, count, watched / count if count else np.inf, watched / most)


def most_alarms(count: int) -> float:
    """The largest Poisson mean under which so few would be seen with a chance of 5 %, by halving."""
    low, high = float(count), count + 4.0 * math.sqrt(count + 1) + 4.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _poisson_at_most(count, middle) > 0.05 else (low, middle)
    return high


def _poisson_at_most(count: int, mean: float) -> float:
    term = math.exp(-mean)
    total = term
    for number in range(1, count + 1):
        term *= mean / number
        total += term
    return total
