"""Session keys that are none."""

import pytest
from structlog.testing import capture_logs

from students.heavy_keys import WINDOW, HeavyKeys


def test_a_key_with_more_than_a_twentieth_of_the_traffic_is_no_session() -> None:
    """As soon as that is certain: after more requests than a twentieth of a whole window."""
    heavy = HeavyKeys()
    with capture_logs() as logs:
        first = [heavy.session("t", "service-account" if n % 10 == 0 else f"user-{n % 100}") for n in range(WINDOW)]
    assert first.index(None) == 10 * 50
    assert set(first[:500:10]) == {"service-account"}
    assert set(first[500::10]) == {None}
    assert heavy.session("t", "service-account") is None
    assert heavy.session("t", "user-7") == "user-7"
    assert heavy.session("another task", "service-account") == "service-account"
    assert [(line["event"], line["task"]) for line in logs] == [("session_key_too_heavy", "t")]


@pytest.mark.parametrize(("every", "heavy"), [(19, True), (20, False)])
def test_what_has_no_session_is_traffic_too(every: int, heavy: bool) -> None:
    keys = HeavyKeys()
    for n in range(WINDOW):
        keys.session("t", "the one" if n % every == 0 else None)
    assert keys.session("t", None) is None
    assert (keys.session("t", "the one") is None) == heavy


def test_a_key_that_calms_down_is_a_session_again() -> None:
    heavy = HeavyKeys()
    for _ in range(WINDOW):
        heavy.session("t", "loud")
    assert heavy.session("t", "loud") is None
    for n in range(WINDOW):
        heavy.session("t", f"user-{n}")
    assert heavy.session("t", "loud") == "loud"
