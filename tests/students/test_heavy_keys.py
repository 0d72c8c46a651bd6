"""Session keys that are none."""

from students.heavy_keys import WINDOW, HeavyKeys


def test_a_key_with_more_than_a_twentieth_of_the_traffic_is_no_session() -> None:
    heavy = HeavyKeys()
    first = [heavy.is_heavy("t", "service-account" if n % 10 == 0 else f"user-{n % 100}") for n in range(WINDOW - 1)]
    assert not any(first)
    assert heavy.is_heavy("t", "service-account")
    assert not heavy.is_heavy("t", "user-7")
    assert not heavy.is_heavy("another task", "service-account")


def test_a_key_that_calms_down_is_a_session_again() -> None:
    heavy = HeavyKeys()
    for _ in range(WINDOW):
        heavy.is_heavy("t", "loud")
    assert heavy.is_heavy("t", "loud")
    for n in range(WINDOW):
        heavy.is_heavy("t", f"user-{n}")
    assert not heavy.is_heavy("t", "loud")
