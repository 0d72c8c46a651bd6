from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from capture.keys import Key, KeyLimits
from gateway.limits import Admitted, Limiter, wait_s
from gateway.plan import Refusal
from gateway.usage import WINDOW_S, UsagePages
from tests.factories.routing import NOW, Time

MINUTE = 1_800_000_000.0  # a whole number of minutes


def key_of(**limits: Any) -> Key:
    return Key("key_1", "app", "sh-tok", (), KeyLimits(**limits), NOW, None, None)


def limiter_of(clock: Time) -> Limiter:
    return Limiter(UsagePages(), clock)


def count_admitted(limiter: Limiter, key: Key, tries: int, body_bytes: int = 0) -> int:
    return sum(not isinstance(limiter.admit(key, body_bytes, {}), Refusal) for _ in range(tries))


def refused(limiter: Limiter, key: Key, body_bytes: int = 0) -> Refusal:
    refusal = limiter.admit(key, body_bytes, {})
    assert isinstance(refusal, Refusal)
    return refusal


def admitted(limiter: Limiter, key: Key, body_bytes: int = 0) -> Callable[[], None]:
    release = limiter.admit(key, body_bytes, {})
    assert callable(release)
    return release


def test_without_limits_nothing_is_metered() -> None:
    limiter = limiter_of(Time())
    assert limiter.admit(None, 10, {}) is None
    assert limiter.admit(key_of(), 10, {}) is None


def test_requests_per_minute_come_back_with_time() -> None:
    clock = Time(MINUTE)
    limiter, key = limiter_of(clock), key_of(requests_per_minute=60)
    assert count_admitted(limiter, key, 100) == 60
    clock.now = MINUTE + 60
    assert count_admitted(limiter, key, 100) == 0
    clock.now = MINUTE + 75
    assert count_admitted(limiter, key, 100) == 15
    clock.now = MINUTE + 1000
    assert count_admitted(limiter, key, 100) == 60


def test_the_refusal_is_openais_with_the_time_to_wait() -> None:
    clock = Time(MINUTE + 30)
    limiter, key = limiter_of(clock), key_of(requests_per_minute=6)
    count_admitted(limiter, key, 6)
    refusal = refused(limiter, key)
    assert (refusal.status, refusal.type, refusal.code) == (429, "requests", "rate_limit_exceeded")
    assert dict(refusal.headers) == {
        b"retry-after": b"40",
        b"retry-after-ms": b"40000",
        b"x-ratelimit-limit-requests": b"6",
        b"x-ratelimit-remaining-requests": b"0",
        b"x-ratelimit-reset-requests": b"40.000s",
    }
    clock.now += 40.001
    assert count_admitted(limiter, key, 6) == 1


@given(
    st.integers(1, 1000),
    st.integers(0, 2000),
    st.integers(0, 2000),
    st.integers(1, 1500),
    st.floats(0, 1, exclude_max=True),
)
def test_the_wait_is_exactly_as_long_as_it_must_be(
    limit: int, now: int, before: int, amount: int, passed: float
) -> None:
    waiting_s = wait_s(limit, now, before, amount, passed)
    assert 0 <= waiting_s <= 2 * WINDOW_S
    assume(waiting_s > 0)

    def fits(after_s: float) -> bool:
        minutes, later = divmod(passed + after_s / WINDOW_S, 1)
        counts = {0: (now, before), 1: (0, now)}.get(minutes, (0, 0))
        return wait_s(limit, *counts, amount, later) == 0

    assert fits(waiting_s + 1e-3)
    assert waiting_s <= 1e-2 or not fits(waiting_s - 1e-2)


def test_tokens_per_minute_go_by_the_bodys_size() -> None:
    limiter, key = limiter_of(Time(MINUTE)), key_of(tokens_per_minute=1000)
    assert count_admitted(limiter, key, 10, body_bytes=1200) == 3
    assert refused(limiter, key, 1200).type == "tokens"
    admitted(limiter, key, 40)


def test_a_request_larger_than_a_minutes_tokens_passes_when_nothing_else_was_used() -> None:
    clock = Time(MINUTE)
    limiter, key = limiter_of(clock), key_of(tokens_per_minute=100)
    admitted(limiter, key, 4000)
    clock.now += 60
    refused(limiter, key, 4)
    clock.now += 60
    admitted(limiter, key, 4)


def test_a_limit_of_nothing_lets_nothing_pass() -> None:
    assert refused(limiter_of(Time()), key_of(requests_per_minute=0)).status == 429
    assert refused(limiter_of(Time()), key_of(concurrency=0)).status == 429


def test_concurrency_is_given_back() -> None:
    limiter, key = limiter_of(Time()), key_of(concurrency=2)
    first = admitted(limiter, key)
    admitted(limiter, key)
    refused(limiter, key)
    first()
    admitted(limiter, key)


@pytest.mark.parametrize("later_s", [0, 60, 600])
def test_what_is_undone_was_not_taken(later_s: int) -> None:
    clock, pages = Time(MINUTE), UsagePages()
    limiter, key = Limiter(pages, clock), key_of(requests_per_minute=1, tokens_per_minute=1000, concurrency=1)
    for _ in range(3):
        taken = limiter.admit(key, 4000, {})
        assert isinstance(taken, Admitted)
        taken.undo()
    taken = limiter.admit(key, 4000, {})
    assert isinstance(taken, Admitted)
    clock.now += later_s
    taken.undo()
    now = pages.total(key.id, int(clock.now // WINDOW_S))
    assert (now.requests, now.tokens, now.running) == (0, 0, 0)


def test_changed_limits_hold_at_once_and_forget_nobody_who_is_running() -> None:
    limiter = limiter_of(Time())
    release = admitted(limiter, key_of(concurrency=5))
    refused(limiter, key_of(concurrency=1))
    release()
    admitted(limiter, key_of(concurrency=1))


def test_a_spent_budget_is_not_tried_again() -> None:
    limiter, key = limiter_of(Time()), key_of(monthly_usd=2.0)
    assert callable(limiter.admit(key, 0, {"key_1": 1.99, "other": 9.0}))
    refusal = limiter.admit(key, 0, {"key_1": 2.0})
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code) == (429, "insufficient_quota")
    assert refusal.headers == ((b"x-should-retry", b"false"),)


@pytest.mark.parametrize("kind", ["requests_per_minute", "concurrency"])
def test_four_processes_hold_one_limit_however_the_requests_fall(tmp_path: Any, kind: str) -> None:
    key = key_of(**{kind: 100})
    pages = [UsagePages(tmp_path, index, 4) for index in range(4)]
    limiters = [Limiter(page, Time(MINUTE)) for page in pages]
    assert count_admitted(limiters[0], key, 70) == 70
    assert sum(count_admitted(limiter, key, 1) for limiter in limiters * 20) == 30
    for page in pages:
        page.close()
