"""What the relay needs from outside, in one frozen object that uvicorn's lifespan state carries to each connection."""

import asyncio
import ssl
from dataclasses import dataclass, field
from typing import Protocol

from gateway.plan import Plan, Refusal, RequestHead, Surface
from gateway.relay.counters import Counters
from gateway.relay.held import Held
from gateway.relay.pool import Pool
from gateway.relay.recording import Appends
from gateway.relay.sweep import Sweep

STATE_KEY = "relay"


class Router(Protocol):
    """Decides; does no I/O and never blocks."""

    def surface(self, method: str, path: str) -> Surface:
        """`path` is decoded and without query."""

    def screen(self, head: RequestHead) -> Refusal | None:
        """Why a request is refused before its body is read. `head.headers` are the end-to-end ones."""

    def peeks(self, head: RequestHead) -> bool:
        """Whether the body of a PASSED request says where it goes."""

    def plan(self, head: RequestHead, body: bytes | None) -> Plan | Refusal:
        """`body` is whole on a CAPTURED route, None on a PASSED one."""

    def plan_passed(self, head: RequestHead, beginning: bytes) -> Plan | Refusal:
        """A PASSED request whose body was looked at: all of it, or its first `peek_bytes`. It is streamed on."""


class Stoppable(Protocol):
    """A client's connection, as the context ends it."""

    def stop(self) -> None:
        """Records what is under way as broken off and closes."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may take of this process. Bytes and seconds."""

    head_bytes: int = 64 * 1024
    headers: int = 200
    body_bytes: int = 64 * 1024 * 1024  # held whole: captured routes
    passed_body_bytes: int = 1024 * 1024 * 1024  # streamed
    peek_bytes: int = 1024 * 1024  # of a passed body that says where it goes: held until so much came
    copy_bytes: int = 16 * 1024 * 1024  # of a response, for its record
    held_bytes: int = 1024 * 1024 * 1024  # bodies of all connections, at once
    connections: int = 4096
    pipelined: int = 32
    head_timeout_s: float = 10
    body_timeout_s: float = 30
    body_bytes_per_s: int = 4096  # a body may take longer than its timeout at no less than this
    keep_alive_s: float = 75
    stall_timeout_s: float = 120  # a client that reads nothing of its answer
    linger_s: float = 2  # time to read a refusal before the connection goes


@dataclass(frozen=True, slots=True)
class RelayContext:
    """One per gateway process; made by `open_relay` inside the running loop."""

    router: Router
    spool: Appends
    pool: Pool
    counters: Counters
    limits: Limits
    sweep: Sweep
    held: Held
    clients: set[Stoppable] = field(default_factory=set)

    def close(self) -> None:
        """Ends everything: exchanges still under way are recorded as broken off by us. Call it as the lifespan ends."""
        for client in list(self.clients):
            client.stop()
        self.pool.close()
        self.sweep.stop()


def open_relay(
    router: Router,
    spool: Appends,
    *,
    counters: Counters | None = None,
    limits: Limits | None = None,
    tls: ssl.SSLContext | None = None,
    sweep_interval_s: float = 0.5,
) -> RelayContext:
    """Must be called inside the event loop that serves. Put the result into the lifespan state under STATE_KEY."""
    counters, limits = counters or Counters(), limits or Limits()
    sweep = Sweep(asyncio.get_running_loop(), sweep_interval_s)
    return RelayContext(
        router, spool, Pool(sweep, counters, tls), counters, limits, sweep, Held(counters, limits.held_bytes)
    )
