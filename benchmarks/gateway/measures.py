"""What is measured of one peer in one round, and how: CPU by the process tree, latency beside the bare upstream's."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import msgspec

from benchmarks.gateway.processes import Running

CLOSED_CONNECTIONS = 32
HALF_A_CORE = 0.5
TOP_REQUESTS_PER_S = 1000.0
TOP_STREAMS_PER_S = 100.0
STREAM_S = 0.3  # what one stream takes at the upstream's pace
WARM_S = 2.0


class Loaded(msgspec.Struct, frozen=True):
    """What `benchmarks.gateway.load` printed."""

    requests: int
    errors: int
    late: int
    seconds: float
    cpu_s: float
    p50_ms: float
    p99_ms: float
    first_p50_ms: float
    first_p99_ms: float


class Measured(msgspec.Struct, frozen=True):
    """One peer in one round. Latencies are what it adds to the bare upstream's at the same rate."""

    peer: str
    round: int
    requests: int
    streams: int
    errors: int
    unary_us: float  # CPU per request
    stream_us: float  # CPU per stream of 50 events
    requests_per_s: float  # closed loop, 32 connections
    rate: float  # requests a second at which latency was taken
    stream_rate: float
    added_p50_ms: float
    added_p99_ms: float
    first_p50_ms: float  # to a stream's first event
    first_p99_ms: float
    load_us: float  # CPU per request of the load generator
    upstream_us: float  # and of the upstream
    memory: list[tuple[float, float]]  # (seconds since it was started, MB)


@dataclass(frozen=True)
class Bench:
    """One peer that answers, the upstream behind it, and how long each load lasts."""

    peer: Running
    upstream: Running
    port: int
    upstream_port: int
    headers: tuple[str, ...]
    seconds: float

    def measure(self, name: str, number: int) -> Measured:
        self._load(self.port, WARM_S, 0, stream=False)
        unary, unary_us, upstream_us = self._counted(0, stream=False, connections=CLOSED_CONNECTIONS)
        _, probe_us, _ = self._counted(0, stream=True, connections=4, seconds=WARM_S)
        stream_rate = max(1.0, min(TOP_STREAMS_PER_S, HALF_A_CORE * 1e6 / max(1.0, probe_us)))
        streams, stream_us, _ = self._counted(
            stream_rate, stream=True, connections=int(stream_rate * STREAM_S * 3) + 16
        )
        rate = max(2.0, min(TOP_REQUESTS_PER_S, HALF_A_CORE * 1e6 / max(1.0, unary_us)))
        paced = self._load(self.port, self.seconds, rate, stream=False)
        bare = self._load(self.upstream_port, self.seconds, rate, stream=False)
        bare_streams = self._load(self.upstream_port, self.seconds, stream_rate, stream=True)
        return Measured(
            peer=name,
            round=number,
            requests=unary.requests,
            streams=streams.requests,
            errors=unary.errors + streams.errors + paced.errors,
            unary_us=unary_us,
            stream_us=stream_us,
            requests_per_s=unary.requests / unary.seconds,
            rate=rate,
            stream_rate=stream_rate,
            added_p50_ms=paced.p50_ms - bare.p50_ms,
            added_p99_ms=paced.p99_ms - bare.p99_ms,
            first_p50_ms=streams.first_p50_ms - bare_streams.first_p50_ms,
            first_p99_ms=streams.first_p99_ms - bare_streams.first_p99_ms,
            load_us=unary.cpu_s / max(1, unary.requests) * 1e6,
            upstream_us=upstream_us,
            memory=list(self.peer.memory),
        )

    def _counted(
        self, rate: float, *, stream: bool, connections: int, seconds: float | None = None
    ) -> tuple[Loaded, float, float]:
        """(the load, µs of the peer's CPU a request, µs of the upstream's)."""
        before, upstream_before = self.peer.cpu_s(), self.upstream.cpu_s()
        loaded = self._load(self.port, seconds or self.seconds, rate, stream=stream, connections=connections)
        each = 1e6 / max(1, loaded.requests)
        peer_us = (self.peer.cpu_s() - before) * each
        return loaded, peer_us, (self.upstream.cpu_s() - upstream_before) * each

    def _load(self, port: int, seconds: float, rate: float, *, stream: bool, connections: int = 64) -> Loaded:
        command = [sys.executable, "-m", "benchmarks.gateway.load", "--port", str(port), "--seconds", str(seconds)]
        command += ["--rate", str(rate), "--connections", str(connections), *(["--stream"] if stream else [])]
        command += [word for header in self.headers for word in ("--header", header)]
        root = Path(__file__).parents[2]
        ran = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=seconds + 90, check=True)
        return msgspec.convert(json.loads(ran.stdout), Loaded)
