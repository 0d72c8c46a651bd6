from typing import Any

from capture.keys import Key, KeyLimits
from gateway.limits import Limiter
from gateway.plan import Refusal
from tests.factories.routing import NOW, Time


def key_of(**limits: Any) -> Key:
    return Key("key_1", "app", "sh-tok", (), KeyLimits(**limits), NOW, None, None)


def count_admitted(limiter: Limiter, key: Key, tries: int, body_bytes: int = 0) -> int:
    return sum(not isinstance(limiter.admit(key, body_bytes, {}), Refusal) for _ in range(tries))


def test_without_limits_nothing_is_metered() -> None:
    limiter = Limiter(1, Time())
    assert limiter.admit(None, 10, {}) is None
    assert limiter.admit(key_of(), 10, {}) is None


def test_requests_per_minute_come_back_with_time() -> None:
    clock = Time(0)
    limiter, key = Limiter(1, clock), key_of(requests_per_minute=60)
    assert count_admitted(limiter, key, 100) == 60
    clock.now += 10
    assert count_admitted(limiter, key, 100) == 10
    clock.now += 1000
    assert count_admitted(limiter, key, 100) == 60


def test_the_refusal_is_openais_with_the_time_to_wait() -> None:
    limiter, key = Limiter(1, Time(0)), key_of(requests_per_minute=6)
    count_admitted(limiter, key, 6)
    refusal = limiter.admit(key, 0, {})
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.type, refusal.code) == (429, "requests", "rate_limit_exceeded")
    assert dict(refusal.headers) == {
        b"retry-after": b"10",
        b"retry-after-ms": b"10000",
        b"x-ratelimit-limit-requests": b"6",
        b"x-ratelimit-remaining-requests": b"0",
        b"x-ratelimit-reset-requests": b"10.000s",
    }


def test_tokens_per_minute_go_by_the_bodys_size() -> None:
    limiter, key = Limiter(1, Time(0)), key_of(tokens_per_minute=1000)
    assert count_admitted(limiter, key, 10, body_bytes=1200) == 3
    refusal = limiter.admit(key, 1200, {})
    assert isinstance(refusal, Refusal)
    assert refusal.type == "tokens"
    assert not isinstance(limiter.admit(key, 40, {}), Refusal)


def test_a_request_larger_than_a_minutes_tokens_passes_on_a_full_bucket() -> None:
    clock = Time(0)
    limiter, key = Limiter(1, clock), key_of(tokens_per_minute=100)
    assert not isinstance(limiter.admit(key, 4000, {}), Refusal)
    clock.now += 60
    assert isinstance(limiter.admit(key, 4, {}), Refusal)


def test_concurrency_is_given_back() -> None:
    limiter, key = Limiter(1, Time(0)), key_of(concurrency=2)
    first, second, third = (limiter.admit(key, 0, {}) for _ in range(3))
    assert callable(first)
    assert callable(second)
    assert isinstance(third, Refusal)
    first()
    assert callable(limiter.admit(key, 0, {}))


def test_changed_limits_hold_at_once_and_forget_nobody_who_is_running() -> None:
    limiter = Limiter(1, Time(0))
    release = limiter.admit(key_of(concurrency=5), 0, {})
    assert isinstance(limiter.admit(key_of(concurrency=1), 0, {}), Refusal)
    assert callable(release)


def test_a_release_after_the_limits_changed_counts() -> None:
    limiter = Limiter(1, Time(0))
    release = limiter.admit(key_of(concurrency=5), 0, {})
    assert callable(release)
    assert isinstance(limiter.admit(key_of(concurrency=1), 0, {}), Refusal)
    release()
    assert callable(limiter.admit(key_of(concurrency=1), 0, {}))


def test_four_processes_together_admit_at_most_a_tenth_more() -> None:
    key = key_of(requests_per_minute=100)
    limiters = [Limiter(4, Time(0)) for _ in range(4)]
    assert sum(count_admitted(limiter, key, 100) for limiter in limiters) <= 110


def test_a_spent_budget_is_not_tried_again() -> None:
    limiter, key = Limiter(1, Time(0)), key_of(monthly_usd=2.0)
    assert callable(limiter.admit(key, 0, {"key_1": 1.99, "other": 9.0}))
    refusal = limiter.admit(key, 0, {"key_1": 2.0})
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code) == (429, "insufficient_quota")
    assert refusal.headers == ((b"x-should-retry", b"false"),)
