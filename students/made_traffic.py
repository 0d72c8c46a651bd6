"""Owns made traffic: planted quality, in sessions and slices, with drift, delays, duplicates, disorder and outages."""

import math
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from capture.errors import RefusedError
from students.evidence import Floats
from students.playing import Traffic
from students.policy import Guardrail, Policy

GRADER = "truth"
SILENT_H = 1 / 60
"""How long gateways believe a controller that they do not hear of: a minute."""


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
    delayed_sessions: float = 0.0
    """A pair's truth comes so many sessions after its request, on average (exponentially distributed)."""
    outage_at: int | None = None
    """From this session on, for `outage_sessions`, the store is away: nothing is counted or decided until its end, and
    what was due comes all at once. Gateways go on by their last snapshot for SILENT_H, then ask the teacher alone."""
    outage_sessions: int = 0
    watch_share: float = 1.0
    """The part of the sessions that is paired at full; until then all of them are."""
    sessions: int = 3_000
    sessions_per_hour: float = 100.0
    tick_every: int = 25
    """Pairs between two looks of the controller."""
    runs: int = 2_000
    seed: int = 1


def check(plan: Plan) -> None:
    """Raise RefusedError with every reason why this plan cannot be played."""
    rates = {
        "teacher_wrong": plan.teacher_wrong,
        "student_wrong": plan.student_wrong,
        "drift_wrong": plan.drift_wrong,
        "duplicated": plan.duplicated,
        "watch_share": plan.watch_share,
        **{f"the share of slice {one.name}": one.share for one in plan.slices},
        **{f"the rate of slice {one.name}": one.student_wrong for one in plan.slices},
    }
    places = {
        "drift_at": plan.drift_at or 0,
        "the outage": min(plan.outage_at or 0, plan.outage_sessions),
        "reordered": plan.reordered_within,
        "seed": plan.seed,
    }
    twice = [name for name, count in Counter(one.name for one in plan.slices).items() if count > 1]
    both = plan.never_both and plan.teacher_wrong + plan.student_wrong > 1
    checks = [
        *((0 <= rate <= 1, f"{name} must lie in [0, 1], not {rate:g}") for name, rate in rates.items()),
        *((place >= 0, f"{name} must not be negative, not {place}") for name, place in places.items()),
        (sum(one.share for one in plan.slices) < 1 + 1e-9, "the slices' shares must not add up to more than 1"),
        (not twice, f"slice {', '.join(twice)} is named twice"),
        (0 <= plan.spread < 1, f"spread must lie in [0, 1), not {plan.spread:g}"),
        (0 <= plan.delayed_sessions < math.inf, f"delayed must not be negative, not {plan.delayed_sessions:g}"),
        (0 < plan.sessions_per_hour < math.inf, f"sessions_per_hour must be above 0, not {plan.sessions_per_hour:g}"),
        (not both, "arms that are never wrong together cannot be wrong more often than always"),
    ]
    problems = [problem for sound, problem in checks if not sound]
    if problems:
        raise RefusedError("this traffic cannot be made: " + "; ".join(problems))


def made_traffic(plan: Plan, runs: int, source: np.random.Generator) -> Traffic:
    session = np.repeat(np.arange(plan.sessions), plan.requests_per_session)
    slices = _slices(plan, source)[session]
    luck = source.random((runs, session.size))
    student_bad = luck < _student_rates(plan, runs, slices, source)
    if plan.never_both:
        teacher_bad = luck >= 1.0 - plan.teacher_wrong
    else:
        teacher_bad = source.random((runs, session.size)) < plan.teacher_wrong
    taken, arrives = _taken(plan, session, source)
    of_pairs = slices[taken]
    return Traffic(
        session=session,
        student_bad=student_bad,
        taken=taken,
        arrives=arrives,
        differences={GRADER: teacher_bad[:, taken].astype(float) - student_bad[:, taken]},
        places={f"slice={one.name}": (of_pairs == number)[None] for number, one in enumerate(plan.slices, start=1)},
        silent=_silent(plan, session),
        requests_per_hour=plan.sessions_per_hour * plan.requests_per_session,
    )


def planted_difference(plan: Plan) -> float:
    """The mean difference over all traffic before any drift: the teacher's rate of errors less the student's."""
    rest = 1.0 - sum(each.share for each in plan.slices)
    wrong = rest * plan.student_wrong + sum(each.share * each.student_wrong for each in plan.slices)
    # Rounded, since 0.05 - 0.08 is a hair off the margin that it is meant to be.
    return round(plan.teacher_wrong - wrong, 12)


def _slices(plan: Plan, source: np.random.Generator) -> NDArray[np.int64]:
    """Which slice each session lies in; 0 is none of those named."""
    shares = [max(0.0, 1.0 - sum(each.share for each in plan.slices)), *(each.share for each in plan.slices)]
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


def _taken(plan: Plan, session: NDArray[np.int64], source: np.random.Generator) -> tuple[NDArray[np.int64], Floats]:
    """Which requests become pairs, as their evidence arrives, and when: each once, and one a session unless the plan
    breaks that."""
    requests = np.arange(session.size)
    again = requests[source.random(session.size) < plan.duplicated]
    delivered = np.concatenate([requests, again])
    places = delivered + source.random(delivered.size) * plan.reordered_within
    if plan.delayed_sessions:
        late = source.exponential(plan.delayed_sessions * plan.requests_per_session, delivered.size)
        places = places + late
    begin, end = _outage(plan)
    places = np.where((places >= begin) & (places < end), end, places)
    order = np.argsort(places, kind="stable")
    delivered, places = delivered[order], places[order]
    keys = delivered if plan.every_request_paired else session[delivered]
    _, first = np.unique(keys, return_index=True)
    first = np.sort(first)
    in_time = first[places[first] < session.size]
    return delivered[in_time], np.maximum(places[in_time], delivered[in_time]) + 1.0


def _outage(plan: Plan) -> tuple[float, float]:
    """The first request of the outage, and the first one after it."""
    if plan.outage_at is None:
        return math.inf, math.inf
    begin = plan.outage_at * plan.requests_per_session
    return begin, begin + plan.outage_sessions * plan.requests_per_session


def _silent(plan: Plan, session: NDArray[np.int64]) -> NDArray[np.bool_]:
    begin, end = _outage(plan)
    if math.isinf(begin):
        return np.zeros(session.size, dtype=bool)
    begin += SILENT_H * plan.sessions_per_hour * plan.requests_per_session
    requests = np.arange(session.size)
    return (requests >= begin) & (requests < end)
