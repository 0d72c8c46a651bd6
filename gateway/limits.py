"""What each key may ask for: requests and tokens a minute, how many at once, and a month's budget.

Held over all gateway processes by the counts they share. A request's tokens are estimated from its body's size, and
settled by the answer's usage when it has ended; a month's budget is held by what the store knew half a minute ago.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from capture.exchange import Exchange
from capture.keys import Key, KeyLimits
from gateway.plan import Refusal
from gateway.token_use import BYTES_PER_TOKEN, tokens_of
from gateway.usage import WINDOW_S, UsagePages, Used

_UNLIMITED = KeyLimits()

Headers = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class Admitted:
    """What one request has taken of its key's limits. Call it once when the request has ended."""

    pages: UsagePages
    clock: Callable[[], float]
    key_id: str
    tokens: int  # as estimated

    def __call__(self) -> None:
        self.pages.add(self.key_id, int(self.clock() // WINDOW_S), running=-1)

    def undo(self) -> None:
        """In place of the call, where the request went nowhere: its key has taken nothing."""
        window = int(self.clock() // WINDOW_S)
        self.pages.add(self.key_id, window, requests=-1, tokens=-self.tokens, running=-1)

    def settle(self, exchange: Exchange) -> None:
        """Puts what the answer really took in the estimate's place."""
        difference = tokens_of(exchange) - self.tokens
        if difference:
            self.pages.add(self.key_id, int(self.clock() // WINDOW_S), tokens=difference)


class Limiter:
    """Admits requests by their key's limits; `clock` in Unix seconds, the same for all processes."""

    def __init__(self, pages: UsagePages, clock: Callable[[], float]) -> None:
        self._pages = pages
        self._clock = clock

    def admit(self, key: Key | None, body_bytes: int, spent_usd: Mapping[str, float]) -> Admitted | Refusal | None:
        """What to call when the request has ended (None: nothing), or a 429. The body's size stands for its tokens."""
        if key is None or key.limits == _UNLIMITED:
            return None
        budget_usd = key.limits.monthly_usd
        if budget_usd is not None and spent_usd.get(key.id, 0.0) >= budget_usd:
            return _spent(budget_usd)
        window, passed = divmod(self._clock(), WINDOW_S)
        tokens = math.ceil(body_bytes / BYTES_PER_TOKEN)
        refusal = _judge(key.limits, self._pages.total(key.id, int(window)), tokens, passed / WINDOW_S)
        if refusal is not None:
            return refusal
        self._pages.add(key.id, int(window), requests=1, tokens=tokens, running=1)
        return Admitted(self._pages, self._clock, key.id, tokens)


def wait_s(limit: float, now: float, before: float, amount: float, passed: float) -> float:
    """Seconds until `amount` more fits under `limit` a minute; 0 when it does.

    `now` and `before` are the counts of this minute and the last, of which `1 - passed` (in [0, 1)) still counts. What
    is larger than the limit passes when nothing else was used.
    """
    amount = min(amount, limit)
    if now + before * (1 - passed) + amount <= limit:
        return 0.0
    if now + amount <= limit:
        return WINDOW_S * (1 - (limit - now - amount) / before - passed)
    return WINDOW_S * (1 - passed + 1 - (limit - amount) / now)


def _judge(limits: KeyLimits, used: Used, tokens: int, passed: float) -> Refusal | None:
    if limits.concurrency is not None and used.running >= limits.concurrency:
        return _too_many("requests at once", limits.concurrency, "concurrency", 1.0, ())
    for kind, limit, counts, amount in (
        ("requests", limits.requests_per_minute, (used.requests, used.requests_before), 1),
        ("tokens", limits.tokens_per_minute, (used.tokens, used.tokens_before), tokens),
    ):
        if limit is None:
            continue
        waiting_s = wait_s(limit, *counts, amount, passed) if limit > 0 else WINDOW_S
        if waiting_s > 0:
            left = max(0, int(limit - counts[0] - counts[1] * (1 - passed)))
            return _too_many(f"{kind} per minute", limit, kind, waiting_s, _headers(kind, limit, left, waiting_s))
    return None


def _too_many(what: str, limit: int, kind: str, waiting_s: float, extra: Headers) -> Refusal:
    retry = (b"retry-after", b"%d" % math.ceil(waiting_s)), (b"retry-after-ms", b"%d" % math.ceil(waiting_s * 1000))
    return Refusal(
        429,
        f"Rate limit reached for this gateway key: {limit} {what}. Try again in {waiting_s:.2f}s.",
        type=kind,
        code="rate_limit_exceeded",
        headers=(*retry, *extra),
    )


def _spent(budget_usd: float) -> Refusal:
    message = f"This gateway key's budget of {budget_usd:.2f} USD for this month is spent."
    no_retry = ((b"x-should-retry", b"false"),)
    return Refusal(429, message, type="insufficient_quota", code="insufficient_quota", headers=no_retry)


def _headers(kind: str, limit: int, left: int, waiting_s: float) -> Headers:
    name = kind.encode()
    return (
        (b"x-ratelimit-limit-" + name, b"%d" % limit),
        (b"x-ratelimit-remaining-" + name, b"%d" % left),
        (b"x-ratelimit-reset-" + name, b"%.3fs" % waiting_s),
    )
