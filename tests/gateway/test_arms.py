from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from capture.exchange import Arm, Assignment
from gateway.arms import Arms, Asked, Choice
from gateway.breaker import Breakers
from gateway.capacity import Capacity
from gateway.snapshot import Latency, Snapshot
from gateway.tally import Tally
from gateway.upstreams import endpoint
from students.assignment import arm_for
from students.heavy_keys import HEAVY, WINDOW, HeavyKeys
from tests.factories.routing import NOW, Time, rollout_of, settings_of, snapshot_of, student_of, with_rollouts

REQUEST: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
KNOWN = "*"  # the prompt version that the factory's student knows


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    return snapshot_of(settings_of(tmp_path))


def asked_of(session: str | None = "s", **overrides: Any) -> Asked:
    known: dict[str, Any] = {
        "task": "triage",
        "route": "chat.completions",
        "request": REQUEST,
        "headers": (),
        "upstream": "openai",
        "fingerprint": KNOWN,
        "session": session,
        "stream": False,
    }
    return Asked(**known | overrides)


def arms_of(tally: Tally | None = None, breakers: Breakers | None = None) -> Arms:
    return Arms(Capacity(1, Time(0)), HeavyKeys(), tally or Tally(), breakers or Breakers({}, Time(0)))


def session_of(rollout: str, assignment: str, share: float = 0.95) -> str:
    return next(f"s{n}" for n in range(10_000) if arm_for(rollout, f"s{n}", share) == assignment)


STUDENTS = session_of("ro_1", "student", 0.25)
TEACHERS = session_of("ro_1", "teacher", 0.25)
CONTROLS = session_of("ro_1", "control", 0.25)


@pytest.mark.parametrize(
    ("session", "assignment", "arm"),
    [
        (STUDENTS, Assignment.STUDENT, Arm.STUDENT),
        (TEACHERS, Assignment.TEACHER, Arm.TEACHER),
        (CONTROLS, Assignment.CONTROL, Arm.TEACHER),
    ],
)
def test_the_session_decides(snapshot: Snapshot, session: str, assignment: Assignment, arm: Arm) -> None:
    routed = with_rollouts(snapshot, rollout_of(share=0.25))
    choice = arms_of().choose(asked_of(session), routed, NOW)
    assert (choice.assignment, choice.arm, choice.rollout, choice.reason) == (assignment, arm, "ro_1", None)
    assert (choice.student is not None) == (arm is Arm.STUDENT)
    assert choice.student_name == "ft:small:triage:1"


def test_shadow_routes_nothing_and_says_why_a_request_would_not_do(snapshot: Snapshot) -> None:
    routed = with_rollouts(snapshot, rollout_of(share=0.0))
    arms = arms_of()
    assert arms.choose(asked_of(STUDENTS), routed, NOW) == Choice("ro_1", "ft:small:triage:1", Assignment.TEACHER)
    unseen = arms.choose(asked_of(STUDENTS, fingerprint="other"), routed, NOW)
    assert (unseen.assignment, unseen.reason, unseen.arm) == (None, "unknown_prompt_version", Arm.TEACHER)


def test_the_control_is_set_apart_in_shadow_already(snapshot: Snapshot) -> None:
    arms, sessions = arms_of(), [f"session {number}" for number in range(400)]
    controls = []
    for share in (0.0, 0.25, 0.95):
        routed = with_rollouts(snapshot, rollout_of(share=share))
        found = {one: arms.choose(asked_of(one), routed, NOW).assignment for one in sessions}
        controls.append({one for one, assignment in found.items() if assignment is Assignment.CONTROL})
    assert controls[0] == controls[1] == controls[2]
    assert 5 < len(controls[0]) < 40


def test_an_ineligible_request_is_outside_the_share_and_counted(snapshot: Snapshot) -> None:
    tally = Tally()
    routed = with_rollouts(snapshot, rollout_of(share=0.25))
    choice = arms_of(tally).choose(asked_of(STUDENTS, request={**REQUEST, "n": 2}), routed, NOW)
    assert (choice.assignment, choice.arm, choice.reason, choice.student) == (None, Arm.TEACHER, "n", None)
    assert tally.reasons == {("triage", "n"): 1}
    assert tally.assignments == {}


@pytest.mark.parametrize("side", [1, -1])
def test_a_silent_controller_sends_all_to_the_teacher(snapshot: Snapshot, side: int) -> None:
    """One whose last tick lies ahead of the clock may be long dead, too."""
    routed = with_rollouts(snapshot, rollout_of(share=0.25))
    choice = arms_of().choose(asked_of(STUDENTS), routed, NOW + side * 60.1)
    assert (choice.assignment, choice.reason, choice.student) == (None, "controller_silent", None)
    assert arms_of().choose(asked_of(STUDENTS), routed, NOW + side * 59.9).arm is Arm.STUDENT


def test_a_student_that_is_away_is_a_fallback(snapshot: Snapshot) -> None:
    routed = with_rollouts(snapshot, rollout_of(student_of(endpoint=None), share=0.25))
    choice = arms_of().choose(asked_of(STUDENTS), routed, NOW)
    assert (choice.assignment, choice.arm, choice.reason) == (Assignment.STUDENT, Arm.FALLBACK, "student_away")


def test_a_student_that_fails_again_and_again_is_left_alone(snapshot: Snapshot) -> None:
    breakers = Breakers({}, Time(0))
    for _ in range(5):
        breakers.observe("student:ft:small:triage:1", False)
    routed = with_rollouts(snapshot, rollout_of(share=0.25))
    choice = arms_of(breakers=breakers).choose(asked_of(STUDENTS), routed, NOW)
    assert (choice.assignment, choice.arm, choice.reason) == (
        Assignment.STUDENT,
        Arm.FALLBACK,
        "student_circuit_open",
    )


def test_overflow_goes_to_the_teacher(snapshot: Snapshot) -> None:
    tally = Tally()
    routed = with_rollouts(snapshot, rollout_of(student_of(capacity_per_s=1.0), share=0.25))
    arms = arms_of(tally)
    choices = [arms.choose(asked_of(STUDENTS), routed, NOW) for _ in range(3)]
    assert [choice.arm for choice in choices] == [Arm.STUDENT, Arm.STUDENT, Arm.FALLBACK]
    assert choices[2].reason == "student_capacity"
    assert tally.assignments == {("triage", "student"): 3}


@pytest.mark.parametrize(
    ("policy_s", "latency", "stream", "deadline_s"),
    [
        (None, None, False, 2.0),
        (None, Latency(0.4, 0.1), False, 2.0),
        (None, Latency(4.0, 0.1), False, 6.0),
        (None, Latency(4.0, 0.1), True, 2.0),
        (None, Latency(None, 2.0), True, 3.0),
        (0.5, Latency(4.0, 4.0), True, 0.5),
    ],
)
def test_the_deadline(
    snapshot: Snapshot, policy_s: float | None, latency: Latency | None, stream: bool, deadline_s: float
) -> None:
    routed = with_rollouts(snapshot, rollout_of(share=0.25, deadline_s=policy_s))
    routed = replace(routed, latencies={} if latency is None else {"triage": latency})
    choice = arms_of().choose(asked_of(STUDENTS, stream=stream), routed, NOW)
    assert choice.student is not None
    assert choice.student.deadline_s == deadline_s


def test_requests_without_a_session_are_hashed_each_by_itself(snapshot: Snapshot) -> None:
    routed = with_rollouts(snapshot, rollout_of(share=0.5))
    arms = arms_of()
    found = [arms.choose(asked_of(None), routed, NOW).assignment for _ in range(300)]
    assert {Assignment.STUDENT, Assignment.TEACHER, Assignment.CONTROL} == set(found)


def test_a_heavy_session_key_is_hashed_per_request(snapshot: Snapshot) -> None:
    routed = with_rollouts(snapshot, rollout_of(share=0.5))
    arms = arms_of()
    first = {arms.choose(asked_of(STUDENTS), routed, NOW).assignment for _ in range(int(HEAVY * WINDOW))}
    later = {arms.choose(asked_of(STUDENTS), routed, NOW).assignment for _ in range(300)}
    assert first == {Assignment.STUDENT}
    assert len(later) > 1


def test_the_incumbent_answers_what_a_newer_rollout_leaves_to_the_teacher(snapshot: Snapshot) -> None:
    newer = student_of(id="st_2", name="newer", served_model="newer")
    rollouts = (rollout_of(newer, id="ro_2", share=0.25), rollout_of(state="full", share=0.95))
    routed = with_rollouts(snapshot, *rollouts)
    arms = arms_of()
    found = {f"s{n}": arms.choose(asked_of(f"s{n}"), routed, NOW) for n in range(400)}
    for session, choice in found.items():
        assert (choice.rollout, choice.assignment) == ("ro_2", arm_for("ro_2", session, 0.25))
        if choice.assignment is Assignment.STUDENT:
            assert choice.student_name == "newer"
        elif arm_for("ro_1", session, 0.95) == "student":
            assert (choice.student_name, choice.arm) == ("ft:small:triage:1", Arm.STUDENT)
        else:
            assert (choice.arm, choice.student) == (Arm.TEACHER, None)


def test_the_incumbent_answers_what_the_newer_student_may_not(snapshot: Snapshot) -> None:
    newer = student_of(id="st_2", name="newer", facts=replace(student_of().facts, fingerprints=frozenset({"new"})))
    routed = with_rollouts(snapshot, rollout_of(newer, id="ro_2", share=0.25), rollout_of(state="full", share=0.95))
    choice = arms_of().choose(asked_of(session_of("ro_1", "student")), routed, NOW)
    assert (choice.rollout, choice.arm, choice.student_name) == ("ro_1", Arm.STUDENT, "ft:small:triage:1")


def test_what_only_a_student_in_shadow_may_answer_counts_for_it(snapshot: Snapshot) -> None:
    """Else nobody would know how much there is of it, and it could take no step beside the incumbent."""
    newer = student_of(id="st_2", name="newer", facts=replace(student_of().facts, fingerprints=frozenset({"new"})))
    routed = with_rollouts(snapshot, rollout_of(newer, id="ro_2", share=0.0), rollout_of(state="full", share=0.95))
    session = session_of("ro_2", "teacher", 0.0)
    choice = arms_of().choose(asked_of(session, fingerprint="new"), routed, NOW)
    assert choice == Choice("ro_2", "newer", Assignment.TEACHER)
    unknown = arms_of().choose(asked_of(session, fingerprint="unheard of"), routed, NOW)
    assert (unknown.assignment, unknown.reason) == (None, "unknown_prompt_version")
    known = arms_of().choose(asked_of(session_of("ro_1", "student")), routed, NOW)
    assert (known.rollout, known.arm) == ("ro_1", Arm.STUDENT)


def test_streamed_tool_calls_are_held_until_they_were_seen_whole(snapshot: Snapshot) -> None:
    able = student_of(facts=replace(student_of().facts, tools=True))
    routed = with_rollouts(snapshot, rollout_of(able, share=0.25))
    tool = {"type": "function", "function": {"name": "f"}}
    unary, streamed = {**REQUEST, "tools": [tool]}, {**REQUEST, "tools": [tool], "stream": True}
    assert arms_of().choose(asked_of(STUDENTS, request=unary), routed, NOW).arm is Arm.STUDENT
    held = arms_of().choose(asked_of(STUDENTS, request=streamed, stream=True), routed, NOW).student
    assert held is not None
    assert (held.buffered, held.valid is not None) == (True, True)
    unable = with_rollouts(snapshot, rollout_of(share=0.25))
    assert arms_of().choose(asked_of(STUDENTS, request=streamed, stream=True), unable, NOW).reason == "tools"


def test_a_responses_request_reaches_the_students_own_responses_route(snapshot: Snapshot) -> None:
    routed = with_rollouts(snapshot, rollout_of(share=0.25))
    request = {"model": "m", "input": "hello", "store": False}
    choice = arms_of().choose(asked_of(STUDENTS, route="responses", request=request), routed, NOW)
    assert choice.student is not None
    assert choice.student.leg.target == "/v1/responses"
    assert b'"input":[{"role":"user"' in (choice.student.leg.body or b"")


def test_a_responses_request_with_tools_is_the_teachers(snapshot: Snapshot) -> None:
    able = student_of(facts=replace(student_of().facts, tools=True))
    routed = with_rollouts(snapshot, rollout_of(able, share=0.25))
    request = {"model": "m", "input": "hello", "store": False, "tools": [{"type": "function", "name": "f"}]}
    choice = arms_of().choose(asked_of(STUDENTS, route="responses", request=request), routed, NOW)
    assert (choice.student, choice.reason) == (None, "tools")


@pytest.mark.parametrize(
    ("upstream", "teachers", "authorization"),
    [("local", "openai", b"Bearer local-secret"), ("openai", "openai", b"Bearer sk-c"), ("openai", "local", None)],
)
def test_a_registered_student_gets_the_credentials_of_its_own_upstream_alone(
    tmp_path: Path, snapshot: Snapshot, upstream: str, teachers: str, authorization: bytes | None
) -> None:
    where = endpoint(upstream, settings_of(tmp_path).upstreams[upstream])
    routed = with_rollouts(snapshot, rollout_of(student_of(endpoint=where, registered=True), share=0.25))
    headers = ((b"authorization", b"Bearer sk-c"), (b"cookie", b"c"))
    choice = arms_of().choose(asked_of(STUDENTS, headers=headers, upstream=teachers), routed, NOW)
    assert choice.student is not None
    sent = dict(choice.student.leg.headers)
    assert sent.get(b"authorization") == authorization
    assert b"cookie" not in sent


def test_another_tasks_rollout_is_nobodys_business(snapshot: Snapshot) -> None:
    routed = with_rollouts(snapshot, rollout_of(share=0.25))
    assert arms_of().choose(asked_of(STUDENTS, task="extract"), routed, NOW) == Choice()
