"""A scripted upstream on a real socket: each connection is played a script by a thread of its own."""

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import Queue

TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Request:
    """One request as it came: nothing normalised."""

    raw: bytes
    start: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes  # chunked framing removed

    def header(self, name: bytes) -> bytes | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


@dataclass
class Conversation:
    """One connection, from the upstream's side."""

    socket: socket.socket
    number: int  # of this connection, from 0
    requests: list[Request] = field(default_factory=list)
    _buffer: bytes = b""

    def read_request(self) -> Request | None:
        """The next request, or None at the end of the connection."""
        head = self._until(b"\r\n\r\n")
        if head is None:
            return None
        start, *lines = head[:-4].split(b"\r\n")
        headers = [(key, value.strip()) for key, _, value in (line.partition(b":") for line in lines)]
        request = Request(head, start, headers, b"")
        length, chunked = request.header(b"content-length"), request.header(b"transfer-encoding")
        body = raw = self._exactly(int(length)) if length is not None else b""
        if chunked is not None:
            raw, body = self._chunks()
        request = Request(head + raw, start, headers, body)
        self.requests.append(request)
        return request

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def wait_closed(self, timeout_s: float = TIMEOUT_S) -> bool:
        """Whether the other side closes (or resets) within that time; what it sends meanwhile is dropped."""
        self.socket.settimeout(timeout_s)
        try:
            while self.socket.recv(65536):
                pass
        except TimeoutError:
            return False
        except OSError:
            return True
        return True

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()

    def reset(self) -> None:
        """Closes with RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def _fill(self) -> bool:
        data = self.socket.recv(65536)
        self._buffer += data
        return bool(data)

    def _until(self, mark: bytes) -> bytes | None:
        while mark not in self._buffer:
            if not self._fill():
                return None
        end = self._buffer.index(mark) + len(mark)
        taken, self._buffer = self._buffer[:end], self._buffer[end:]
        return taken

    def _exactly(self, count: int) -> bytes:
        pieces, have = [self._buffer], len(self._buffer)
        while have < count:
            pieces.append(self.socket.recv(1 << 20))
            have += len(pieces[-1])
            if not pieces[-1]:
                raise ConnectionError("the request broke off")
        whole = b"".join(pieces)
        self._buffer = whole[count:]
        return whole[:count]

    def _chunks(self) -> tuple[bytes, bytes]:
        raw = body = b""
        while True:
            line = self._until(b"\r\n") or b"0\r\n"
            size = int(line.strip(), 16)
            piece = self._exactly(size + 2)
            raw += line + piece
            body += piece[:-2]
            if size == 0:
                return raw, body


Script = Callable[[Conversation], None]


def answering(*responses: bytes | list[bytes]) -> Script:
    """Answers each request of a connection with the next response (the last one for ever), sent piece by piece."""

    def script(talk: Conversation) -> None:
        count = 0
        while talk.read_request() is not None:
            response = responses[min(count, len(responses) - 1)]
            for piece in [response] if isinstance(response, bytes) else response:
                talk.send(piece)
            count += 1

    return script


def response(
    body: bytes, *, status: bytes = b"200 OK", content_type: bytes = b"application/json", extra: bytes = b""
) -> bytes:
    """A whole response with content-length; `extra` are ready header lines."""
    return b"HTTP/1.1 %b\r\ncontent-type: %b\r\ncontent-length: %d\r\n%b\r\n%b" % (
        status,
        content_type,
        len(body),
        extra,
        body,
    )


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"


def stream(events: list[bytes]) -> list[bytes]:
    """The pieces of a chunked event stream, one chunk an event."""
    return [STREAM_HEAD, *[chunk(event) for event in events], LAST_CHUNK]


class ScriptedUpstream:
    """Listens on a free loopback port until the `with` block ends; `talks` holds every connection so far."""

    def __init__(self, script: Script, tls: ssl.SSLContext | None = None) -> None:
        self.talks: list[Conversation] = []
        self.arrived: Queue[Conversation] = Queue()
        self.failures: list[Exception] = []
        self._script = script
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    @property
    def requests(self) -> list[Request]:
        return [request for talk in self.talks for request in talk.requests]

    def __enter__(self) -> "ScriptedUpstream":
        self._threads[0].start()
        return self

    def __exit__(self, *raised: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for talk in self.talks:
            talk.close()
        for thread in list(self._threads):
            thread.join(TIMEOUT_S)

    def _accept(self) -> None:
        while True:
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._play, args=(accepted, len(self._threads) - 1), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _play(self, accepted: socket.socket, number: int) -> None:
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        accepted.settimeout(TIMEOUT_S)
        try:
            talk = Conversation(self._tls.wrap_socket(accepted, server_side=True) if self._tls else accepted, number)
        except OSError as error:  # the other side did not like our certificate
            self.failures.append(error)
            accepted.close()
            return
        self.talks.append(talk)
        self.arrived.put(talk)
        try:
            self._script(talk)
        except (OSError, ConnectionError) as error:
            self.failures.append(error)
        talk.close()
