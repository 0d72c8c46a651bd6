"""Keep-alive connections to upstreams, and the calls that use them: time limits, one safe retry, cancellation."""

import asyncio
import ssl
from collections import deque
from typing import Protocol

from gateway.plan import Address, Leg
from gateway.relay import framing
from gateway.relay.causes import Cause
from gateway.relay.counters import Counters
from gateway.relay.framing import ResponseHead
from gateway.relay.sweep import Sweep
from gateway.relay.upstream import UpstreamConnection, connect

Key = tuple[str, int, bool]  # host, port, TLS

_IDLE_S = 30.0  # below the idle limits of the usual load balancers (60 s)
_IDLE_PER_ADDRESS = 256
_STALE_WITHIN_S = 1.0  # a stale connection is found out at once; later than that the upstream may have begun to work
_KEPT_FOR_RETRY = 64 * 1024


class PoolFullError(OSError):
    """An upstream has as many connections as it may have."""


class Receiver(Protocol):
    """Whoever asked. Exactly one of `received(…, end=True)` and `failed` comes last; none after `Call.cancel`."""

    def received(self, head: ResponseHead | None, data: bytes, end: bool) -> None: ...

    def failed(self, cause: Cause) -> None: ...

    def upload_paused(self, paused: bool) -> None: ...


class Call:
    """One request under way to one upstream."""

    __slots__ = (
        "_address",
        "_connecting",
        "_connection",
        "_head_seen",
        "_last_at",
        "_paused",
        "_pool",
        "_receiver",
        "_retried",
        "_sent",
        "_sent_at",
        "_started_at",
        "_unsent",
        "_upload_ended",
        "method",
        "pooled",
    )

    def __init__(self, pool: "Pool", leg: Leg, receiver: Receiver, request: bytes, upload_ended: bool) -> None:
        self.method = leg.method
        self.pooled = False  # went out on a connection that was there already
        self._pool = pool
        self._address = leg.address
        self._receiver = receiver
        self._sent: bytes | None = request  # kept for the retry until it is too large or the answer begins
        self._unsent: list[bytes] = []
        self._upload_ended = upload_ended
        self._connection: UpstreamConnection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._retried = False
        self._head_seen = False
        self._paused = False
        self._started_at = self._sent_at = self._last_at = pool.loop.time()

    # the asker's side

    def cancel(self) -> None:
        """Closes the connection; nothing more is told to the receiver."""
        self._pool.watch.discard(self)
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def pause(self) -> None:
        """The client is slow: stop reading from the upstream."""
        self._paused = True
        if self._connection is not None:
            self._connection.pause()

    def resume(self) -> None:
        self._paused = False
        self._last_at = self._pool.loop.time()
        if self._connection is not None:
            self._connection.resume()

    def upload(self, data: bytes, end: bool) -> None:
        """More of a streamed request body, framed already."""
        if end:
            self._upload_ended = True
            self._sent_at = self._pool.loop.time()
        if self._sent is not None:
            self._sent = self._sent + data if len(self._sent) + len(data) <= _KEPT_FOR_RETRY else None
        if self._connection is not None:
            self._connection.write(data)
        else:
            self._unsent.append(data)

    # the connection's side

    def received(self, head: ResponseHead | None, data: bytes, end: bool) -> None:
        self._last_at = self._pool.loop.time()
        if head is not None:
            self._head_seen = True
            self._sent = None
        if end:
            connection, self._connection = self._connection, None
            self._pool.watch.discard(self)
            if not self._upload_ended and connection is not None:
                connection.close()  # the upstream has not read the whole request: useless for the next one
        self._receiver.received(head, data, end)

    def lost(self, cause: Cause, nothing_came: bool) -> None:
        connection, self._connection = self._connection, None
        stale = connection is not None and connection.used and nothing_came
        soon = self._pool.loop.time() - self._sent_at < _STALE_WITHIN_S
        if cause is Cause.BROKE_OFF and stale and soon and not self._retried and self._sent is not None:
            self._retried = True
            self._pool.counters.retries += 1
            self._unsent = [self._sent]
            self._connect()
            return
        self._fail(cause)

    def upload_paused(self, paused: bool) -> None:
        self._receiver.upload_paused(paused)

    # the pool's side

    def start(self, connection: UpstreamConnection | None) -> None:
        if connection is None:
            self._unsent.append(self._sent or b"")
            self._connect()
            return
        self.pooled = True
        self._connection = connection
        connection.serve(self, self._sent or b"")

    def check(self, now: float) -> None:
        """Enforces the time limits; a paused call waits for the client, not for the upstream."""
        address = self._address
        if now - self._started_at > address.total_timeout_s:
            self._give_up(Cause.TOTAL_TIMEOUT)
        elif self._connection is None or self._paused or not self._upload_ended:
            return
        elif not self._head_seen and now - self._sent_at > address.first_byte_timeout_s:
            self._give_up(Cause.FIRST_BYTE_TIMEOUT)
        elif self._head_seen and now - self._last_at > address.between_bytes_timeout_s:
            self._give_up(Cause.STALLED)

    def _give_up(self, cause: Cause) -> None:
        self.cancel()
        self._receiver.failed(cause)

    def _fail(self, cause: Cause) -> None:
        self._pool.watch.discard(self)
        self._receiver.failed(cause)

    def _connect(self) -> None:
        self._connecting = self._pool.loop.create_task(self._connect_and_send())

    async def _connect_and_send(self) -> None:
        try:
            connection = await self._pool.open(self._address)
        except TimeoutError:
            self._connecting = None
            self._fail(Cause.CONNECT_TIMEOUT)
            return
        except PoolFullError:
            self._connecting = None
            self._fail(Cause.BUSY)
            return
        except OSError:
            self._connecting = None
            self._fail(Cause.UNREACHABLE)
            return
        self._connecting = None
        if connection.closing:
            self._fail(Cause.UNREACHABLE)
            return
        self._sent_at = self._pool.loop.time()
        self._connection = connection
        request = b"".join(self._unsent)
        self._unsent.clear()
        connection.serve(self, request)
        if self._paused:
            connection.pause()


class Pool:
    """Must be made inside the event loop that it serves; `close` drops every connection."""

    def __init__(self, sweep: Sweep, counters: Counters, tls: ssl.SSLContext | None = None) -> None:
        self.loop = asyncio.get_running_loop()
        self.counters = counters
        self.watch = sweep.watched
        self.watch.add(self)
        self._tls = tls
        self._idle: dict[Key, deque[UpstreamConnection]] = {}
        self._open: dict[Key, set[UpstreamConnection]] = {}
        self._connecting: dict[Key, int] = {}
        self._hosts: dict[Key, bytes] = {}

    def send(self, leg: Leg, receiver: Receiver, framing_line: bytes = b"") -> Call:
        """Sends `leg` at once if a connection is idle, else when one is made.

        Where `leg.body` is None the body is streamed: `framing_line` says how (empty: there is none), and
        `Call.upload` brings it. Raises framing.MalformedError for headers that cannot be sent.
        """
        address = leg.address
        key = (address.host, address.port, address.tls)
        host = self._hosts.get(key) or self._hosts.setdefault(key, _host_of(address))
        streamed = leg.body is None
        if leg.body is not None:
            framing_line = framing.length_line(len(leg.body))
        head = framing.request_head(leg.method, leg.target, host, leg.headers, framing_line)
        request = head + leg.body if leg.body else head
        call = Call(self, leg, receiver, request, upload_ended=not streamed or not framing_line)
        self.watch.add(call)
        call.start(self._take(key))
        return call

    async def open(self, address: Address) -> UpstreamConnection:
        """A new connection. Raises OSError (PoolFullError among them) or TimeoutError."""
        key = (address.host, address.port, address.tls)
        connecting, there = self._connecting.get(key, 0), self._open.setdefault(key, set())
        if connecting + len(there) >= address.max_connections:
            raise PoolFullError
        self._connecting[key] = connecting + 1
        try:
            tls = self._tls_context() if address.tls else None
            connection = await connect(self, key, tls, address.connect_timeout_s)
        finally:
            self._connecting[key] -= 1
        if not connection.closing:
            there.add(connection)
        return connection

    def idle(self, connection: UpstreamConnection) -> None:
        """Takes back a connection whose response has ended."""
        waiting = self._idle.setdefault(connection.key, deque())
        connection.idle_since = self.loop.time()
        waiting.append(connection)
        if len(waiting) > _IDLE_PER_ADDRESS:
            waiting.popleft().close()

    def gone(self, connection: UpstreamConnection) -> None:
        self._open.get(connection.key, set()).discard(connection)
        waiting = self._idle.get(connection.key)
        if waiting and connection in waiting:
            waiting.remove(connection)

    def check(self, now: float) -> None:
        """Closes what has been idle for too long."""
        for waiting in list(self._idle.values()):
            while waiting and now - waiting[0].idle_since > _IDLE_S:
                waiting.popleft().close()

    def close(self) -> None:
        self.watch.discard(self)
        for connection in [one for there in self._open.values() for one in there]:
            connection.close()

    def _take(self, key: Key) -> UpstreamConnection | None:
        waiting = self._idle.get(key)
        while waiting:
            connection = waiting.pop()
            if not connection.closing:
                return connection
        return None

    def _tls_context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
            self._tls.set_alpn_protocols(["http/1.1"])
        return self._tls


def _host_of(address: Address) -> bytes:
    host = f"[{address.host}]" if ":" in address.host else address.host
    default = 443 if address.tls else 80
    port = b"" if address.port == default else b":%d" % address.port
    return host.encode("ascii" if host.isascii() else "idna") + port
