"""The client's side: uvicorn's httptools protocol, answering the relayed routes itself and handing on the rest."""

import asyncio
import logging
import socket
import struct
from collections import deque
from typing import Any, cast

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from gateway import errors
from gateway.plan import Refusal, RequestHead, Surface
from gateway.relay import framing
from gateway.relay.causes import Cause
from gateway.relay.context import STATE_KEY, RelayContext
from gateway.relay.exchange import Relayed
from gateway.relay.framing import MalformedError, RequestFraming
from gateway.relay.gathering import Gathering
from gateway.relay.incoming import TOO_LARGE
from gateway.relay.known import KnownHead, known_head
from gateway.relay.patience import Patience

_log = logging.getLogger("stillhouse.relay")
_BAD_REQUEST = Refusal(400, "The request is not valid HTTP/1.1.", code="bad_http")
_INTERNAL = Refusal(500, "The gateway failed on this request.", type="server_error", code="internal")
_UPGRADE = Refusal(400, "Protocol upgrades are not supported here.", code="upgrade_not_supported")
_HEAD_TOO_LARGE = Refusal(431, "The request's headers are too large.", code="headers_too_large")
_FULL = Refusal(
    503,
    "The gateway has as many connections as it can take. Try again soon.",
    type="server_error",
    code="too_many_connections",
    headers=((b"retry-after", b"1"),),
)
_RESETS = struct.pack("ii", 1, 0)  # of SO_LINGER
_TOO_SLOW = Refusal(408, "The request did not arrive in time.", code="request_timeout")


class _RefusedError(Exception):
    """Nothing more of this request is read; the refusal waits in `_refusal`. llhttp wraps it where it was reading."""


class LocalCycle:
    """A request of the FastAPI app, waiting in line."""

    __slots__ = ("app", "cycle")

    def __init__(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self.cycle = cycle
        self.app = app


class RelayProtocol(HttpToolsProtocol):
    """One client connection. Requests stand in `_line` in the order they came; only the first one is answered.

    uvicorn gives neither limits nor a drain for what is not an ASGI task: both are here. `_dead` means that nothing
    more is read (the connection ends, or only waits for the client to have read a refusal).
    """

    __slots__ = (
        "_context",
        "_dead",
        "_draining",
        "_in_head",
        "_in_local_body",
        "_in_message",
        "_known",
        "_limits",
        "_line",
        "_overhead",
        "_parsing",
        "_patience",
        "_read",
        "_reading",
        "_refusal",
        "_to_come",
        "_turned_away",
        "write_paused",
    )

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        context: RelayContext = app_state[STATE_KEY]
        self.write_paused = False
        self._context = context
        self._limits = context.limits
        self._patience = Patience(context.limits)
        self._line: deque[Relayed | LocalCycle | Refusal] = deque()
        self._parsing: Relayed | None = None  # whose body is being read; None for the app's requests
        self._in_message = False
        self._in_head = False
        self._in_local_body = False
        self._dead = False
        self._turned_away = False  # one connection too many: told so at its first request
        self._draining = False
        self._refusal: Refusal | None = None
        self._read = b""  # what is being parsed, where it begins with a head
        self._reading = 0  # bytes of the read that is being parsed
        self._overhead = 0  # bytes of this head in reads before it; behind the head, of reads without any body
        self._known: KnownHead | None = None
        self._to_come = 0  # bytes of a known head's body

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(Gathering(cast(asyncio.Transport, transport), self.loop.call_soon))
        self._context.clients.add(self)
        self._context.sweep.watched.add(self)
        counters, most = self._context.counters, self._limits.connections
        counters.connections += 1
        self._turned_away = counters.connections > most
        self._patience.await_request(self.loop.time())
        if counters.connections > most + most // 8 + 1:  # no room even to say so
            self._dead = True
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._dead = True
        self._context.clients.discard(self)
        self._context.sweep.watched.discard(self)
        self._context.counters.connections -= 1
        self._leave_line(Cause.CLIENT_LEFT)
        super().connection_lost(exc)

    def _leave_line(self, cause: Cause) -> None:
        line, self._line = self._line, deque()
        for waiting in line:
            if isinstance(waiting, Relayed):
                waiting.abandon(cause)
            elif isinstance(waiting, LocalCycle):
                waiting.cycle.disconnected = True
                waiting.cycle.message_event.set()

    def data_received(self, data: bytes) -> None:
        if self._dead:
            return
        self._reading = len(data)
        try:
            unknown = data if self._known is None else self._take_known(self._known, data)
            if unknown:
                self._read = b"" if self._in_message or self._line else unknown
                self.parser.feed_data(unknown)
        except httptools.HttpParserUpgrade:
            self._reject(self._refusal or _UPGRADE)
        except (httptools.HttpParserCallbackError, _RefusedError) as error:
            if self._refusal is None:
                _log.error("a request could not be taken", exc_info=error)
            self._reject(self._refusal or _INTERNAL)
        except httptools.HttpParserError:
            self._reject(_BAD_REQUEST)
        else:
            if self._in_message:
                self._overhead += self._reading
                if self._overhead > self._limits.head_bytes:
                    self._reject(_HEAD_TOO_LARGE)
                elif self._parsing is not None:  # more of its body is to come: is it worth it?
                    refusal = self._parsing.screen()
                    if refusal is not None:
                        self._reject(refusal)
            elif not self._line:
                self._known = None  # a stray line break may be in llhttp now: it is to judge what follows

    def pause_writing(self) -> None:
        super().pause_writing()
        self.write_paused = True
        self._patience.stall(self.loop.time())
        if self._line and isinstance(self._line[0], Relayed):
            self._line[0].pause()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.write_paused = False
        self._patience.flow()
        if self._line and isinstance(self._line[0], Relayed):
            self._line[0].resume()

    # llhttp's side

    def on_message_begin(self) -> None:
        if self._dead:
            return
        if len(self._line) >= self._limits.pipelined:
            self._refuse_parsing(Refusal(400, "Too many requests are pipelined.", code="too_many_pipelined"))
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._in_message = self._in_head = True
        self._overhead = -self._reading  # what this read brought may belong to other requests
        if not self._line:
            self._patience.await_head(self.loop.time())

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # not a trailer: those are dropped
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        if self._dead:
            return
        self._in_head = False
        read, self._read = self._read, b""
        if self.parser.should_upgrade():
            self._refuse_parsing(_UPGRADE)
        headers, self.headers = self.headers, []
        if self._head_is_too_large(headers):
            self._refuse_parsing(_HEAD_TOO_LARGE)
        self._overhead = -self._reading  # some of it may be body
        version = self.parser.get_http_version()
        try:
            path, target = framing.path_of(self.url)
            asked = framing.request_framing(version, headers)
        except MalformedError as malformed:
            self._refuse_parsing(Refusal(400, f"Malformed request: {malformed}.", code="bad_http"))
        method = self.parser.get_method().decode()
        self._patience.await_body(self.loop.time())
        surface = self._context.router.surface(method, path)
        if surface is Surface.LOCAL:
            self._parsing = None
            self._begin_local(headers, asked.expects_continue)
            return
        if self._turned_away:
            self._refuse_parsing(_FULL)
        head = RequestHead(method, target, framing.end_to_end(headers, asked.named))
        relayed = Relayed(self._context, self, head, surface, asked, version == "1.1")
        relayed.keep_alive &= self.parser.should_keep_alive()
        if surface is Surface.CAPTURED and relayed.keep_alive and read:
            self._known = known_head(read, head, asked)
        self._take(relayed, asked)

    def _take(self, relayed: Relayed, asked: RequestFraming) -> None:
        relayed.keep_alive &= not self._draining
        self._parsing = relayed
        if asked.length is not None and asked.length > relayed.incoming.limit:
            self._refuse_parsing(TOO_LARGE)
        refusal = relayed.screen() if asked.expects_continue else None
        if refusal is not None:
            self._refuse_parsing(refusal)
        self._stand_in_line(relayed)

    def _head_is_too_large(self, headers: list[tuple[bytes, bytes]]) -> bool:
        limits = self._limits
        if len(headers) > limits.headers:
            return True
        if max(self._overhead, 0) + self._reading <= limits.head_bytes:
            return False
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in headers)
        return size > limits.head_bytes

    def on_body(self, body: bytes) -> None:
        if self._dead:
            return
        self._overhead = -self._reading
        self._patience.body_came(len(body))
        if self._parsing is None:
            super().on_body(body)
        else:
            refusal = self._parsing.body(body)
            if refusal is not None:
                self._refuse_parsing(refusal)

    def on_message_complete(self) -> None:
        if self._dead or not self._in_message:
            return
        self._in_message = False
        if self._line:
            self._patience.await_nothing()
        else:
            self._patience.await_request(self.loop.time())
        if self._parsing is None:
            self._in_local_body = False
            super().on_message_complete()
        else:
            relayed, self._parsing = self._parsing, None
            relayed.end_body()

    def _refuse_parsing(self, refusal: Refusal) -> None:
        self._refusal = refusal
        raise _RefusedError

    # beside llhttp

    def _take_known(self, known: KnownHead, data: bytes) -> bytes:
        """Takes a request whose head is the last one's, in however many reads; returns what llhttp is to read."""
        at = 0
        if not self._to_come:
            found = None if self._in_message or self._line else known.begins(data)
            if found is None or not found[0]:
                return data
            self._to_come, at = found
            self._in_message = True
            self._overhead = -self._reading
            self._patience.await_body(self.loop.time())
            asked = known.framing(self._to_come)
            self._take(Relayed(self._context, self, known.head, Surface.CAPTURED, asked, http11=True), asked)
        end = at + self._to_come
        body = data[at:end]
        if body:
            self._to_come -= len(body)
            self.on_body(body)
        if not self._to_come:
            self.on_message_complete()
        return data[end:]

    # the app's requests

    def _begin_local(self, headers: list[tuple[bytes, bytes]], expects_continue: bool) -> None:
        url = self.url
        super().on_message_begin()
        self.url = url
        self.headers.extend(headers)
        self.expect_100_continue = expects_continue
        self.cycle = None  # type: ignore[assignment]
        self._in_local_body = True
        super().on_headers_complete()
        self.headers = []

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        """uvicorn would start it at once; here it waits for its turn."""
        if self._draining:
            cycle.keep_alive = False
        self._stand_in_line(LocalCycle(cycle, app))

    def on_response_complete(self) -> None:
        """An app's answer is written (uvicorn's callback)."""
        if self._line and isinstance(self._line[0], LocalCycle):
            self.done(self._line[0].cycle.keep_alive)

    # the line

    def _stand_in_line(self, waiting: Relayed | LocalCycle | Refusal) -> None:
        self._line.append(waiting)
        if len(self._line) == 1:
            self._start(waiting)
        else:
            self.flow.pause_reading()

    def _start(self, waiting: Relayed | LocalCycle | Refusal) -> None:
        if isinstance(waiting, Relayed):
            waiting.begin()
        elif isinstance(waiting, LocalCycle):
            super()._start_asgi_task(waiting.cycle, waiting.app)
        else:
            self._write_refusal(waiting)

    def write(self, data: bytes) -> None:
        self.transport.write(data)

    def done(self, keep_alive: bool) -> None:
        self.server_state.total_requests += 1
        self._line.popleft()
        if self.transport.is_closing():  # the app's doing
            self._close()
            return
        if not keep_alive or self._draining:
            self._end(read_all=not self._in_message or self._in_head)
            return
        if len(self._line) <= 1:
            self.flow.resume_reading()
        if self._line:
            self._start(self._line[0])
        elif self._in_head:
            self._patience.await_head(self.loop.time())
        elif not self._in_message:
            self._patience.await_request(self.loop.time())

    def broken(self, looks_whole: bool) -> None:
        self._line.popleft()
        if looks_whole:  # the close becomes a reset, which may cost the last of what was written
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESETS)
        self._close()

    def hold_upload(self, hold: bool) -> None:
        if hold:
            self._patience.hold(self.loop.time())
            self.flow.pause_reading()
        elif len(self._line) <= 1:  # else requests behind it keep it paused
            if self._in_message:
                self._patience.let_go(self.loop.time())
            self.flow.resume_reading()

    # endings

    def _reject(self, refusal: Refusal) -> None:
        """The request being read cannot be answered but with an error, after those before it; nothing more is read."""
        if self._dead:  # it was answered already, by an error that ends the connection
            return
        self._dead = True
        broken, self._parsing = self._parsing, None
        if self._in_local_body and self._give_up_local():
            return
        if broken is not None and self._line and self._line[-1] is broken:
            if len(self._line) == 1:
                broken.refuse(refusal, Cause.CLIENT_BROKEN)
                return
            self._line.pop()
            broken.abandon(Cause.CLIENT_BROKEN)
        self._context.counters.error(refusal.code or "refused")
        self._stand_in_line(refusal)

    def _give_up_local(self) -> bool:
        """The body of an app's request broke off. Whether it has been answered, so that there is no room for ours."""
        waiting = self._line[-1] if self._line else None
        if not isinstance(waiting, LocalCycle):
            self._close()
            return True
        self._line.pop()
        waiting.cycle.disconnected = True
        waiting.cycle.message_event.set()
        if waiting.cycle.response_started:
            self._close()
        return waiting.cycle.response_started

    def _write_refusal(self, refusal: Refusal) -> None:
        self.write(framing.refusal_response(refusal, errors.body(refusal), keep_alive=False))
        self._line.popleft()
        self._end(read_all=False)

    def _end(self, read_all: bool) -> None:
        """Closes. Unread input would make the kernel reset the connection and lose our answer: read it for a while."""
        self._dead = True
        self._leave_line(Cause.STOPPED)
        if read_all or not self.transport.can_write_eof():
            self._close()
            return
        self.transport.write_eof()
        self.flow.resume_reading()
        self._patience.await_goodbye(self.loop.time())

    def _close(self) -> None:
        """What was written leaves first; for a client that does not read it, not for ever."""
        self._dead = True
        self._patience.await_last_bytes(self.loop.time())
        self.transport.close()

    def check(self, now: float) -> None:
        """Enforces the limits on slow clients."""
        if self._patience.is_stalled(now):
            self._leave_line(Cause.CLIENT_STALLED)
            self.transport.abort()
        elif self.transport.is_closing():
            if self._patience.is_over(now):
                self.transport.abort()
        elif not self._patience.is_over(now) or (self._dead and self._line):  # answers before it are under way
            return
        elif self._dead or not self._in_message:
            self._close()
        elif self._in_head or self._patience.body_is_over(now, self.flow.read_paused):
            self._reject(_TOO_SLOW)

    def shutdown(self) -> None:
        """uvicorn drains: what is under way may end, nothing new begins."""
        self._draining = True
        if not self._line and not self._in_message:
            self._close()
        for waiting in self._line:
            if isinstance(waiting, LocalCycle):
                waiting.cycle.keep_alive = False
            elif isinstance(waiting, Relayed):
                waiting.keep_alive = False

    def stop(self) -> None:
        """The drain's time is over."""
        self._dead = True
        self._leave_line(Cause.STOPPED)
        self.transport.abort()

    def timeout_keep_alive_handler(self) -> None:
        """uvicorn's timer is never armed: the sweep does its work."""
