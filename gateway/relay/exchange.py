"""One relayed request, from its head to the end of its answer: the state between a client and an upstream."""

import logging
import time
from typing import Protocol

from capture.exchange import Arm
from capture.ids import new_id
from gateway import errors
from gateway.plan import Leg, Plan, Refusal, RequestHead, Surface
from gateway.relay import causes, events, framing
from gateway.relay.causes import Cause
from gateway.relay.context import RelayContext
from gateway.relay.framing import Ending, MalformedError, RequestFraming, ResponseHead
from gateway.relay.pool import Call
from gateway.relay.recording import Asked, Recording
from gateway.relay.student import Trial

_log = logging.getLogger("stillhouse.relay")


class ClientSide(Protocol):
    """The client's connection, as an exchange uses it while it is the first in line."""

    write_paused: bool  # it takes no more for now

    def write(self, data: bytes) -> None: ...

    def done(self, keep_alive: bool) -> None:
        """The answer is written."""

    def broken(self) -> None:
        """The answer broke off: what was written leaves, then the connection closes without a proper end."""

    def hold_upload(self, hold: bool) -> None: ...


class Relayed:
    """Collects the request, asks the router, sends, relays and records. Driven by callbacks: it has no task."""

    __slots__ = (
        "_began",
        "_body",
        "_body_bytes",
        "_call",
        "_client",
        "_context",
        "_ending",
        "_over",
        "_plan",
        "_recording",
        "_started",
        "_status",
        "_trial",
        "body_complete",
        "framing",
        "head",
        "http11",
        "id",
        "keep_alive",
        "surface",
    )

    def __init__(
        self, context: RelayContext, client: ClientSide, head: RequestHead, surface: Surface, framing: RequestFraming
    ) -> None:
        self.head = head
        self.surface = surface
        self.framing = framing
        self.keep_alive = True
        self.http11 = True
        self.id = ""
        self.body_complete = False
        self._context = context
        self._client = client
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._started = False
        self._over = False
        self._plan: Plan | None = None
        self._recording: Recording | None = None
        self._call: Call | None = None
        self._trial: Trial | None = None
        self._ending = Ending.CHUNKED
        self._status = 0
        self._began = 0.0

    # the request

    def begin(self) -> None:
        """It is first in line now."""
        self._started = True
        if self.surface is Surface.CAPTURED:
            if self.body_complete:
                self._ask()
            elif self.framing.expects_continue:
                self._client.write(framing.CONTINUE)
        else:
            self._ask()
            if not self._over and self.framing.expects_continue and not self.body_complete:
                self._client.write(framing.CONTINUE)

    def body(self, data: bytes) -> bool:
        """Takes body bytes; False when they are too many."""
        self._body_bytes += len(data)
        limits = self._context.limits
        captured = self.surface is Surface.CAPTURED
        if self._body_bytes > (limits.body_bytes if captured else limits.passed_body_bytes):
            return False
        if captured or self._call is None:
            self._body.append(data)
        else:
            self._upload(self._call, data)
        return True

    def end_body(self) -> None:
        self.body_complete = True
        if not self._started:
            return
        if self.surface is Surface.CAPTURED:
            self._ask()
        elif self._call is not None:
            self._call.upload(framing.LAST_CHUNK if self.framing.chunked else b"", True)

    def _upload(self, call: Call, data: bytes) -> None:
        call.upload(framing.chunk(data) if self.framing.chunked else data, False)

    # the plan

    def _ask(self) -> None:
        """Once per request: the moment from which times are taken."""
        self._began = time.perf_counter()
        self._context.counters.in_flight += 1
        captured = self.surface is Surface.CAPTURED
        body = (self._body[0] if len(self._body) == 1 else b"".join(self._body)) if captured else None
        try:
            outcome = self._context.router.plan(self.head, body)
        except Exception:  # noqa: BLE001 - the edge: one request fails, the process goes on
            _log.exception("no plan could be made for a request")
            outcome = Refusal(500, "The gateway failed on this request.", type="server_error", code="internal")
        if isinstance(outcome, Refusal):
            self.refuse(outcome)
            return
        self._plan = outcome
        self.id = new_id()
        if outcome.captured:
            self._record(outcome, body or b"")
        if outcome.student is not None:
            self._trial = Trial(self, outcome.student, outcome, self._context.pool)
            self._trial.start()
        else:
            self._send(outcome.leg)

    def _record(self, plan: Plan, body: bytes) -> None:
        if plan.opted_out:
            self._context.spool.opt_out(plan.task)
            return
        encoding = (self.head.header(b"content-encoding") or b"").decode("latin-1")
        asked = Asked(self.id, time.time(), self._began, body, encoding)
        context = self._context
        self._recording = Recording(asked, plan, context.spool, context.counters, context.limits.copy_bytes)
        self._body.clear()

    def _send(self, leg: Leg) -> None:
        line = b""
        if leg.body is None:
            line = framing.CHUNKED_LINE if self.framing.chunked else b""
            if self.framing.length is not None:
                line = framing.length_line(self.framing.length)
        try:
            call = self._context.pool.send(leg, self, line)
        except MalformedError:
            _log.exception("a request for the upstream %s could not be written", leg.address.upstream)
            self.failed(Cause.INTERNAL)
            return
        self._take_over(call)
        if call.pooled:
            self._context.counters.added_ms.add((time.perf_counter() - self._began) * 1000)
        if leg.body is None and line:
            self._send_collected(call)

    def _take_over(self, call: Call) -> None:
        self._call = call
        if self._client.write_paused:  # by the answer before this one
            call.pause()

    def _send_collected(self, call: Call) -> None:
        """What came of a streamed body before the upstream was known."""
        for piece in self._body:
            self._upload(call, piece)
        self._body.clear()
        if self.body_complete:
            call.upload(framing.LAST_CHUNK if self.framing.chunked else b"", True)

    # the answer

    def received(self, head: ResponseHead | None, data: bytes, end: bool) -> None:
        if self._over:
            return
        out = self._open(head) if head is not None else b""
        if self._recording is not None and (data or end):
            data = self._recording.take(data, end)
        if data:
            out += framing.chunk(data) if self._ending is Ending.CHUNKED else data
        if end and self._ending is Ending.CHUNKED:
            out += framing.LAST_CHUNK
        if out:
            self._client.write(out)
        if end:
            self._call = None
            self._finish()
            self._client.done(self.keep_alive and self._ending is not Ending.CLOSE)

    def _open(self, head: ResponseHead) -> bytes:
        counters = self._context.counters
        counters.first_ms.add((time.perf_counter() - self._began) * 1000)
        self._status = head.status
        self._ending = framing.ending_of(self.head.method, head, self.http11)
        if not self.body_complete:
            self.keep_alive = False
        if self._recording is not None:
            self._recording.begin(head)
        return framing.response_start(head, self._ending, self._own_lines(), self.keep_alive)

    def _own_lines(self) -> bytes:
        plan = self._plan
        if plan is None:
            return b""
        if not plan.captured:
            return b"x-stillhouse-id: %b\r\n" % self.id.encode()
        arm, model = self._answering(plan)
        return b"x-stillhouse-id: %b\r\nx-stillhouse-arm: %b\r\nx-stillhouse-model: %b\r\n" % (
            self.id.encode(),
            arm.encode(),
            _header_value(model),
        )

    def _answering(self, plan: Plan) -> tuple[Arm, str]:
        """(arm, model) of whoever answers."""
        if self._trial is not None and self._trial.answers:
            return Arm.STUDENT, self._trial.leg.served_model
        return Arm.FALLBACK if self._trial is not None else plan.arm, plan.leg.served_model

    def failed(self, cause: Cause) -> None:
        """The upstream gave no answer, or broke it off: the client sees the one as an error, the other as it is."""
        if self._over or self._plan is None:
            return
        self._call = None
        self._context.counters.error(cause)
        if self._status == 0:
            upstream = self._plan.leg.address.upstream
            self._answer_ourselves(causes.refusal(cause, upstream), cause)
            return
        if self._recording is not None:
            self._recording.append(complete=False, cause=cause)
        self._finish()
        self._client.broken()

    def refuse(self, refusal: Refusal, cause: Cause | None = None) -> None:
        """Answers with an error of our own, if nothing was answered yet."""
        if self._over:
            return
        self._cancel_calls()
        if self._status != 0:
            self._abandon(cause or Cause.INTERNAL)
            self._client.broken()
            return
        self._context.counters.error(refusal.code or "refused")
        self._answer_ourselves(refusal, cause)

    def _answer_ourselves(self, refusal: Refusal, cause: Cause | None) -> None:
        body = errors.body(refusal)
        keep_alive = self.keep_alive and self.body_complete
        self._status = refusal.status
        if self._recording is not None:
            self._recording.note(body)
            self._recording.append(complete=False, cause=cause, status=refusal.status)
        response = framing.refusal_response(refusal, body, keep_alive, self._own_lines())
        if self.head.method == "HEAD":
            response = response[: len(response) - len(body)]
        self._client.write(response)
        self._finish()
        self._client.done(keep_alive)

    def upload_paused(self, paused: bool) -> None:
        if not self.body_complete:
            self._client.hold_upload(paused)

    # the student

    def student_answers(self, trial: Trial) -> None:
        """The held answer may leave: what follows comes through `received`."""
        if trial.call is not None:
            self._take_over(trial.call)
        if self._recording is not None:
            self._recording.arm = Arm.STUDENT
            self._recording.leg = trial.leg

    def fall_back(self, reason: str) -> None:
        """The teacher answers instead; the client notices nothing but headers."""
        if self._over or self._plan is None:
            return
        self._context.counters.error(reason.partition(":")[0])
        if self._recording is not None:
            self._recording.arm = Arm.FALLBACK
            self._recording.reason = reason
        self._send(self._plan.leg)

    def student_broke_off(self) -> None:
        """Some of its answer has left already: an error event ends the stream."""
        if self._over or self._plan is None:
            return
        self._call = None
        self._context.counters.error(Cause.STUDENT_BROKE_OFF)
        event = b""
        if self._plan.stream:
            event = events.error_event(self._plan.route, "The model stopped answering.", Cause.STUDENT_BROKE_OFF)
        if self._recording is not None:
            self._recording.note(event)
            self._recording.append(complete=False, cause=Cause.STUDENT_BROKE_OFF)
        if not event or self._ending is not Ending.CHUNKED:
            self._finish()
            self._client.broken()
            return
        self._client.write(framing.chunk(event) + framing.LAST_CHUNK)
        self._finish()
        self._client.done(self.keep_alive)

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
        self._abandon(cause)

    def _abandon(self, cause: Cause) -> None:
        if self._plan is not None:
            self._context.counters.error(cause)
        if self._recording is not None:
            self._recording.append(complete=False, cause=cause)
        self._finish()

    def _cancel_calls(self) -> None:
        if self._trial is not None:
            self._trial.cancel()
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _finish(self) -> None:
        """Counts and gives back what was taken, once."""
        self._over = True
        if self._began == 0.0:
            return
        counters, plan = self._context.counters, self._plan
        counters.in_flight -= 1
        if plan is None:
            counters.request("refused", self._status, "")
            return
        arm = self._answering(plan)[0] if plan.captured else ""
        counters.request(plan.route or "passed", self._status, arm)
        for release in plan.release:
            release()


def _header_value(text: str) -> bytes:
    """Model names are the clients': what cannot stand in a header is left out."""
    if text.isascii() and text.isprintable():
        return text.encode()
    return "".join(letter for letter in text if letter.isascii() and letter.isprintable()).encode()
