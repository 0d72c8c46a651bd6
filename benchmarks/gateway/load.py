"""The load: connections that ask one request after another, as fast as they can or at a fixed rate.

Run: python -m benchmarks.gateway.load --port P [--stream] [--rate R] … ; prints one JSON object.
"""

import argparse
import asyncio
import json
import time
from dataclasses import asdict, dataclass, field
from typing import cast

import httptools
import uvloop

from benchmarks.gateway.messages import EVENTS, request_body

PATIENCE_S = 30.0  # for what is still under way at the end


@dataclass
class Outcome:
    """What came of one load; durations in milliseconds. `late`: due, with no connection free to ask."""

    requests: int = 0
    errors: int = 0
    late: int = 0
    seconds: float = 0.0
    cpu_s: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    first_p50_ms: float = 0.0
    first_p99_ms: float = 0.0
    whole_ms: list[float] = field(default_factory=list)
    first_ms: list[float] = field(default_factory=list)

    def summary(self) -> dict[str, float]:
        """Percentiles instead of every duration."""
        self.p50_ms, self.p99_ms = _percentile(self.whole_ms, 0.5), _percentile(self.whole_ms, 0.99)
        self.first_p50_ms, self.first_p99_ms = _percentile(self.first_ms, 0.5), _percentile(self.first_ms, 0.99)
        return {name: value for name, value in asdict(self).items() if not isinstance(value, list)}


class Connection(asyncio.Protocol):
    """One client: one request at a time; `free` is told when it can ask again."""

    def __init__(self, load: "Load") -> None:
        self._load = load
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._asked_at = 0.0
        self._first = True
        self._events = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._parser = None
        self._load.lost(self, self._asked_at != 0.0)

    def ask(self) -> None:
        assert self._transport is not None
        self._first, self._events = True, 0
        self._asked_at = time.perf_counter()
        self._transport.write(self._load.request)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._load.broken(self)

    def on_body(self, body: bytes) -> None:
        if self._first:
            self._first = False
            self._load.outcome.first_ms.append((time.perf_counter() - self._asked_at) * 1000)
        self._events += body.count(b"data: ")

    def on_message_complete(self) -> None:
        taken_s = time.perf_counter() - self._asked_at
        good = self._parser.get_status_code() == 200 and (not self._load.stream or self._events >= EVENTS)
        self._asked_at = 0.0
        keep = self._parser.should_keep_alive()
        self._parser = httptools.HttpResponseParser(self)
        self._load.done(self, taken_s, good, keep)

    def close(self) -> None:
        self._asked_at = 0.0
        if self._transport is not None:
            self._transport.abort()


class Load:
    """Asks until the time is over, then waits for what is under way."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.outcome = Outcome()
        self.stream: bool = options.stream
        self.request = _request(options)
        self._options = options
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()
        self._ends_at = 0.0

    async def run(self) -> Outcome:
        began = time.perf_counter()
        self._ends_at = began + self._options.seconds
        await asyncio.gather(*(self._open() for _ in range(self._options.connections)))
        if self._options.rate:
            await self._ask_at(self._options.rate)
        else:
            for connection in list(self._idle):
                self._ask(connection)
            await asyncio.sleep(self._options.seconds)
        await self._end()
        self.outcome.seconds = time.perf_counter() - began
        self.outcome.cpu_s = time.process_time()
        return self.outcome

    async def _ask_at(self, rate: float) -> None:
        began, count = time.perf_counter(), 0
        while (now := time.perf_counter()) < self._ends_at:
            while count < (now - began) * rate:
                count += 1
                if self._idle:
                    self._ask(self._idle[-1])
                else:
                    self.outcome.late += 1
            await asyncio.sleep(max(0.0, began + count / rate - time.perf_counter()))

    async def _end(self) -> None:
        deadline = time.perf_counter() + PATIENCE_S
        while self._busy and time.perf_counter() < deadline:
            await asyncio.sleep(0.01)
        self.outcome.errors += len(self._busy)
        for connection in [*self._busy, *self._idle]:
            connection.close()

    def _ask(self, connection: Connection) -> None:
        self._idle.remove(connection)
        self._busy.add(connection)
        connection.ask()

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: Connection(self), "127.0.0.1", self._options.port)
        self._idle.append(connection)

    def done(self, connection: Connection, taken_s: float, good: bool, keep: bool) -> None:
        self.outcome.requests += 1
        self.outcome.errors += not good
        self.outcome.whole_ms.append(taken_s * 1000)
        self._busy.discard(connection)
        if not keep:
            connection.close()
            return
        self._idle.append(connection)
        if not self._options.rate and time.perf_counter() < self._ends_at:
            self._ask(connection)

    def broken(self, connection: Connection) -> None:
        self.outcome.errors += 1
        self._busy.discard(connection)
        connection.close()

    def lost(self, connection: Connection, asked: bool) -> None:
        """A connection ended: another takes its place while the load goes on."""
        if asked:
            self.outcome.errors += 1
        self._busy.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if time.perf_counter() < self._ends_at:
            asyncio.get_running_loop().create_task(self._replace())

    async def _replace(self) -> None:
        await self._open()
        if not self._options.rate:
            self._ask(self._idle[-1])


def _request(options: argparse.Namespace) -> bytes:
    body = request_body(options.stream)
    own = "".join(f"{header}\r\n" for header in options.header).encode()
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:%d\r\ncontent-type: application/json\r\n"
        b"accept: application/json\r\nuser-agent: OpenAI/Python 3.57.0\r\n%bcontent-length: %d\r\n\r\n%b"
    ) % (options.port, own, len(body), body)


def _percentile(values: list[float], part: float) -> float:
    """The smallest value that at least this part of all is not above; 0 for none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else 0.0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rate", type=float, default=0, help="requests a second; 0: as fast as they are answered")
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--header", action="append", default=[], metavar="NAME: VALUE")
    print(json.dumps(uvloop.run(Load(parser.parse_args()).run()).summary()))


if __name__ == "__main__":
    main()
