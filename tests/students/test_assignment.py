"""Assignment is sticky, monotone, evenly spread, and leaves the control alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from students.assignment import FULL, arm_for, position, session_key

SESSIONS = [f"session-{number}" for number in range(100_000)]
SHARES = (0.0, 0.01, 0.05, 0.25, 0.5, FULL)


@pytest.mark.parametrize("share", SHARES)
def test_the_share_is_kept_within_a_point(share: float) -> None:
    arms = [arm_for("rollout-1", session, share) for session in SESSIONS]
    assert arms.count("student") / len(arms) == pytest.approx(share, abs=0.01)
    assert arms.count("control") / len(arms) == pytest.approx(1 - FULL, abs=0.01)


def test_raising_the_share_moves_nobody_back_and_leaves_the_control_alone() -> None:
    before: set[str] = set()
    controls = set()
    for share in SHARES:
        arms = {session: arm_for("rollout-1", session, share) for session in SESSIONS[:20_000]}
        students = {session for session, arm in arms.items() if arm == "student"}
        assert before <= students
        before = students
        controls.add(frozenset(session for session, arm in arms.items() if arm == "control"))
    assert len(controls) == 1


def test_no_share_reaches_the_control() -> None:
    assert all(
        arm_for("r", session, 1.0) == "control" for session in SESSIONS[:5_000] if position("r", session) >= FULL
    )


def test_positions_are_uniform_and_differ_from_rollout_to_rollout() -> None:
    first = [position("rollout-1", session) for session in SESSIONS[:20_000]]
    second = [position("rollout-2", session) for session in SESSIONS[:20_000]]
    assert stats.kstest(first, "uniform").pvalue > 0.001
    assert abs(stats.pearsonr(first, second).statistic) < 0.03


@given(st.text(), st.text())
def test_a_position_lies_in_the_unit_interval_and_stays(rollout_id: str, session: str) -> None:
    u = position(rollout_id, session)
    assert 0.0 <= u < 1.0
    assert position(rollout_id, session) == u


def test_a_position_never_changes_with_a_release() -> None:
    """Replicas and versions have to agree on it: another hash would move sessions in the middle of a rollout."""
    assert position("rollout-1", "session-1") == 0.4095382360769392


def test_the_session_is_the_first_that_is_given() -> None:
    given_values = ["header", "metadata", "conversation", "user", "safety"]
    for place in range(5):
        left = [None] * place + given_values[place:]
        assert session_key(*left, "request") == given_values[place]
    assert session_key("", None, "", None, None, "request") == "request"
