"""Who answers a task's request: by its rollouts, the student's eligibility and capacity, and the session's arm."""

import secrets
from collections.abc import Mapping
from typing import Any

import msgspec

from capture.exchange import Arm, Assignment
from gateway.breaker import Breakers
from gateway.capacity import Capacity
from gateway.headers import Headers, forwarded
from gateway.plan import Leg, StudentLeg
from gateway.snapshot import Latency, LiveRollout, LiveStudent, Snapshot
from gateway.structured import is_structured, validator
from gateway.tally import Tally
from gateway.upstreams import Endpoint
from students.assignment import arm_for
from students.heavy_keys import HeavyKeys
from students.view import eligible, responses_body, student_view

SILENT_AFTER_S = 60.0
"""A tick so much older than now, or so much newer, is nobody's who leads now: a clock that was ahead says nothing."""
DEADLINE_FLOOR_S = 2.0
DEADLINE_FACTOR = 1.5

_PATHS = {"chat.completions": "/chat/completions", "responses": "/responses"}


class Asked(msgspec.Struct, frozen=True):
    """A task's request, as far as choosing an arm goes."""

    task: str
    route: str
    request: Mapping[str, Any]  # the whole body
    headers: Headers
    upstream: str  # the teacher's
    fingerprint: str | None
    session: str | None
    stream: bool


class Choice(msgspec.Struct, frozen=True):
    """What is written down of it, and the student's leg where a student is asked first."""

    rollout: str | None = None
    student_name: str | None = None
    assignment: Assignment | None = None
    arm: Arm = Arm.TEACHER
    reason: str | None = None
    student: StudentLeg | None = None


class Arms:
    """Chooses. Holds only what a process counts by itself: capacities and heavy session keys."""

    def __init__(self, capacity: Capacity, heavy: HeavyKeys, tally: Tally, breakers: Breakers) -> None:
        self._breakers = breakers
        self._capacity = capacity
        self._heavy = heavy
        self._tally = tally

    def choose(self, asked: Asked, snapshot: Snapshot, now: float) -> Choice:
        """By the newest rollout with a share, then by the incumbent's; `now` in Unix seconds."""
        choice = self._chosen(asked, snapshot, now)
        self._tally.add(asked.task, choice.assignment, choice.reason)
        return choice

    def shapeless(self, task: str) -> Choice:
        """For a request that cannot be looked at closely."""
        self._tally.add(task, None, "shape")
        return Choice(reason="shape")

    def _chosen(self, asked: Asked, snapshot: Snapshot, now: float) -> Choice:
        known = snapshot.rollouts.get(asked.task, ())
        routed = [rollout for rollout in known if rollout.share > 0]
        if not known:
            return Choice()
        if not routed:  # in shadow, or a dry run: nothing is the student's, and the control is set apart already
            return self._by(known[0], asked, self._session(asked), snapshot)
        if abs(now - snapshot.ticked_at) > SILENT_AFTER_S:
            return Choice(routed[0].id, routed[0].student.name, reason="controller_silent")
        session = self._session(asked)
        first: Choice | None = None
        for rollout in routed:
            choice = self._by(rollout, asked, session, snapshot)
            if choice.assignment is Assignment.STUDENT:
                return _under(first, choice)
            first = choice if first is None or first.assignment is None else first
        if first is not None and first.assignment is None and known[0].share == 0:
            return self._by(known[0], asked, session, snapshot)  # beside an incumbent that may not answer it
        return first or Choice()

    def _session(self, asked: Asked) -> str:
        return self._heavy.session(asked.task, asked.session) or secrets.token_hex(8)

    def _by(self, rollout: LiveRollout, asked: Asked, session: str, snapshot: Snapshot) -> Choice:
        student = rollout.student
        reason = eligible(asked.request, asked.fingerprint, student.facts)
        if reason is not None:
            return Choice(rollout.id, student.name, reason=reason)
        assignment = Assignment(arm_for(rollout.id, session, rollout.share))
        if assignment is not Assignment.STUDENT:
            return Choice(rollout.id, student.name, assignment)
        endpoint = student.endpoint
        if endpoint is None:
            return Choice(rollout.id, student.name, assignment, Arm.FALLBACK, "student_away")
        if not self._capacity.take(student.id, student.capacity_per_s):
            return Choice(rollout.id, student.name, assignment, Arm.FALLBACK, "student_capacity")
        if not self._breakers.take(_circuit_of(student)):
            return Choice(rollout.id, student.name, assignment, Arm.FALLBACK, "student_circuit_open")
        held = StudentLeg(
            leg=_leg(student, endpoint, asked, snapshot),
            deadline_s=_deadline_s(rollout, snapshot.latencies.get(asked.task), asked.stream),
            valid=validator(asked.request, asked.route),
            buffered=asked.stream and is_structured(asked.request),
        )
        return Choice(rollout.id, student.name, assignment, Arm.STUDENT, None, held)


def student_leg(student: LiveStudent, asked: Asked, snapshot: Snapshot) -> Leg | None:
    """The request as the student gets it: its view and no more; None while it answers nowhere."""
    return None if student.endpoint is None else _leg(student, student.endpoint, asked, snapshot)


def _leg(student: LiveStudent, endpoint: Endpoint, asked: Asked, snapshot: Snapshot) -> Leg:
    seen = student_view(asked.request, student.facts.view, tools=student.facts.tools)
    body = responses_body(seen) if asked.route == "responses" else seen
    return Leg(
        address=endpoint.address,
        method="POST",
        target=endpoint.target(_PATHS[asked.route], "", student.served_model),
        headers=_headers(student, endpoint, asked, snapshot),
        body=msgspec.json.encode({"model": student.served_model, **body}),
        served_model=student.served_model if student.registered else student.name,  # a local one's is its folder's
        circuit=_circuit_of(student),
    )


def _circuit_of(student: LiveStudent) -> str:
    """Not its upstream's: what fails there may be this student alone."""
    return f"student:{student.name}"


def _headers(student: LiveStudent, endpoint: Endpoint, asked: Asked, snapshot: Snapshot) -> Headers:
    plain: Headers = ((b"content-type", b"application/json"), (b"accept", b"*/*"), (b"user-agent", b"stillhouse"))
    if not student.registered:
        return plain
    if endpoint.auth == "key":
        return plain + endpoint.credentials(snapshot.secrets.get(endpoint.name, ""))
    if endpoint.name != asked.upstream:
        return plain
    sent = forwarded(asked.headers, credentials=True)
    return plain + tuple(pair for pair in sent if pair[0] in (b"authorization", b"api-key"))


def _under(first: Choice | None, incumbent: Choice) -> Choice:
    """The incumbent answers what a newer rollout left to the teacher; that rollout's assignment is what counts."""
    if first is None or first.assignment is None:
        return incumbent
    return Choice(
        first.rollout, incumbent.student_name, first.assignment, incumbent.arm, incumbent.reason, incumbent.student
    )


def _deadline_s(rollout: LiveRollout, latency: Latency | None, stream: bool) -> float:
    if rollout.deadline_s is not None:
        return rollout.deadline_s
    usual_s = None if latency is None else latency.stream_s if stream else latency.unary_s
    return max(DEADLINE_FLOOR_S, DEADLINE_FACTOR * (usual_s or 0.0))
