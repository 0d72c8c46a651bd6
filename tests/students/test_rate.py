"""How much traffic is reckoned with: no lull lifts it, no backlog and no jump of a clock raises it."""

import json

import pytest

from students.rate import REMEMBERED_S, TrafficRate, carried, rate_of


def flow(rate: TrafficRate, per_s: float, seconds: int, now: float) -> float:
    """Traffic for so long, looked at each second; the time afterwards."""
    for _ in range(seconds):
        now += 1.0
        rate.add(per_s, 1.0, now)
    return now


def test_what_is_not_known_is_not_none() -> None:
    rate = TrafficRate()
    assert rate.per_s is None
    flow(rate, 0.0, 60, 1000.0)
    assert rate.per_s is None
    flow(rate, 5.0, 60, 1060.0)
    assert rate.per_s == pytest.approx(5.0, rel=0.2)


def test_a_lull_lifts_no_limit_until_a_week_has_passed() -> None:
    rate = TrafficRate()
    now = flow(rate, 100.0, 700, 0.0)
    now = flow(rate, 1.0, 7_200, now)
    assert rate.smoothed == pytest.approx(1.0, rel=0.01)
    assert rate.per_s == pytest.approx(100.0)
    flow(rate, 1.0, 700, now + REMEMBERED_S)
    assert rate.per_s == pytest.approx(1.0, rel=0.01)


def test_a_rising_rate_counts_at_once() -> None:
    rate = TrafficRate()
    now = flow(rate, 10.0, 700, 0.0)
    flow(rate, 50.0, 120, now)
    assert rate.per_s == pytest.approx(50.0, rel=0.05)


def test_a_backlog_is_no_busy_time() -> None:
    """Nothing for a minute, then all of it within five seconds, as after a store that was away."""
    rate = TrafficRate()
    now = flow(rate, 10.0, 300, 0.0)
    now = flow(rate, 0.0, 60, now)
    now = flow(rate, 10.0 * 65 / 5, 5, now)
    flow(rate, 10.0, 700, now)
    assert rate.per_s == pytest.approx(10.0, rel=0.05)


def test_after_hours_of_silence_a_backlog_is_no_busy_time_either() -> None:
    """The controller was down for two hours; what came meanwhile is handed to it within five minutes."""
    rate = TrafficRate()
    now = flow(rate, 5.0, 700, 0.0) + 7_200.0
    rate.add(0.0, 7_200.0, now)
    now = flow(rate, 5.0 + 5.0 * 7_200 / 300, 300, now)
    flow(rate, 5.0, 700, now)
    assert rate.per_s == pytest.approx(5.0, rel=0.05)


def test_a_weekend_without_traffic_makes_nobody_infinitely_strong() -> None:
    assert TrafficRate(smoothed=1e-323).per_s is None
    rate = TrafficRate()
    now = flow(rate, 20.0, 700, 0.0) + 60 * 3600
    flow(rate, 0.0, 700, now)
    assert carried(1.0, rate.per_s) == pytest.approx(0.05)


def test_one_users_flood_is_traffic_and_no_busy_time() -> None:
    """What was kept of it stands for thousands each; the busiest span counts it as what was promised at least."""
    rate = TrafficRate()
    now = flow(rate, 2.0, 600, 0.0)
    rate.add(50_000.0, 1.0, now + 1.0, steady=20.0)
    assert (rate.per_s or 0.0) > 1_000.0
    flow(rate, 2.0, 1_200, now + 1.0)
    assert rate.per_s == pytest.approx(2.0, rel=0.05)


def test_a_clock_that_is_set_back_keeps_no_busy_time_for_ever() -> None:
    rate = TrafficRate()
    flow(rate, 100.0, 600, 1e9)
    flow(rate, 1.0, 700, 5e8)
    assert rate.per_s == pytest.approx(1.0, rel=0.01)


def test_it_goes_on_from_its_state() -> None:
    rate = TrafficRate()
    now = flow(rate, 7.0, 650, 0.0)
    again = rate_of(json.loads(json.dumps({"rate": rate.to_state()})))
    for one in (rate, again):
        flow(one, 3.0, 100, now)
    assert again == rate
    assert rate_of({}).per_s is None


@pytest.mark.parametrize(
    ("capacity", "rate", "share"), [(None, 5.0, None), (None, None, None), (2.0, None, 0.0), (2.0, 8.0, 0.25)]
)
def test_what_a_student_can_carry(capacity: float | None, rate: float | None, share: float | None) -> None:
    assert carried(capacity, rate) == share
