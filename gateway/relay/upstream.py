"""One connection to an upstream: bytes of one response at a time, told to the call that it serves."""

import asyncio
from typing import Protocol, cast

import httptools

from gateway.relay import framing
from gateway.relay.causes import Cause
from gateway.relay.framing import ResponseHead
from gateway.relay.gathering import Gathering

_MAX_HEAD_BYTES = 256 * 1024


class Served(Protocol):
    """A call, as its connection sees it."""

    method: str

    def received(self, head: ResponseHead | None, data: bytes, end: bool) -> None:
        """What one read brought: the head once, body bytes without framing, and whether the message ended."""

    def lost(self, cause: Cause, nothing_came: bool) -> None:
        """The response will not be completed."""

    def upload_paused(self, paused: bool) -> None:
        """The upstream's socket does (not) take more of the request for now."""


class Owner(Protocol):
    """The pool, as a connection sees it."""

    loop: asyncio.AbstractEventLoop

    def idle(self, connection: "UpstreamConnection") -> None: ...

    def gone(self, connection: "UpstreamConnection") -> None: ...


class UpstreamConnection(asyncio.Protocol):
    """Parses responses with llhttp (strict). 1xx and trailers are dropped; a HEAD's connection is not used again."""

    __slots__ = (
        "_closing_body",
        "_ended",
        "_extra",
        "_head",
        "_head_done",
        "_interim",
        "_keep_alive",
        "_parser",
        "_pieces",
        "_raw_head",
        "call",
        "idle_since",
        "key",
        "owner",
        "transport",
        "used",
        "write_paused",
    )

    def __init__(self, owner: Owner, key: tuple[str, int, bool]) -> None:
        self.owner = owner
        self.key = key
        self.transport: asyncio.Transport | None = None
        self.call: Served | None = None
        self.used = False  # has carried a whole response before
        self.idle_since = 0.0
        self.write_paused = False
        self._parser = httptools.HttpResponseParser(self)
        self._reset()

    def _reset(self) -> None:
        self._raw_head = b""  # everything until the head was complete
        self._pieces: list[bytes] = []
        self._head: ResponseHead | None = None
        self._head_done = False
        self._interim = 0  # 1xx heads so far
        self._ended = False
        self._extra = False
        self._keep_alive = False
        self._closing_body = False

    def serve(self, call: Served, request: bytes) -> None:
        """Sends a request (or its beginning); the response goes to `call`."""
        self._reset()
        self.call = call
        self._transport().write(request)

    def write(self, data: bytes) -> None:
        self._transport().write(data)

    def close(self) -> None:
        """Leaves the call and drops the connection at once."""
        self.call = None
        self.owner.gone(self)
        self._transport().abort()

    def pause(self) -> None:
        if not self.closing:
            self._transport().pause_reading()

    def resume(self) -> None:
        if not self.closing:
            self._transport().resume_reading()

    @property
    def closing(self) -> bool:
        return self._transport().is_closing()

    def _transport(self) -> asyncio.Transport:
        if self.transport is None:
            raise RuntimeError("an upstream connection was used before it was made")
        return self.transport

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = Gathering(cast(asyncio.Transport, transport), self.owner.loop.call_soon)

    def connection_lost(self, exc: Exception | None) -> None:
        call, self.call = self.call, None
        self.owner.gone(self)
        self._parser = None  # it refers back to us
        if call is None:
            return
        if self._closing_body and exc is None:
            call.received(None, b"", True)
        else:
            call.lost(Cause.BROKE_OFF, not self._head_done and not self._raw_head)

    def pause_writing(self) -> None:
        self.write_paused = True
        if self.call is not None:
            self.call.upload_paused(True)

    def resume_writing(self) -> None:
        self.write_paused = False
        if self.call is not None:
            self.call.upload_paused(False)

    def data_received(self, data: bytes) -> None:
        call = self.call
        if call is None:  # unasked for: a 408 before closing, or worse
            self.close()
            return
        broken = self._parse(data)
        head, self._head = self._head, None
        body = b"".join(self._pieces) if len(self._pieces) != 1 else self._pieces[0]
        self._pieces.clear()
        if self._ended:
            self._release(broken)
            call.received(head, body, True)
            return
        if head is not None or body:
            call.received(head, body, False)
        if broken and self.call is call:
            self.close()
            call.lost(Cause.FRAMING, False)

    def _parse(self, data: bytes) -> bool:
        """Whether the bytes broke the protocol."""
        if not self._head_done:
            self._raw_head = self._raw_head + data if self._raw_head else data
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            return True
        return not self._head_done and len(self._raw_head) > _MAX_HEAD_BYTES

    def _release(self, broken: bool) -> None:
        self.call = None
        if self._keep_alive and not broken and not self._extra and not self.closing:
            self.used = True
            self.owner.idle(self)
        else:
            self.close()

    # llhttp's side

    def on_message_begin(self) -> None:
        if self._ended:
            self._extra = True

    def on_headers_complete(self) -> None:
        if self._head_done:
            return
        status = self._parser.get_status_code()
        if status < 200:
            self._interim += 1
            return
        head = framing.response_head(status, framing.head_block(self._raw_head, self._interim))
        self._raw_head = b""
        self._head_done = True
        self._head = head
        self._keep_alive = self._parser.should_keep_alive()
        method = self.call.method if self.call is not None else ""
        if method == "HEAD":
            self._ended = True
            self._keep_alive = False
        elif head.length is None and not head.chunked and not framing.has_no_body(method, status):
            self._closing_body = True

    def on_body(self, body: bytes) -> None:
        if not self._ended:
            self._pieces.append(body)

    def on_message_complete(self) -> None:
        self._ended = self._head_done


async def connect(owner: Owner, key: tuple[str, int, bool], tls: object | None, timeout_s: float) -> UpstreamConnection:
    """A new connection, TLS included. Raises OSError (refused, unknown host, untrusted) or TimeoutError."""
    host, port, _ = key
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(timeout_s):
        _, connection = await loop.create_connection(
            lambda: UpstreamConnection(owner, key),
            host,
            port,
            ssl=tls,  # type: ignore[arg-type]
            server_hostname=host if tls is not None else None,
        )
    return connection
