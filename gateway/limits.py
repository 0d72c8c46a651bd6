"""What each key may ask for, held in this process: requests and tokens a minute, and how many at once.

N gateway processes each hold an N-th, rounded up, and share nothing: a key whose connections all land on one process
gets less than its limit; none gets more than one request a process beyond it. A month's budget is held by what the
store knew half a minute ago.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from capture.keys import Key, KeyLimits
from gateway.plan import Refusal

BYTES_PER_TOKEN = 4
MINUTE_S = 60.0


@dataclass(slots=True)
class Bucket:
    """Holds up to `size`, fills up at `per_s`."""

    size: float
    per_s: float
    level: float
    at: float

    def fill(self, now: float) -> None:
        self.level = min(self.size, self.level + max(0.0, now - self.at) * self.per_s)
        self.at = now

    def wait_s(self, amount: float) -> float:
        """Seconds until `amount` is there; 0 when it is. What is larger than the bucket waits for a full one."""
        return max(0.0, min(amount, self.size) - self.level) / self.per_s


class _Meter:
    """One key's use."""

    def __init__(self, limits: KeyLimits, part: int, now: float) -> None:
        self.running = 0
        self.set(limits, part, now)

    def set(self, limits: KeyLimits, part: int, now: float) -> None:
        """New limits, with full buckets; who runs goes on to be counted."""
        self.limits = limits
        self.requests = _bucket(limits.requests_per_minute, part, now)
        self.tokens = _bucket(limits.tokens_per_minute, part, now)
        self.concurrency = None if limits.concurrency is None else math.ceil(limits.concurrency / part)

    def release(self) -> None:
        self.running -= 1


class Limiter:
    """Admits requests by their key's limits. One event loop, so no locks; `clock` is monotonic, in seconds."""

    def __init__(self, processes: int, clock: Callable[[], float]) -> None:
        self._processes = processes
        self._clock = clock
        self._meters: dict[str, _Meter] = {}

    def admit(
        self, key: Key | None, body_bytes: int, spent_usd: Mapping[str, float]
    ) -> Callable[[], None] | Refusal | None:
        """What to call when the request has ended (None: nothing), or a 429. The body's size stands for its tokens."""
        if key is None or key.limits == _UNLIMITED:
            return None
        budget_usd = key.limits.monthly_usd
        if budget_usd is not None and spent_usd.get(key.id, 0.0) >= budget_usd:
            return _spent(budget_usd)
        meter, now = self._meter(key), self._clock()
        tokens = body_bytes / BYTES_PER_TOKEN
        refusal = _judge(meter, tokens, now)
        if refusal is not None:
            return refusal
        if meter.requests:
            meter.requests.level -= 1
        if meter.tokens:
            meter.tokens.level -= tokens
        meter.running += 1
        return meter.release

    def _meter(self, key: Key) -> _Meter:
        meter = self._meters.get(key.id)
        if meter is None:
            meter = self._meters[key.id] = _Meter(key.limits, self._processes, self._clock())
        elif meter.limits != key.limits:
            meter.set(key.limits, self._processes, self._clock())
        return meter


_UNLIMITED = KeyLimits()


def _judge(meter: _Meter, tokens: float, now: float) -> Refusal | None:
    if meter.concurrency is not None and meter.running >= meter.concurrency:
        return _too_many("requests at once", meter.limits.concurrency, "concurrency", 1.0, ())
    for bucket, amount, kind, limit in (
        (meter.requests, 1.0, "requests", meter.limits.requests_per_minute),
        (meter.tokens, tokens, "tokens", meter.limits.tokens_per_minute),
    ):
        if bucket is None:
            continue
        bucket.fill(now)
        wait_s = bucket.wait_s(amount)
        if wait_s > 0:
            return _too_many(f"{kind} per minute", limit, kind, wait_s, _headers(kind, limit, bucket, wait_s))
    return None


def _too_many(
    what: str, limit: int | None, kind: str, wait_s: float, extra: tuple[tuple[bytes, bytes], ...]
) -> Refusal:
    retry = (b"retry-after", b"%d" % math.ceil(wait_s)), (b"retry-after-ms", b"%d" % math.ceil(wait_s * 1000))
    return Refusal(
        429,
        f"Rate limit reached for this gateway key: {limit} {what}. Try again in {wait_s:.2f}s.",
        type=kind,
        code="rate_limit_exceeded",
        headers=(*retry, *extra),
    )


def _spent(budget_usd: float) -> Refusal:
    message = f"This gateway key's budget of {budget_usd:.2f} USD for this month is spent."
    no_retry = ((b"x-should-retry", b"false"),)
    return Refusal(429, message, type="insufficient_quota", code="insufficient_quota", headers=no_retry)


def _headers(kind: str, limit: int | None, bucket: Bucket, wait_s: float) -> tuple[tuple[bytes, bytes], ...]:
    name = kind.encode()
    return (
        (b"x-ratelimit-limit-" + name, b"%d" % (limit or 0)),
        (b"x-ratelimit-remaining-" + name, b"%d" % max(0, int(bucket.level))),
        (b"x-ratelimit-reset-" + name, b"%.3fs" % wait_s),
    )


def _bucket(per_minute: int | None, part: int, now: float) -> Bucket | None:
    if per_minute is None:
        return None
    size = float(math.ceil(per_minute / part))
    return Bucket(size, size / MINUTE_S, size, now)
