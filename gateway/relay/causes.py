"""Why an exchange did not end well, and what the client is told of it."""

from enum import StrEnum

from gateway.plan import Refusal


class Cause(StrEnum):
    """Written into an exchange's `cause` and counted by name."""

    UNREACHABLE = "upstream_unreachable"  # refused, no such host, TLS not to be trusted
    BUSY = "upstream_busy"  # all the connections that it may have are in use
    CONNECT_TIMEOUT = "upstream_connect_timeout"
    FIRST_BYTE_TIMEOUT = "upstream_first_byte_timeout"
    STALLED = "upstream_stalled"
    TOTAL_TIMEOUT = "upstream_total_timeout"
    BROKE_OFF = "upstream_broke_off"
    FRAMING = "upstream_framing"
    CLIENT_LEFT = "client_left"
    CLIENT_BROKEN = "client_broken"  # its request turned out malformed, too large or too slow while it was relayed
    CLIENT_STALLED = "client_stalled"
    TOO_LARGE = "too_large"
    OVERLOADED = "gateway_overloaded"  # no room to keep the rest of its answer
    STUDENT_BROKE_OFF = "student_broke_off"
    STOPPED = "gateway_stopped"
    INTERNAL = "internal"


NEVER_SENT = frozenset({Cause.UNREACHABLE, Cause.CONNECT_TIMEOUT, Cause.BUSY})
OURS = frozenset({Cause.BUSY, Cause.INTERNAL})  # they say nothing of the upstream
_UNAVAILABLE = frozenset({Cause.BUSY, Cause.STOPPED})
_TIMEOUTS = frozenset({Cause.CONNECT_TIMEOUT, Cause.FIRST_BYTE_TIMEOUT, Cause.STALLED, Cause.TOTAL_TIMEOUT})
_MESSAGES = {
    Cause.UNREACHABLE: "The upstream {0!r} cannot be reached.",
    Cause.BUSY: "All connections to the upstream {0!r} are in use.",
    Cause.CONNECT_TIMEOUT: "The upstream {0!r} could not be connected to in time.",
    Cause.FIRST_BYTE_TIMEOUT: "The upstream {0!r} did not begin to answer in time.",
    Cause.STALLED: "The upstream {0!r} stopped answering.",
    Cause.TOTAL_TIMEOUT: "The upstream {0!r} did not finish its answer in time.",
    Cause.BROKE_OFF: "The upstream {0!r} closed the connection without an answer.",
    Cause.FRAMING: "The upstream {0!r} answered with something that is not HTTP/1.1.",
    Cause.STOPPED: "The gateway is stopping.",
}


def refusal(cause: Cause, upstream: str) -> Refusal:
    """The answer of our own where the upstream gave none: 504 for time limits, 503 while stopping or busy, else 502.

    Once a request was sent, a retry may be charged twice: the SDKs are told not to (`x-should-retry: false`).
    """
    status = 504 if cause in _TIMEOUTS else 503 if cause in _UNAVAILABLE else 502
    message = _MESSAGES.get(cause, "The upstream {0!r} failed.").format(upstream)
    headers: tuple[tuple[bytes, bytes], ...] = () if cause in NEVER_SENT else ((b"x-should-retry", b"false"),)
    if cause is Cause.BUSY:
        headers = ((b"retry-after", b"1"),)
    return Refusal(status, message, type="server_error", code=str(cause), headers=headers)
