"""What the router decides and the relay carries out: plain data between the two, no I/O."""

from collections.abc import Callable, Iterable
from enum import StrEnum

import msgspec

from capture.exchange import Arm, Assignment, Exchange

NAME_CHARACTERS = 256
"""Of a model's name, which is its client's to choose: what is longer is nowhere remembered, nor sent back whole."""


class Surface(StrEnum):
    """How a request is treated, told from its method and path alone."""

    CAPTURED = "captured"  # chat completions and responses: the body is read whole, planned, relayed and captured
    PASSED = "passed"  # every other /v1 route: streamed both ways, neither held nor captured
    LOCAL = "local"  # ours: handed to the FastAPI app


class RequestHead(msgspec.Struct):
    """The head of a request as it came. `target` is path and query; header names are lower case, order kept.

    It is the same object for as long as its connection sends the same head: `read` is what the router made of it.
    """

    method: str
    target: str
    headers: tuple[tuple[bytes, bytes], ...]
    read: object = None

    def header(self, name: bytes) -> bytes | None:
        """The first value of a header (lower-case name), or None."""
        return next((value for key, value in self.headers if key == name), None)


class Address(msgspec.Struct, frozen=True):
    """An upstream as the relay needs it: where to connect and how long to wait (seconds)."""

    upstream: str  # its name
    host: str
    port: int
    tls: bool
    connect_timeout_s: float = 5
    first_byte_timeout_s: float = 120
    between_bytes_timeout_s: float = 120
    total_timeout_s: float = 1800
    max_connections: int = 1000


class Leg(msgspec.Struct, frozen=True):
    """One request to send: complete but for framing. `body` is None where the client's body is streamed through.

    `headers` hold everything to send but host, connection, content-length and transfer-encoding, which the relay adds.
    """

    address: Address
    method: str
    target: str
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes | None
    served_model: str = ""
    circuit: str = ""  # what the breaker counts it under; empty: it is not counted
    hides_usage: bool = False  # it asks for a stream's usage, which its client did not: to be taken out again


class StudentLeg(msgspec.Struct, frozen=True):
    """A leg to a student, with the conditions under which the teacher takes over.

    `valid` gets the whole unary body, or the whole stream where it is `buffered`, and returns the reason why it must
    not leave (None when it may). `buffered` holds the whole stream until it was validated; otherwise the
    stream is held until its first content.
    """

    leg: Leg
    deadline_s: float
    valid: Callable[[bytes, bool], str | None] | None = None  # (body, is_stream) -> reason
    buffered: bool = False


class Plan(msgspec.Struct, frozen=True):
    """What happens to one request: who is asked, and what is written down of it."""

    leg: Leg  # the teacher's, or simply the upstream's
    student: StudentLeg | None = None
    captured: bool = False
    opted_out: bool = False  # x-stillhouse-capture: off: counted, never kept
    route: str = ""  # "chat.completions" or "responses"
    task: str | None = None
    key_id: str | None = None
    session: str | None = None
    fingerprint: str | None = None
    rollout: str | None = None
    student_name: str | None = None
    assignment: Assignment | None = None
    arm: Arm = Arm.TEACHER
    reason: str | None = None  # why it was not eligible
    model: str = ""
    stream: bool = False
    store: bool = False
    release: tuple[Callable[[], None], ...] = ()  # called once when the exchange ends (limits, capacity)
    settle: Callable[[Exchange], None] | None = None  # gets the finished exchange, where its tokens are metered
    others: Iterable[Leg] = ()  # asked in this order while nothing of an answer has left; may include `leg`
    observe: Callable[[str, bool], None] | None = None  # (circuit, whether it answered), for each leg that was tried
    ended: Callable[[bytes], None] | None = None  # gets the finished record, where telemetry is on


class Refusal(msgspec.Struct, frozen=True):
    """An answer of our own in OpenAI's shape, sent at once and never captured."""

    status: int
    message: str
    type: str = "invalid_request_error"
    param: str | None = None
    code: str | None = None
    headers: tuple[tuple[bytes, bytes], ...] = ()
