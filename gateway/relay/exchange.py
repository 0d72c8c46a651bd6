"""One relayed request, from its head to the end of its answer: the state between a client and an upstream."""

import logging
import time
from collections.abc import Iterator
from typing import Protocol

from capture.exchange import Arm
from capture.ids import new_id
from gateway.breaker import BROKEN
from gateway.plan import Leg, Plan, Refusal, RequestHead, Surface
from gateway.relay import causes, events, framing
from gateway.relay.answer import Answer, own_lines
from gateway.relay.causes import Cause
from gateway.relay.context import RelayContext
from gateway.relay.framing import MalformedError, RequestFraming, ResponseHead
from gateway.relay.hiding import UsageHider
from gateway.relay.incoming import Incoming
from gateway.relay.pool import Call
from gateway.relay.recording import Asked, Recording
from gateway.relay.student import Trial

_log = logging.getLogger("stillhouse.relay")
_GIVEN_ON = BROKEN | {429}  # the next teacher is asked, where the plan names one
_FAILED = Refusal(500, "The gateway failed on this request.", type="server_error", code="internal")


class ClientSide(Protocol):
    """The client's connection, as an exchange uses it while it is the first in line."""

    write_paused: bool  # it takes no more for now

    def write(self, data: bytes) -> None: ...

    def done(self, keep_alive: bool) -> None:
        """The answer is written."""

    def broken(self, looks_whole: bool) -> None:
        """The answer broke off: what was written leaves, then the connection closes without a proper end.

        `looks_whole`: closing is how this answer would end in any case, so that it must be a reset.
        """

    def hold_upload(self, hold: bool) -> None: ...


class Relayed:
    """Collects the request, asks the router, sends, relays and records. Driven by callbacks: it has no task."""

    __slots__ = (
        "_answer",
        "_began",
        "_call",
        "_client",
        "_context",
        "_head",
        "_hider",
        "_id",
        "_leg",
        "_others",
        "_over",
        "_peeks",
        "_plan",
        "_recording",
        "_screened",
        "_sent_at",
        "_started",
        "_trial",
        "incoming",
        "keep_alive",
        "surface",
    )

    def __init__(
        self,
        context: RelayContext,
        client: ClientSide,
        head: RequestHead,
        surface: Surface,
        asked: RequestFraming,
        http11: bool,
    ) -> None:
        limits = context.limits
        self.surface = surface
        self.keep_alive = http11
        most = limits.body_bytes if surface is Surface.CAPTURED else limits.passed_body_bytes
        self.incoming = Incoming(asked, most, context.held)
        self._peeks = surface is Surface.PASSED and self.incoming.expected and context.router.peeks(head)
        self._screened = False
        self._context = context
        self._client = client
        self._head = head
        self._answer = Answer(head.method, http11)
        self._id = ""
        self._began = 0.0
        self._sent_at = 0.0
        self._started = False
        self._over = False
        self._plan: Plan | None = None
        self._leg: Leg | None = None
        self._others: Iterator[Leg] = iter(())
        self._recording: Recording | None = None
        self._call: Call | None = None
        self._trial: Trial | None = None
        self._hider: UsageHider | None = None

    # the request

    def begin(self) -> None:
        """It is first in line now."""
        self._started = True
        if self.incoming.complete or self._may_ask_now():
            self._ask()
        if not self._over and self.incoming.expects_continue:
            self._client.write(framing.CONTINUE)

    def screen(self) -> Refusal | None:
        """Why it is refused before its body is there; asked once."""
        if self._screened or self._began:
            return None
        self._screened = True
        return self._context.router.screen(self._head)

    def body(self, data: bytes) -> Refusal | None:
        """Takes body bytes; why not, where they are too many."""
        refusal = self.incoming.add(data)
        if refusal is None and self._peeks and self._started and not self._began and self._may_ask_now():
            self._ask()
        return refusal

    def end_body(self) -> None:
        self.incoming.end()
        if self._started and not self._began and not self._over:
            self._ask()

    def _may_ask_now(self) -> bool:
        """While the body still comes."""
        if self.surface is Surface.CAPTURED:
            return False
        return not self._peeks or self.incoming.held >= self._context.limits.peek_bytes

    # the plan

    def _ask(self) -> None:
        """Once per request: the moment from which times are taken."""
        self._began = time.perf_counter()
        self._context.counters.in_flight += 1
        body = self.incoming.collected() if self.surface is Surface.CAPTURED else None
        router = self._context.router
        try:
            if self._peeks:
                outcome = router.plan_passed(self._head, self.incoming.beginning())
            else:
                outcome = router.plan(self._head, body)
        except Exception:  # noqa: BLE001 - the edge: one request fails, the process goes on
            _log.exception("no plan could be made for a request")
            outcome = _FAILED
        if isinstance(outcome, Refusal):
            self.refuse(outcome)
            return
        self._plan = outcome
        self._others = iter(outcome.others)
        self._id = new_id()
        if outcome.captured:
            self._record(outcome, body or b"")
        if outcome.student is not None:
            self._trial = Trial(self, outcome.student, outcome, self._context)
            self._sent_at = time.perf_counter()
            self._trial.start()
        else:
            self._send(outcome.leg)

    def _record(self, plan: Plan, body: bytes) -> None:
        context = self._context
        if plan.opted_out:
            context.spool.opt_out(plan.task)
            return
        asked = Asked(self._id, time.time(), self._began, body, self.incoming.encoding)
        self._recording = Recording(asked, plan, context)

    def _send(self, leg: Leg) -> None:
        self._leg = leg
        if self._recording is not None:
            self._recording.leg = leg
        line = self.incoming.framing_line if leg.body is None else b""
        try:
            call = self._context.pool.send(leg, self, line)
        except MalformedError:
            _log.exception("a request for the upstream %s could not be written", leg.address.upstream)
            self.failed(Cause.INTERNAL)
            return
        self._take_over(call)
        self._sent_at = time.perf_counter()
        if call.pooled:
            self._context.counters.added_ms.add((self._sent_at - self._began) * 1000)
        if line:
            self.incoming.stream_to(call)

    def _take_over(self, call: Call) -> None:
        self._call = call
        if self._client.write_paused:  # by the answer before this one
            call.pause()

    def _ask_another(self) -> bool:
        """Whether there is another teacher to ask: nothing of the answer has left."""
        leg = self._next_leg()
        if leg is None:
            return False
        self._send(leg)
        return True

    def _next_leg(self) -> Leg | None:
        """The next teacher's. It may be made only now: the router's code, run from a socket's callback."""
        try:
            return next(self._others, None)
        except Exception:  # noqa: BLE001 - the edge: nobody else is asked, the request still ends
            _log.exception("no other leg could be made for a request")
            return None

    # the answer

    def received(self, head: ResponseHead | None, data: bytes, end: bool) -> None:
        if self._over:
            return
        out = b""
        if head is not None:
            if head.status in _GIVEN_ON and self._given_on(head.status, end):
                return
            out = self._open(head)
        if self._recording is not None and (data or end):
            data = self._recording.take(data, end)
        if self._hider is not None:
            data = self._hider.feed(data, end)
        out += self._answer.framed(data, end)
        if out:
            self._client.write(out)
        if end:
            self._call = None
            self._finish()
            self._client.done(self.keep_alive and not self._answer.ends_by_closing)

    def _given_on(self, status: int, end: bool) -> bool:
        failed, leg = self._call, self._leg
        if not self._ask_another():
            return False
        self._observe(leg, status not in BROKEN)
        self._context.counters.error("upstream_status")
        if failed is not None and not end:
            failed.cancel()
        return True

    def _open(self, head: ResponseHead) -> bytes:
        self._observe(self._leg, head.status not in BROKEN)
        self._context.counters.first_ms.add((time.perf_counter() - self._began) * 1000)
        if not self.incoming.complete:
            self.keep_alive = False
        if self._recording is not None:
            self._recording.begin(head)
        if self._leg is not None and self._leg.hides_usage and events.is_plain_stream(head):
            self._hider = UsageHider()
            head.length = None  # fewer bytes will leave
        return self._answer.open(head, self._own_lines(), self.keep_alive)

    def _own_lines(self) -> bytes:
        if self._plan is None or self._leg is None:
            return b""
        return own_lines(self._id, self._arm if self._plan.captured else None, self._leg.served_model)

    @property
    def _arm(self) -> Arm:
        """Whoever answers."""
        if self._trial is None:
            return self._plan.arm if self._plan is not None else Arm.TEACHER
        return Arm.STUDENT if self._trial.answers else Arm.FALLBACK

    def failed(self, cause: Cause) -> None:
        """The upstream gave no answer, or broke it off: the client sees the one as an error, the other as it is."""
        if self._over or self._leg is None:
            return
        self._call = None
        self._context.counters.error(cause)
        if cause not in causes.OURS:
            self._observe(self._leg, False)
        if self._answer.status != 0:
            self._break_off(cause)
            return
        if not self._ask_another():
            self._answer_ourselves(causes.refusal(cause, self._leg.address.upstream), cause)

    def _break_off(self, cause: Cause) -> None:
        if self._recording is not None:
            self._recording.append(complete=False, cause=cause)
            rest = self._recording.withheld()
            rest = rest if self._hider is None else self._hider.feed(rest, True)
            self._client.write(self._answer.framed(rest, False))
        self._finish()
        self._client.broken(self._answer.ends_by_closing)

    def refuse(self, refusal: Refusal, cause: Cause | None = None) -> None:
        """Answers with an error of our own, if nothing was answered yet."""
        if self._over:
            return
        self._cancel_calls()
        self._context.counters.error(refusal.code or "refused")
        if self._answer.status != 0:
            self._break_off(cause or Cause.INTERNAL)
        else:
            self._answer_ourselves(refusal, cause)

    def _answer_ourselves(self, refusal: Refusal, cause: Cause | None) -> None:
        keep_alive = self.keep_alive and self.incoming.complete
        response, body = self._answer.refuse(refusal, self._own_lines(), keep_alive)
        if self._recording is not None:
            self._recording.note(body)
            self._recording.append(complete=False, cause=cause, status=refusal.status)
        self._client.write(response)
        self._finish()
        self._client.done(keep_alive)

    def upload_paused(self, paused: bool) -> None:
        if not paused or not self.incoming.complete:  # the last piece's pause ends after the body has come
            self._client.hold_upload(paused)

    # the student

    def student_answers(self, trial: Trial) -> None:
        """The held answer may leave: what follows comes through `received`."""
        self._leg = trial.leg
        if trial.call is not None:
            self._take_over(trial.call)
        if self._recording is not None:
            self._recording.arm = Arm.STUDENT
            self._recording.leg = trial.leg

    def fall_back(self, reason: str, answered: bool | None) -> None:
        """A teacher answers instead; the client notices nothing but headers.

        `answered` is for the student's circuit: whether its server works; None where what happened does not say.
        """
        if self._over or self._plan is None or self._trial is None:
            return
        self._context.counters.error(reason.partition(":")[0])
        if answered is not None:
            self._observe(self._trial.leg, answered)
        if self._recording is not None:
            self._recording.arm = Arm.FALLBACK
            self._recording.reason = reason
        self._send(self._next_leg() or self._plan.leg)

    def student_broke_off(self) -> None:
        """Some of its answer has left: an error event ends the stream, where its framing leaves room for one."""
        if self._over or self._plan is None:
            return
        self._call = None
        self._context.counters.error(Cause.STUDENT_BROKE_OFF)
        self._observe(self._leg, False)
        if not self._plan.stream or not self._answer.may_be_longer:
            self._break_off(Cause.STUDENT_BROKE_OFF)
            return
        event = events.error_event(self._plan.route, "The model stopped answering.", Cause.STUDENT_BROKE_OFF)
        if self._recording is not None:
            self._recording.note(event)
            self._recording.append(complete=False, cause=Cause.STUDENT_BROKE_OFF)
        self._client.write(self._answer.framed(event, True))
        self._finish()
        self._client.done(self.keep_alive and not self._answer.ends_by_closing)

    # the client

    def pause(self) -> None:
        if self._call is not None:
            self._call.pause()

    def resume(self) -> None:
        if self._call is not None:
            self._call.resume()

    def abandon(self, cause: Cause) -> None:
        """Nobody waits for the answer any more: the upstream's connection closes, what came is recorded."""
        if self._over:
            return
        self._cancel_calls()
        if self._plan is not None:
            self._context.counters.error(cause)
        if self._recording is not None:
            self._recording.append(complete=False, cause=cause)
        self._finish()

    def _cancel_calls(self) -> None:
        self.incoming.stop()
        if self._trial is not None:
            self._trial.cancel()
        if self._call is not None:
            self._call.cancel()
            self._call = None

    # the end

    def _observe(self, leg: Leg | None, answered: bool) -> None:
        if leg is not None and leg.circuit and self._plan is not None and self._plan.observe is not None:
            self._plan.observe(leg.circuit, answered)

    def _finish(self) -> None:
        """Counts and gives back what was taken, once."""
        self._over = True
        self.incoming.stop()
        if self._began == 0.0:
            return
        counters, plan = self._context.counters, self._plan
        counters.in_flight -= 1
        if plan is None:
            counters.request("refused", self._answer.status, "")
            return
        counters.request(plan.route or "passed", self._answer.status, self._arm if plan.captured else "")
        if self._sent_at:
            counters.upstream_ms.add((time.perf_counter() - self._sent_at) * 1000)
        for release in plan.release:
            try:
                release()
            except Exception:  # noqa: BLE001 - the edge: the client's answer is complete whatever this does
                _log.exception("what an exchange had taken could not be given back")
