"""Owns made traffic: quality that is planted, in sessions and slices, with drift, duplicates and disorder."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from students.evidence import Floats
from students.policy import Guardrail, Policy

GRADER = "truth"


@dataclass(frozen=True)
class Slice:
    """A part of the traffic in which the student is wrong at a rate of its own."""

    name: str
    share: float
    student_wrong: float


@dataclass(frozen=True)
class Plan:
    """What is planted; rates are fractions of 1."""

    policy: Policy = field(default_factory=lambda: Policy(gates=(GRADER,), guardrails=(Guardrail(GRADER, 0.03),)))
    """Gated and guarded by the grader GRADER alone."""
    teacher_wrong: float = 0.05
    student_wrong: float = 0.05
    never_both: bool = False
    """The arms are never wrong on the same request; else they err independently of each other."""
    slices: tuple[Slice, ...] = ()
    drift_at: int | None = None
    """From this session on, the student is wrong at `drift_wrong` everywhere."""
    drift_wrong: float = 0.0
    spread: float = 0.0
    """How unlike sessions are, in [0, 1): the student's rate in a session is Beta distributed around its mean, with
    this correlation between two requests of one session."""
    requests_per_session: int = 1
    every_request_paired: bool = False
    """Break the rule of one pair a session, to see what it is for."""
    duplicated: float = 0.0
    """The part of the pairs that is delivered twice."""
    reordered_within: int = 0
    """Pairs arrive up to so many places from where they belong."""
    sessions: int = 3_000
    sessions_per_hour: float = 100.0
    tick_every: int = 25
    """Pairs between two looks of the controller."""
    runs: int = 2_000
    seed: int = 1


@dataclass(frozen=True)
class Traffic:
    """The same sessions, slices and order in every run; what goes wrong differs from run to run."""

    session: NDArray[np.int64]
    """Of each request, [requests]."""
    slice: NDArray[np.int64]
    """Of each request; 0 is none of those named, 1 the first of them."""
    student_bad: NDArray[np.bool_]
    """Whether the student answers it wrongly, [runs, requests]."""
    taken: NDArray[np.int64]
    """The requests that become pairs, in their order of arrival."""
    differences: Floats
    """Of those pairs, [runs, pairs]."""


def made_traffic(plan: Plan, runs: int, source: np.random.Generator) -> Traffic:
    session = np.repeat(np.arange(plan.sessions), plan.requests_per_session)
    slices = _slices(plan, source)[session]
    luck = source.random((runs, session.size))
    student_bad = luck < _student_rates(plan, runs, slices, source)
    if plan.never_both:
        teacher_bad = luck >= 1.0 - plan.teacher_wrong
    else:
        teacher_bad = source.random((runs, session.size)) < plan.teacher_wrong
    taken = _taken(plan, session, source)
    differences = teacher_bad[:, taken].astype(float) - student_bad[:, taken]
    return Traffic(session, slices, student_bad, taken, differences)


def planted_difference(plan: Plan) -> float:
    """The mean difference over all traffic before any drift: the teacher's rate of errors less the student's."""
    rest = 1.0 - sum(each.share for each in plan.slices)
    wrong = rest * plan.student_wrong + sum(each.share * each.student_wrong for each in plan.slices)
    # Rounded, since 0.05 - 0.08 is a hair off the margin that it is meant to be.
    return round(plan.teacher_wrong - wrong, 12)


def _slices(plan: Plan, source: np.random.Generator) -> NDArray[np.int64]:
    """Which slice each session lies in; 0 is none of those named."""
    shares = [1.0 - sum(each.share for each in plan.slices), *(each.share for each in plan.slices)]
    return source.choice(len(shares), size=plan.sessions, p=shares)


def _student_rates(plan: Plan, runs: int, slices: NDArray[np.int64], source: np.random.Generator) -> Floats:
    """The student's error rate at each request, [runs, requests]."""
    rates = np.array([plan.student_wrong, *(each.student_wrong for each in plan.slices)])[slices]
    if plan.drift_at is not None:
        rates[plan.drift_at * plan.requests_per_session :] = plan.drift_wrong
    if not plan.spread:
        return np.broadcast_to(rates, (runs, rates.size))
    concentration = 1.0 / plan.spread - 1.0
    by_session = np.clip(rates[:: plan.requests_per_session], 1e-6, 1 - 1e-6)
    drawn = source.beta(by_session * concentration, (1 - by_session) * concentration, size=(runs, plan.sessions))
    return np.repeat(drawn, plan.requests_per_session, axis=1)


def _taken(plan: Plan, session: NDArray[np.int64], source: np.random.Generator) -> NDArray[np.int64]:
    """Which requests become pairs, as they arrive: each once, and one a session unless the plan breaks that."""
    requests = np.arange(session.size)
    again = requests[source.random(session.size) < plan.duplicated]
    delivered = np.concatenate([requests, again])
    places = delivered + source.random(delivered.size) * plan.reordered_within
    delivered = delivered[np.argsort(places, kind="stable")]
    keys = delivered if plan.every_request_paired else session[delivered]
    _, first = np.unique(keys, return_index=True)
    return delivered[np.sort(first)]
