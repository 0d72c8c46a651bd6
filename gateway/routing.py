"""The router: from the head and body of a request, and the snapshot, to a plan. It does no I/O and never waits."""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Protocol

from capture.exchange import Arm
from gateway.arms import Arms, Asked, Choice, student_leg
from gateway.auth import Caller, Gate
from gateway.breaker import Breakers
from gateway.head import MalformedBodyError, decode_whole
from gateway.headers import Headers
from gateway.legs import Teacher, fallback_legs, teacher_leg, teacher_of, unknown_model, upstream_headers
from gateway.limits import Admitted, Limiter
from gateway.peeking import is_peekable, model_of_body, model_of_path
from gateway.plan import Leg, Plan, Refusal, RequestHead, Surface
from gateway.reading import CHAT, ROUTES, CapturedRequest, Envelope, Reader
from gateway.snapshot import LiveStudent, Snapshot
from students.view import eligible

OWN_TRAINING = re.compile(
    r"/v1/files(/file-[0-9a-f]{32}(/content)?)?"
    r"|/v1/fine_tuning/jobs(/ftjob-[0-9a-f]{32}(/(cancel|pause|resume|events|checkpoints))?)?"
)
"""Paths that the app answers: the collections, and what has an id of ours; other ids are the provider's."""

_TEACHER = Choice()


class Snapshots(Protocol):
    """Whoever keeps the snapshot fresh."""

    @property
    def current(self) -> Snapshot: ...


class Router:
    """Decides what becomes of a request, for one gateway process."""

    def __init__(
        self,
        snapshots: Snapshots,
        gate: Gate,
        limiter: Limiter,
        arms: Arms,
        breakers: Breakers,
        clock: Callable[[], float],
        max_body_bytes: int = 64 * 1024 * 1024,
    ) -> None:
        self._snapshots = snapshots
        self._gate = gate
        self._limiter = limiter
        self._arms = arms
        self._breakers = breakers
        self._observe = breakers.observe
        self._clock = clock
        self._reader = Reader(max_body_bytes)
        self.asked_for: set[str] = set()  # students that are served on demand; whoever wakes them empties it

    def surface(self, method: str, path: str) -> Surface:
        """How a request is treated; `path` is decoded and without its query."""
        if method == "POST" and path in ROUTES:
            return Surface.CAPTURED
        if not path.startswith("/v1/"):
            return Surface.LOCAL
        listing = path == "/v1/models" or path.startswith("/v1/models/")
        stored = path == CHAT or path.startswith(CHAT + "/")
        if OWN_TRAINING.fullmatch(path):
            return Surface.LOCAL
        if stored or (listing and method in ("GET", "HEAD")):
            return Surface.LOCAL
        return Surface.PASSED

    def admit(self, headers: Headers) -> Caller | Refusal:
        """The caller behind a request, for the routes that the app answers."""
        return self._admitted(headers, self._snapshots.current)

    def screen(self, head: RequestHead) -> Refusal | None:
        """Why a request is refused before its body is read; None where it may go on."""
        envelope = self._opened(head, self._snapshots.current)
        return envelope if isinstance(envelope, Refusal) else None

    def plan(self, head: RequestHead, body: bytes | None) -> Plan | Refusal:
        """What happens to a request; `body` is None on a passed route, whose body is streamed."""
        snapshot = self._snapshots.current
        envelope = self._opened(head, snapshot)
        if isinstance(envelope, Refusal):
            return envelope
        if body is None:
            return self._passed(head, envelope, snapshot, "")
        request = self._reader.read(envelope, body, snapshot)
        if isinstance(request, Refusal):
            return request
        student = snapshot.students.get(request.model)
        if student is not None and not envelope.caller.owns(student.key_id):
            return unknown_model(request.model)
        if student is not None and not student.passed:
            return self._to_student(request, student, snapshot)
        return self._to_teacher(request, snapshot)

    def peeks(self, head: RequestHead) -> bool:
        """Whether a passed request's body must be looked at: its model may decide where it goes, or by which path."""
        if not self._snapshots.current.directory.models_decide:
            return False
        return is_peekable(head.header(b"content-type") or b"")

    def plan_passed(self, head: RequestHead, beginning: bytes) -> Plan | Refusal:
        """The same for a passed request whose body was looked at; it is streamed all the same."""
        snapshot = self._snapshots.current
        envelope = self._opened(head, snapshot)
        if isinstance(envelope, Refusal):
            return envelope
        model = model_of_body(head.header(b"content-type") or b"", beginning)
        return self._passed(head, envelope, snapshot, model)

    def _opened(self, head: RequestHead, snapshot: Snapshot) -> Envelope | Refusal:
        """Who asks, and what the head says. Whoever these keys let in is looked up again only when they change."""
        known = head.read
        if isinstance(known, Envelope) and known.keys is snapshot.keys:
            key = known.caller.key
            if key is None or key.usable(self._clock()):
                return known
        caller = self._admitted(head.headers, snapshot)
        if isinstance(caller, Refusal):
            return caller
        head.read = envelope = Envelope.of(head, caller, snapshot.keys)
        return envelope

    def _admitted(self, headers: Headers, snapshot: Snapshot) -> Caller | Refusal:
        return self._gate.admit(headers, snapshot.keys, self._clock(), complete=snapshot.knows_keys)

    def _passed(self, head: RequestHead, envelope: Envelope, snapshot: Snapshot, model: str) -> Plan | Refusal:
        path, caller = envelope.path, envelope.caller
        if not path.startswith("/v1/"):  # written with escapes: not what an upstream would be asked for
            return Refusal(404, f"Invalid URL ({head.method} {path})")
        model = model or model_of_path(path)
        endpoint = (snapshot.directory.for_model(model) if model else None) or snapshot.directory.default
        if endpoint is None:
            return Refusal(404, "No upstream takes this route: set gateway.default_upstream.", code="no_upstream")
        if not caller.may_use(None):
            return Refusal(403, "This gateway key is for certain tasks only.", code="task_not_allowed")
        headers = upstream_headers(envelope, endpoint, snapshot)
        if isinstance(headers, Refusal):
            return headers
        admitted = self._limiter.admit(caller.key, 0, snapshot.spent_usd)
        if isinstance(admitted, Refusal):
            return admitted
        if not self._breakers.take(endpoint.name):
            return self._left_alone([endpoint.name], admitted)
        target = endpoint.target(path[3:], envelope.query, model)
        leg = Leg(endpoint.address, head.method, target, headers, None, circuit=endpoint.name)
        return Plan(leg=leg, key_id=caller.id, release=(admitted,) if admitted else (), observe=self._observe)

    def _to_teacher(self, request: CapturedRequest, snapshot: Snapshot) -> Plan | Refusal:
        teacher = teacher_of(request, snapshot)
        if isinstance(teacher, Refusal):
            return teacher
        leg = teacher_leg(request, teacher.endpoint, teacher.model, snapshot)
        if isinstance(leg, Refusal) and not teacher.fallbacks:
            return leg
        admitted = self._limiter.admit(request.envelope.caller.key, len(request.sent), snapshot.spent_usd)
        if isinstance(admitted, Refusal):
            return admitted
        try:
            return self._routed(request, teacher, leg, snapshot, admitted)
        except BaseException:
            _give_back(admitted)
            raise

    def _routed(
        self,
        request: CapturedRequest,
        teacher: Teacher,
        leg: Leg | Refusal,
        snapshot: Snapshot,
        admitted: Admitted | None,
    ) -> Plan | Refusal:
        choice = self._choose(request, teacher, snapshot) if request.task in snapshot.rollouts else _TEACHER
        others = fallback_legs(request, teacher, snapshot, self._breakers) if teacher.fallbacks else iter(())
        if choice.student is not None and isinstance(leg, Leg):
            return self._planned(request, leg, choice, admitted, self._behind_student(leg, others))
        chosen = leg if isinstance(leg, Leg) and self._breakers.take(leg.circuit) else next(others, None)
        if chosen is not None:
            others = others if choice.student is None else chain((chosen,), others)
            return self._planned(request, chosen, choice, admitted, others)
        if isinstance(leg, Refusal):
            _give_back(admitted)
            return leg
        return self._left_alone([teacher.endpoint.name, *(one.upstream for one in teacher.fallbacks)], admitted)

    def _behind_student(self, leg: Leg, others: Iterable[Leg]) -> Iterator[Leg]:
        """Who is asked when the student failed: the teacher too only while its circuit lets it."""
        if self._breakers.take(leg.circuit):
            yield leg
        yield from others

    def _left_alone(self, names: Sequence[str], admitted: Admitted | None) -> Refusal:
        """Every circuit is open: said at once, with the time until the first of them is tried again."""
        _give_back(admitted)
        wait_s = max(1, math.ceil(min(map(self._breakers.wait_s, names))))
        message = f"The upstream {names[0]!r} fails again and again: it is left alone for a moment. Try again soon."
        headers = ((b"retry-after", b"%d" % wait_s),)
        return Refusal(503, message, type="server_error", code="upstream_circuit_open", headers=headers)

    def _choose(self, request: CapturedRequest, teacher: Teacher, snapshot: Snapshot) -> Choice:
        try:
            asked = _asked(request, request.task or "", teacher.endpoint.name)
            return self._arms.choose(asked, snapshot, self._clock())
        except (MalformedBodyError, RecursionError):  # nested too deep to be looked at
            return self._arms.shapeless(request.task or "")

    def _to_student(self, request: CapturedRequest, student: LiveStudent, snapshot: Snapshot) -> Plan | Refusal:
        """A request that names the student itself: no teacher stands behind it."""
        try:
            asked = _asked(request, student.task, "")
            reason = eligible(asked.request, asked.fingerprint, student.facts)
            leg = student_leg(student, asked, snapshot)
        except (MalformedBodyError, RecursionError):
            return unknown_model(request.model)
        if reason not in (None, "unknown_prompt_version"):
            return Refusal(400, f"The model {student.name} cannot answer this request: {reason}.", code=reason)
        if student.on_demand:
            self.asked_for.add(student.id)
        if leg is None:
            message, soon = f"The model {student.name} is not being served.", ((b"retry-after", b"5"),)
            return Refusal(503, message, type="server_error", code="student_away", headers=soon)
        admitted = self._limiter.admit(request.envelope.caller.key, len(request.body), snapshot.spent_usd)
        if isinstance(admitted, Refusal):
            return admitted
        if not self._breakers.take(leg.circuit):
            return self._left_alone([leg.circuit], admitted)
        return self._planned(request, leg, Choice(student_name=student.name, arm=Arm.STUDENT), admitted, ())

    def _planned(
        self,
        request: CapturedRequest,
        leg: Leg,
        choice: Choice,
        admitted: Admitted | None,
        others: Iterable[Leg],
    ) -> Plan:
        return Plan(
            leg=leg,
            student=choice.student,
            captured=True,
            opted_out=request.opted_out,
            route=request.route,
            task=request.task,
            key_id=request.envelope.caller.id,
            session=request.session,
            fingerprint=request.fingerprint,
            rollout=choice.rollout,
            student_name=choice.student_name,
            assignment=choice.assignment,
            arm=choice.arm,
            reason=choice.reason,
            model=request.model,
            stream=request.head.stream is True,
            store=request.head.store is True,
            release=(admitted,) if admitted else (),
            settle=admitted.settle if admitted else None,
            others=others,
            observe=self._observe,
        )


def _give_back(admitted: Admitted | None) -> None:
    if admitted is not None:
        admitted.undo()


def _asked(request: CapturedRequest, task: str, upstream: str) -> Asked:
    return Asked(
        task=task,
        route=request.route,
        request=decode_whole(request.body),
        headers=request.envelope.headers,
        upstream=upstream,
        fingerprint=request.fingerprint,
        session=request.session,
        stream=request.head.stream is True,
    )
