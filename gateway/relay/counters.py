"""What the relay counts: plain numbers in one object, which another room exposes."""

from bisect import bisect_left
from dataclasses import dataclass, field

BUCKETS_MS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1e3, 2e3, 5e3, 1e4, 3e4, 6e4)


@dataclass(slots=True)
class Histogram:
    """Durations in milliseconds; `counts[i]` holds those ≤ BUCKETS_MS[i], the last one the rest."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_MS) + 1))
    total_ms: float = 0.0

    def add(self, value_ms: float) -> None:
        self.counts[bisect_left(BUCKETS_MS, value_ms)] += 1
        self.total_ms += value_ms


@dataclass(slots=True)
class Counters:
    """Written by one event loop alone, so that plain integers do."""

    requests: dict[tuple[str, int, str], int] = field(default_factory=dict)  # (route, status // 100, arm)
    errors: dict[str, int] = field(default_factory=dict)  # by cause, reason of fallback, or refusal's code
    in_flight: int = 0
    connections: int = 0
    held_bytes: int = 0  # of bodies, of requests and answers
    retries: int = 0
    appended: int = 0
    not_appended: int = 0  # the spool's disk bound was hit, or the disk refused
    first_ms: Histogram = field(default_factory=Histogram)  # request complete to the answer's first byte
    added_ms: Histogram = field(default_factory=Histogram)  # request complete to request sent on
    first_event_ms: Histogram = field(default_factory=Histogram)  # captured streams: request complete to first event
    upstream_ms: Histogram = field(default_factory=Histogram)  # request sent on to the answer's end

    def request(self, route: str, status: int, arm: str) -> None:
        key = (route, status // 100, arm)
        self.requests[key] = self.requests.get(key, 0) + 1

    def error(self, cause: str) -> None:
        self.errors[cause] = self.errors.get(cause, 0) + 1
