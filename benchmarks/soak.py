"""A soak: many requests, streams and disconnects through one gateway process; memory, sockets and tasks must stay flat.

Run: python -m benchmarks.soak [--requests 200000 | --seconds 60] [--json]; exit status 1 when something grew. Streams
are 30 % of the requests, 5 % of all are left by their client half-way. The spool is not shipped meanwhile: about 6 kB a
request of disk, freed at the end.
"""

import argparse
import asyncio
import json
import random
import re
import shutil
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import cast

import httptools
import psutil
import uvloop

from benchmarks.gateway import ours
from benchmarks.gateway.launch import Ground
from benchmarks.gateway.messages import request_body
from benchmarks.gateway.processes import Running
from tests.fakes.processes import free_port

STREAMS, LEFT = 0.30, 0.05
CONNECTIONS = 16
EVENT_INTERVAL_S = 0.001
SAMPLE_EVERY_S = 0.5
SETTLE_S = 60.0  # idle upstream connections close after 30 s
GROWTH = 0.03  # of memory, from the middle to the end


@dataclass(frozen=True)
class Sample:
    """The gateway at one moment."""

    requests: int
    memory_mb: float
    descriptors: int
    tasks: int


@dataclass
class Soaked:
    """What a soak found. `growth`: memory at the end over memory in the middle, less one."""

    requests: int = 0
    streams: int = 0
    left: int = 0
    errors: int = 0
    seconds: float = 0.0
    growth: float = 0.0
    before: Sample | None = None
    after: Sample | None = None
    problems: list[str] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)


class Client(asyncio.Protocol):
    """One connection that asks as long as it is told to, and now and then leaves in the middle of an answer."""

    def __init__(self, soak: "Soak") -> None:
        self._soak = soak
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._leaves = False
        self._asking = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._ask()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._parser = None
        if self._asking and not self._leaves:
            self._soak.found.errors += 1
        self._soak.lost()

    def _ask(self) -> None:
        assert self._transport is not None
        chosen = self._soak.next()
        if chosen is None:
            self._asking = False
            self._transport.close()
            return
        request, self._leaves, stream = chosen
        self._asking = True
        self._transport.write(request)
        if self._leaves and not stream:
            asyncio.get_running_loop().call_later(EVENT_INTERVAL_S, self._transport.abort)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:  # noqa: ARG002
        if self._leaves and self._transport is not None:
            self._transport.abort()

    def on_message_complete(self) -> None:
        self._soak.found.errors += self._parser.get_status_code() != 200
        self._parser = httptools.HttpResponseParser(self)
        if not self._leaves:
            self._ask()


class Soak:
    """Drives the clients and looks at the gateway beside it. `goes_on` says whether another request is due."""

    def __init__(self, gateway: Running, ground: Ground, headers: tuple[str, ...]) -> None:
        self.found = Soaked()
        self._gateway = psutil.Process(gateway.pid)
        self._ground = ground
        self._choice = random.Random(1)
        self._unary, self._stream = (_request(ground.port, headers, stream) for stream in (False, True))
        self._goes_on: Callable[[Soaked], bool] = lambda _found: False
        self._open = 0
        self._over = asyncio.Event()

    async def run(self, goes_on: Callable[[Soaked], bool]) -> Soaked:
        found, self._goes_on = self.found, goes_on
        found.before = await self._settled(lambda sample: sample.tasks > 0)
        began = time.perf_counter()
        self._open = CONNECTIONS
        await asyncio.gather(*(self._connect() for _ in range(CONNECTIONS)))
        while not self._over.is_set():
            await asyncio.sleep(SAMPLE_EVERY_S)
            found.samples.append(await self._sample())
        found.seconds = round(time.perf_counter() - began, 1)
        before = found.before
        found.after = await self._settled(
            lambda sample: sample.descriptors <= before.descriptors and sample.tasks <= before.tasks
        )
        self._judge(found)
        return found

    def next(self) -> tuple[bytes, bool, bool] | None:
        """(a request, whether its client leaves, whether it is a stream); None when no more is due."""
        if not self._goes_on(self.found):
            return None
        stream, leaves = self._choice.random() < STREAMS, self._choice.random() < LEFT
        self.found.requests += 1
        self.found.streams += stream
        self.found.left += leaves
        return (self._stream if stream else self._unary), leaves, stream

    def lost(self) -> None:
        """A connection ended: another takes its place while requests are due."""
        if self._goes_on(self.found):
            asyncio.get_running_loop().create_task(self._connect())
            return
        self._open -= 1
        if self._open == 0:
            self._over.set()

    async def _connect(self) -> None:
        await asyncio.get_running_loop().create_connection(lambda: Client(self), "127.0.0.1", self._ground.port)

    async def _settled(self, holds: Callable[[Sample], bool]) -> Sample:
        """The first sample that holds, else the last one before patience ends."""
        deadline = time.monotonic() + SETTLE_S
        while not holds(sample := await self._sample()) and time.monotonic() < deadline:
            await asyncio.sleep(SAMPLE_EVERY_S)
        return sample

    async def _sample(self) -> Sample:
        told = await asyncio.to_thread(_metric, self._ground.spare, "stillhouse_tasks")
        memory_mb = self._gateway.memory_info().rss / 1e6
        return Sample(self.found.requests, round(memory_mb, 2), self._gateway.num_fds(), told)

    def _judge(self, found: Soaked) -> None:
        assert found.before is not None
        assert found.after is not None
        middle, end = _around(found.samples, 0.5), _around(found.samples, 0.9)
        found.growth = round(end / middle - 1, 4)
        if found.growth >= GROWTH:
            found.problems.append(f"memory grew by {found.growth:.1%} in the second half")
        if found.errors:
            found.problems.append(f"{found.errors} requests went wrong")
        for name in ("descriptors", "tasks"):
            first, last = getattr(found.before, name), getattr(found.after, name)
            if last > first:
                found.problems.append(f"{name}: {first} before, {last} after")
        under_way = _metric(self._ground.spare, "stillhouse_in_flight")
        if under_way:
            found.problems.append(f"{under_way} requests are under way for ever")


def _around(samples: list[Sample], part: float) -> float:
    """The median memory of the tenth of all requests that begins there."""
    count = samples[-1].requests
    within = [one.memory_mb for one in samples if part * count <= one.requests <= (part + 0.1) * count]
    return median(within)


def _metric(port: int, name: str) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as reply:
        text = reply.read().decode()
    values = re.findall(rf"^{name} (\S+)$", text, re.MULTILINE)
    return int(float(values[0])) if values else 0


def _request(port: int, headers: tuple[str, ...], stream: bool) -> bytes:
    body = request_body(stream)
    own = "".join(f"{header}\r\n" for header in headers)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n{own}"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


def soak(requests: int | None, seconds: float) -> Soaked:
    """Until so many requests were made, or (with None) for so many seconds."""
    folder = Path(tempfile.mkdtemp(prefix="stillhouse-soak-"))
    ground = Ground(folder, folder, free_port(), free_port(), free_port())
    serving = [sys.executable, "-m", "benchmarks.gateway.upstream", str(ground.upstream), str(EVENT_INTERVAL_S)]
    (folder / "upstream").mkdir()
    try:
        with Running(serving, {"PYTHONPATH": str(ours.ROOT)}, folder / "upstream") as upstream:
            upstream.wait_ready(ground.upstream, ())
            launch = ours.launch(ground)
            with Running(launch.command, launch.environment, folder) as gateway:
                gateway.wait_ready(ground.port, launch.headers)
                return uvloop.run(_soak(gateway, ground, launch.headers, requests, seconds))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _soak(
    gateway: Running, ground: Ground, headers: tuple[str, ...], requests: int | None, seconds: float
) -> Soaked:
    ends_at = time.monotonic() + seconds
    if requests is not None:
        return await Soak(gateway, ground, headers).run(lambda found: found.requests < requests)
    return await Soak(gateway, ground, headers).run(lambda _found: time.monotonic() < ends_at)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--seconds", type=float, help="instead of a number of requests")
    parser.add_argument("--json", action="store_true", help="everything found, samples too")
    options = parser.parse_args()
    found = soak(None if options.seconds else options.requests, options.seconds or 0.0)
    if options.json:
        print(json.dumps(asdict(found)))
    else:
        print(f"{found.requests} requests ({found.streams} streams, {found.left} left) in {found.seconds} s")
        print(f"memory in the second half: {found.growth:+.2%}; before {found.before}; after {found.after}")
        print("\n".join(found.problems) or "flat")
    return 1 if found.problems else 0


if __name__ == "__main__":
    sys.exit(main())
