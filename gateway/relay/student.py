"""A student's try at a request: held until it has begun well, given to the teacher when it has not."""

import asyncio
import logging
from typing import Protocol

import msgspec

from capture.events import EventParser
from gateway.breaker import BROKEN
from gateway.plan import Leg, Plan, StudentLeg
from gateway.relay import causes, events
from gateway.relay.causes import Cause
from gateway.relay.events import StreamError
from gateway.relay.framing import MalformedError, ResponseHead
from gateway.relay.held import Held
from gateway.relay.pool import Call, Pool

_log = logging.getLogger("stillhouse.relay")
_MAX_HELD_BYTES = 16 * 1024 * 1024


class Relays(Protocol):
    """The exchange, as a try sees it."""

    def student_answers(self, trial: "Trial") -> None: ...

    def received(self, head: ResponseHead | None, data: bytes, end: bool) -> None: ...

    def fall_back(self, reason: str, answered: bool | None) -> None: ...

    def student_broke_off(self) -> None: ...


class Trying(Protocol):
    """What a try needs of the relay's context."""

    @property
    def pool(self) -> Pool: ...

    @property
    def held(self) -> Held: ...


class InvalidError(ValueError):
    """A student's answer that must not leave; its text is the reason recorded.

    `answered` is false where it says that the student's server failed: the circuit is to hear of it as of a teacher's.
    """

    def __init__(self, reason: str, answered: bool = True) -> None:
        super().__init__(reason)
        self.answered = answered


class Trial:
    """The receiver of a student's response.

    A unary body is held whole, a stream until its first content (or whole, where it is `buffered`). An error status,
    a failure, an invalid answer or the deadline gives the request to the teacher. Once it was released, whole events
    pass as they come, so that an error event can follow at any time.
    """

    __slots__ = (
        "_deadline",
        "_exchange",
        "_has_content",
        "_head",
        "_held",
        "_held_bytes",
        "_parser",
        "_plan",
        "_pool",
        "_rest",
        "_room",
        "_student",
        "answers",
        "call",
    )

    def __init__(self, exchange: Relays, student: StudentLeg, plan: Plan, context: Trying) -> None:
        self.answers = False
        self.call: Call | None = None
        self._exchange = exchange
        self._student = student
        self._plan = plan
        self._pool = context.pool
        self._room = context.held
        self._head: ResponseHead | None = None
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._rest = b""  # of a released stream: what is not a whole event yet
        self._parser = EventParser()
        self._has_content = False  # of a stream: an event with content came
        self._deadline: asyncio.TimerHandle | None = None

    @property
    def leg(self) -> Leg:
        return self._student.leg

    def start(self) -> None:
        try:
            self.call = self._pool.send(self._student.leg, self)
        except MalformedError:
            _log.exception("a request for the student %s could not be written", self._student.leg.served_model)
            self._exchange.fall_back("student_error", None)
            return
        self._deadline = self._pool.loop.call_later(self._student.deadline_s, self._overdue)

    def cancel(self) -> None:
        self._disarm()
        self._let_go_of_held()
        if self.call is not None:
            self.call.cancel()
            self.call = None

    def _let_go_of_held(self) -> None:
        self._held.clear()
        self._room.give_back(self._held_bytes)
        self._held_bytes = 0

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _overdue(self) -> None:
        self._fall_back("student_deadline", False)

    def _fall_back(self, reason: str, answered: bool | None) -> None:
        self.cancel()
        self._exchange.fall_back(reason, answered)

    # the upstream's side

    def received(self, head: ResponseHead | None, data: bytes, end: bool) -> None:
        if self.answers:
            self._pass(data, end)
            return
        try:
            if head is not None:
                self._judge_head(head)
            self._hold(data)
            ready = self._stream_is_ready(data, end) if self._plan.stream else self._body_is_ready(end)
        except StreamError:
            self._fall_back("student_error", False)
        except InvalidError as invalid:
            self._fall_back(str(invalid), invalid.answered)
        else:
            if ready:
                self._let_go(end)

    def failed(self, cause: Cause) -> None:
        if self.answers:
            self._exchange.student_broke_off()
        else:
            reason = "student_unreachable" if cause in causes.NEVER_SENT else "student_error"
            self._fall_back(reason, None if cause in causes.OURS else False)

    def upload_paused(self, paused: bool) -> None:
        """A student's request is complete from the start: there is nothing to hold."""

    # the judgement

    def _judge_head(self, head: ResponseHead) -> None:
        self._head = head
        if not 200 <= head.status < 300:
            raise InvalidError("student_error", head.status not in BROKEN)
        if head.content_encoding not in (b"", b"identity"):
            raise InvalidError("student_invalid:encoding")
        if self._plan.stream and head.content_type[:17].lower() != b"text/event-stream":
            raise InvalidError("student_invalid:no_stream")

    def _hold(self, data: bytes) -> None:
        self._held.append(data)
        self._held_bytes += len(data)
        if not self._room.take(len(data)) or self._held_bytes > _MAX_HELD_BYTES:
            raise InvalidError("student_invalid:too_large")

    def _body_is_ready(self, end: bool) -> bool:
        if not end:
            return False
        body = self._joined()
        try:
            answer = msgspec.json.decode(body)
        except (msgspec.DecodeError, RecursionError):
            raise InvalidError("student_invalid:not_json") from None
        if not isinstance(answer, dict) or answer.get("error"):
            raise InvalidError("student_error", False)
        self._validate(body, is_stream=False)
        return True

    def _stream_is_ready(self, data: bytes, end: bool) -> bool:
        contents = [events.content_of(event.data) for event in self._parser.feed(data)]
        if any(content is not None for content in contents):
            self._has_content = True
            self._disarm()
        if end and not self._has_content:
            raise InvalidError("student_invalid:empty")
        if not self._student.buffered:
            return self._has_content
        if end:
            self._validate(self._joined(), is_stream=True)
        return end

    def _joined(self) -> bytes:
        """What is held, in one piece from now on."""
        if len(self._held) != 1:
            self._held = [b"".join(self._held)]
        return self._held[0]

    def _validate(self, body: bytes, *, is_stream: bool) -> None:
        if self._student.valid is None:
            return
        try:
            reason = self._student.valid(body, is_stream)
        except Exception:  # noqa: BLE001 - the edge: what cannot be judged does not leave
            _log.exception("a student's answer could not be validated")
            reason = "validator"
        if reason is not None:
            raise InvalidError(f"student_invalid:{reason}")

    # the release

    def _let_go(self, end: bool) -> None:
        self._disarm()
        self.answers = True
        self._exchange.student_answers(self)
        held = self._joined()
        self._let_go_of_held()
        self._pass(held, end, self._head)

    def _pass(self, data: bytes, end: bool, head: ResponseHead | None = None) -> None:
        """Sends on whole events; a unary body is whole by now."""
        data = self._rest + data
        cut = len(data) if end else events.end_of_last_event(data)
        data, self._rest = data[:cut], data[cut:]
        if head is not None or data or end:
            self._exchange.received(head, data, end)
