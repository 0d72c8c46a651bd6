"""The copy of one exchange: kept while it is relayed, appended to the spool before its end can be known."""

import logging
import re
import time
from typing import Protocol

import msgspec

from capture.exchange import Arm, Exchange, encode
from gateway.plan import Leg, Plan
from gateway.relay.causes import Cause
from gateway.relay.counters import Counters
from gateway.relay.events import TerminalScanner, content_pattern, is_plain_stream
from gateway.relay.framing import ResponseHead
from gateway.relay.held import Held

_log = logging.getLogger("stillhouse.relay")


class Appends(Protocol):
    """The spool. It counts, per task, what it saw, what asked not to be captured, and what it had to drop."""

    def append(self, record: bytes, task: str | None = None) -> bool:
        """False when the record was dropped."""

    def opt_out(self, task: str | None) -> None:
        """An exchange whose client asked not to be captured."""


class Copying(Protocol):
    @property
    def copy_bytes(self) -> int: ...


class Keeping(Protocol):
    """Where records go and what bounds them: the relay's context."""

    @property
    def spool(self) -> Appends: ...

    @property
    def counters(self) -> Counters: ...

    @property
    def held(self) -> Held: ...

    @property
    def limits(self) -> Copying: ...


class Asked(msgspec.Struct, frozen=True):
    """What is known of an exchange before anything comes back."""

    id: str
    started_at: float  # Unix seconds
    began: float  # time.perf_counter of the same moment
    request: bytes
    request_encoding: str


class Recording:
    """Copies a response and tells what of it may leave.

    `take` gets body bytes as they come and returns those that may be written now. At the end of the message, and in a
    plain event stream before its terminal event, the record is appended first. At most `copy_bytes` are kept; a
    longer response, or one that the process has no room for, is recorded cut off, incomplete with the cause
    `too_large` or `gateway_overloaded`, and goes on to the client.
    """

    __slots__ = (
        "_asked",
        "_content",
        "_copied",
        "_copy_bytes",
        "_counters",
        "_head",
        "_held",
        "_pieces",
        "_plan",
        "_scanner",
        "_spool",
        "_withheld",
        "appended",
        "arm",
        "first_ms",
        "leg",
        "reason",
    )

    def __init__(self, asked: Asked, plan: Plan, keeping: Keeping) -> None:
        self.appended = False
        self.first_ms: float | None = None
        self.arm: Arm = plan.arm
        self.reason = plan.reason
        self.leg: Leg = plan.leg
        self._asked = asked
        self._plan = plan
        self._spool = keeping.spool
        self._counters = keeping.counters
        self._held = keeping.held
        self._copy_bytes = keeping.limits.copy_bytes
        self._copied = 0
        self._pieces: list[bytes] = []
        self._withheld: list[bytes] = []
        self._scanner: TerminalScanner | None = None
        self._content: re.Pattern[bytes] | None = None  # of a stream, until some has come
        self._head: ResponseHead | None = None

    def begin(self, head: ResponseHead) -> None:
        self._head = head
        if is_plain_stream(head):
            self._scanner = TerminalScanner()
            self._content = content_pattern(self._plan.route)

    def take(self, data: bytes, end: bool) -> bytes:
        if self.first_ms is None and data:
            self.first_ms = (time.perf_counter() - self._asked.began) * 1000
            if self._plan.stream:
                self._counters.first_event_ms.add(self.first_ms)
        if self._content is not None and self._content.search(data):
            self._content = None
            self.first_ms = (time.perf_counter() - self._asked.began) * 1000
        if self.appended:
            return data
        self._copied += len(data)
        has_room = self._held.take(len(data))
        if self._copied > self._copy_bytes or not has_room:
            self._pieces.append(data[: max(0, len(data) - (self._copied - self._copy_bytes))])
            self.append(complete=False, cause=Cause.TOO_LARGE if has_room else Cause.OVERLOADED)
            return self._release(data)
        self._pieces.append(data)
        if end:
            self.append(complete=True, cause=None)
            return self._release(data)
        return data if self._scanner is None else self._scan(self._scanner, data)

    def _scan(self, scanner: TerminalScanner, data: bytes) -> bytes:
        allowed = scanner.feed(data)
        if scanner.ended:
            self.append(complete=True, cause=None)
            return self._release(data)
        if allowed == len(data):
            return data
        self._withheld.append(data[allowed:])
        return data[:allowed]

    def _release(self, data: bytes) -> bytes:
        return self.withheld() + data if self._withheld else data

    def withheld(self) -> bytes:
        """What was held back until the record was written; it is let go here, once."""
        released = b"".join(self._withheld)
        self._withheld.clear()
        return released

    def append(self, *, complete: bool, cause: str | None, status: int | None = None) -> None:
        """Writes the record, once. A spool that cannot be written loses the record, counted, and never the answer."""
        if self.appended:
            return
        self.appended = True
        exchange = self._exchange(complete, cause, status)
        record = encode(exchange)
        self._pieces.clear()
        self._held.give_back(self._copied)
        try:
            kept = self._spool.append(record, self._plan.task)
        except Exception:  # noqa: BLE001 - the edge: a full or broken disk fails no request
            _log.exception("the spool could not be written; the exchange %s is not kept", self._asked.id)
            kept = False
        if kept:
            self._counters.appended += 1
        else:
            self._counters.not_appended += 1
        self._tell(exchange, record)

    def _tell(self, exchange: Exchange, record: bytes) -> None:
        plan = self._plan
        if plan.settle is None and plan.ended is None:
            return
        try:
            if plan.settle is not None:
                plan.settle(exchange)
            if plan.ended is not None:
                plan.ended(record)
        except Exception:  # noqa: BLE001 - the edge: counting fails no answer
            _log.exception("the exchange %s could not be told of", exchange.id)

    def _exchange(self, complete: bool, cause: str | None, status: int | None) -> Exchange:
        asked, plan, head = self._asked, self._plan, self._head
        return Exchange(
            id=asked.id,
            started_at=asked.started_at,
            route=plan.route,
            task=plan.task,
            key_id=plan.key_id,
            session=plan.session,
            fingerprint=plan.fingerprint,
            rollout=plan.rollout,
            student=plan.student_name,
            assignment=plan.assignment,
            arm=self.arm,
            reason=self.reason,
            upstream=self.leg.address.upstream,
            model=plan.model,
            served_model=self.leg.served_model,
            status=status if status is not None else head.status if head is not None else 0,
            stream=plan.stream,
            store=plan.store,
            complete=complete,
            cause=cause,
            first_ms=self.first_ms,
            duration_ms=(time.perf_counter() - asked.began) * 1000,
            request=asked.request,
            request_encoding=asked.request_encoding,
            response=b"".join(self._pieces),
            response_type=head.content_type.decode("latin-1") if head is not None else "",
            response_encoding=head.content_encoding.decode("latin-1") if head is not None else "",
        )

    def note(self, data: bytes) -> None:
        """Adds bytes of our own (an error event, a refusal's body) to the copy."""
        self._pieces.append(data)
