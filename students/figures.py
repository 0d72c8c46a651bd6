"""Owns the figures that the rollout arithmetic promises: measured here, printed in the docs, checked in the tests."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from students.evidence import Floats, Harm, MeanTest, NonInferiority, paths
from students.made_traffic import Plan, made_traffic
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
        yield made_traffic(plan, min(BATCH, plan.runs - begun), source).differences
