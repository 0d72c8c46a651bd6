"""A fake upstream that costs less than any peer: ready bytes, written as soon as a request is whole.

Run: python -m benchmarks.gateway.upstream PORT [SECONDS BETWEEN EVENTS]. Any GET is answered with a list of models.
"""

import asyncio
import sys
from typing import cast

import httptools
import uvloop

from benchmarks.gateway.messages import MODEL, events, unary_body

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\n%b\r\n\r\n"
MODELS = b'{"object":"list","data":[{"id":"%b","object":"model","created":1,"owned_by":"bench"}]}' % MODEL.encode()
INTERVAL_S = 0.005


def _whole(body: bytes) -> bytes:
    return HEAD % (b"application/json", b"content-length: %d" % len(body)) + body


UNARY = _whole(unary_body())
OTHER = _whole(MODELS)
STREAM_HEAD = HEAD % (b"text/event-stream; charset=utf-8", b"transfer-encoding: chunked")
CHUNKS = [b"%x\r\n%b\r\n" % (len(event), event) for event in events()]
CHUNKS[0] = STREAM_HEAD + CHUNKS[0]
CHUNKS[-1] += b"0\r\n\r\n"


class Upstream(asyncio.Protocol):
    """One connection. Events leave one by one, `interval_s` apart, so that none of them shares a read with another."""

    def __init__(self, loop: asyncio.AbstractEventLoop, interval_s: float) -> None:
        self._loop = loop
        self._interval_s = interval_s
        self._parser = httptools.HttpRequestParser(self)
        self._body = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._transport = None
        self._parser = None

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        body, self._body = self._body, b""
        if self._transport is None:
            return
        if self._parser.get_method() == b"GET":
            self._transport.write(OTHER)
        elif b'"stream": true' in body or b'"stream":true' in body:
            self._send(0)
        else:
            self._transport.write(UNARY)

    def _send(self, number: int) -> None:
        if self._transport is None:
            return
        self._transport.write(CHUNKS[number])
        if number + 1 < len(CHUNKS):
            self._loop.call_later(self._interval_s, self._send, number + 1)


async def _serve(port: int, interval_s: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Upstream(loop, interval_s), "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


def main() -> None:
    interval_s = float(sys.argv[2]) if len(sys.argv) > 2 else INTERVAL_S
    uvloop.run(_serve(int(sys.argv[1]), interval_s))


if __name__ == "__main__":
    main()
