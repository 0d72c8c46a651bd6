"""A client that writes and reads raw bytes on a real socket."""

import contextlib
import socket
import struct
from dataclasses import dataclass


@dataclass(frozen=True)
class Answer:
    """One response: `raw` as it came, `body` without chunked framing."""

    raw: bytes
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes
    complete: bool

    def header(self, name: bytes) -> bytes | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


class RawClient:
    def __init__(self, port: int, timeout_s: float = 10.0, receive_buffer: int | None = None) -> None:
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(timeout_s)
        try:
            self.socket.connect(("127.0.0.1", port))
        except OSError:
            self.socket.close()
            raise
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""

    def __enter__(self) -> "RawClient":
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def reset(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def post(self, path: bytes, body: bytes, extra: bytes = b"") -> None:
        self.send(
            b"POST %b HTTP/1.1\r\nHost: gateway\r\ncontent-type: application/json\r\n%bcontent-length: %d\r\n\r\n%b"
            % (path, extra, len(body), body)
        )

    def chat(self, body: bytes = b'{"model":"big"}', extra: bytes = b"") -> "Answer":
        self.post(b"/v1/chat/completions", body, extra)
        return self.answer()

    def read_until(self, mark: bytes) -> bytes:
        """What came, up to and with `mark`; it stays in the buffer."""
        while mark not in self._buffer:
            assert self._fill(), f"the connection ended before {mark!r}: {self._buffer!r}"
        return self._buffer[: self._buffer.index(mark) + len(mark)]

    def read_to_end(self) -> bytes:
        with contextlib.suppress(ConnectionResetError):
            while self._fill():
                pass
        taken, self._buffer = self._buffer, b""
        return taken

    def ended(self) -> bool:
        """Whether the other side has closed without sending more."""
        return not self._buffer and not self._fill()

    def answer(self, method: str = "POST") -> Answer:
        raw = self.read_until(b"\r\n\r\n")
        self._buffer = self._buffer[len(raw) :]
        start, *lines = raw[:-4].split(b"\r\n")
        headers = [(key, value.strip()) for key, _, value in (line.partition(b":") for line in lines)]
        answer = Answer(raw, int(start.split()[1]), headers, b"", True)
        length, chunked = answer.header(b"content-length"), answer.header(b"transfer-encoding")
        if method == "HEAD" or answer.status in (204, 304):
            return answer
        if chunked is not None:
            body, complete = self._chunks()
        elif length is not None:
            body = self._up_to(int(length))
            complete = len(body) == int(length)
        else:
            body, complete = self.read_to_end(), True
        return Answer(raw, answer.status, headers, body, complete)

    def _fill(self) -> bool:
        data = self.socket.recv(65536)
        self._buffer += data
        return bool(data)

    def _up_to(self, count: int) -> bytes:
        pieces, have = [self._buffer], len(self._buffer)
        while have < count:
            pieces.append(self.socket.recv(1 << 20))
            have += len(pieces[-1])
            if not pieces[-1]:
                break
        whole = b"".join(pieces)
        self._buffer = whole[count:]
        return whole[:count]

    def _chunks(self) -> tuple[bytes, bool]:
        body = b""
        while True:
            while b"\r\n" not in self._buffer:
                if not self._fill():
                    return body, False
            line, _, self._buffer = self._buffer.partition(b"\r\n")
            piece = self._up_to(int(line, 16) + 2)
            body += piece[:-2]
            if len(piece) < int(line, 16) + 2:
                return body, False
            if line == b"0":
                return body, True
