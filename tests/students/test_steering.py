"""What a person does with a rollout: agree, promote, pause, resume, abort; and what is refused with its reason."""

from typing import Any

import pytest

from capture.db import Store
from capture.errors import NotFoundError, RefusedError
from capture.settings import RolloutSettings, TaskSettings
from students import rollouts, steering
from students.controller import tick
from students.rollout_start import Start, start
from students.rollouts import load_rollout
from tests.factories.clock import Clock
from tests.factories.moving import (
    POLICY,
    TASK,
    add_pairs,
    be_served,
    begin,
    count_of_gate,
    new_student,
    observe,
    verdict_rows,
)

WAITING = POLICY.model_copy(update={"wait_for_person_before": (0.95,)})


def proven_at_a_quarter(store: Store, clock: Clock) -> rollouts.Rollout:
    """A rollout that waits for a person before it enters full traffic."""
    rollout = begin(store, clock, policy=WAITING)
    add_pairs(store, rollout, [0.0] * 200)
    tick(store, clock, "a")
    assert load_rollout(store, rollout.id).stage == 1
    add_pairs(store, load_rollout(store, rollout.id), [0.0] * 10)
    tick(store, clock, "a")
    return load_rollout(store, rollout.id)


def test_a_chosen_stage_waits_for_a_person_and_a_resume_lets_it_in(store: Store, clock: Clock) -> None:
    waiting = proven_at_a_quarter(store, clock)
    assert (waiting.state, waiting.stage, waiting.share) == ("paused", 1, 0.25)
    assert verdict_rows(store, waiting)[-1] == ("hold", "waits_for_person")
    tick(store, clock, "a")
    assert load_rollout(store, waiting.id).state == "paused"
    steering.resume(store, waiting.id, "tester", clock)
    tick(store, clock, "a")
    full = load_rollout(store, waiting.id)
    assert (full.state, full.share) == ("full", 0.95)


def test_who_agreed_still_gets_no_step_without_its_proof(store: Store, clock: Clock) -> None:
    waiting = proven_at_a_quarter(store, clock)
    steering.resume(store, waiting.id, "tester", clock)
    add_pairs(store, waiting, [-1.0] * 60)
    tick(store, clock, "a")
    assert load_rollout(store, waiting.id).state == "rolled_back"


def test_harm_rolls_back_while_a_person_is_waited_for(store: Store, clock: Clock) -> None:
    waiting = proven_at_a_quarter(store, clock)
    add_pairs(store, waiting, [-1.0] * 60)
    tick(store, clock, "a")
    assert load_rollout(store, waiting.id).share == 0.0


def test_a_resume_loses_no_evidence(store: Store, clock: Clock) -> None:
    waiting = proven_at_a_quarter(store, clock)
    steering.resume(store, waiting.id, "tester", clock)
    assert count_of_gate(load_rollout(store, waiting.id)) == 210
    tick(store, clock, "a")
    assert count_of_gate(load_rollout(store, waiting.id)) == 210


def test_a_dry_run_gets_no_share_by_a_promotion_and_replaces_nobody(store: Store, clock: Clock) -> None:
    incumbent = begin(store, clock)
    for _ in range(2):
        steering.promote(store, incumbent.id, "tester", "we trust it", clock)
    dry = begin(store, clock, student=new_student(store, clock, "other"), dry_run=True)
    for _ in range(2):
        steering.promote(store, dry.id, "tester", "to see", clock)
    after = load_rollout(store, dry.id)
    assert (after.state, after.stage, after.share) == ("running", 2, 0.0)
    assert load_rollout(store, incumbent.id).state == "full"


@pytest.mark.parametrize("reason", ["", "  "])
def test_a_promotion_needs_a_reason(store: Store, clock: Clock, reason: str) -> None:
    rollout = begin(store, clock)
    with pytest.raises(RefusedError, match="reason"):
        steering.promote(store, rollout.id, "tester", reason, clock)


def test_a_promotion_goes_no_further_than_the_measured_capacity(store: Store, clock: Clock) -> None:
    rollout = begin(store, clock)
    be_served(store, rollout, 3.0, clock)
    with pytest.raises(RefusedError, match="how much traffic there is cannot be said yet"):
        steering.promote(store, rollout.id, "ben", "we trust it", clock)
    for _ in range(2):  # 10 requests a second, of which the first stage would bring 2.5
        clock.now += 1
        observe(store, rollout, "T" * 10)
        tick(store, clock, "a")
    assert steering.promote(store, rollout.id, "ben", "we trust it", clock).share == 0.25
    with pytest.raises(RefusedError, match=r"cannot promote to full traffic \(95 %\): .* carry 30 % of the traffic"):
        steering.promote(store, rollout.id, "ben", "we trust it", clock)
    assert load_rollout(store, rollout.id).share == 0.25


def test_who_decided_on_an_earlier_stage_is_told_to_look_again(store: Store, clock: Clock) -> None:
    """Of two who promote at once, one moves it; a stale agreement lets it into no later stage."""
    rollout = begin(store, clock)
    steering.promote(store, rollout.id, "ben", "seen enough", clock, seen=0)
    with pytest.raises(RefusedError, match="moved to stage 1 since you looked"):
        steering.promote(store, rollout.id, "mara", "seen enough", clock, seen=0)
    assert load_rollout(store, rollout.id).stage == 1
    steering.pause(store, rollout.id, "ben", clock)
    with pytest.raises(RefusedError, match="look again"):
        steering.resume(store, rollout.id, "mara", clock, seen=0)
    assert steering.resume(store, rollout.id, "mara", clock, seen=1).state == "running"


def test_what_a_person_did_stands_in_the_history(store: Store, clock: Clock) -> None:
    rollout = begin(store, clock)
    steering.pause(store, rollout.id, "ann", clock)
    steering.resume(store, rollout.id, "ann", clock)
    steering.promote(store, rollout.id, "ben", "the holidays are near", clock)
    steering.abort(store, rollout.id, "ben", "too early", clock)
    told = [(row.kind, row.who, row.share) for row in rollouts.list_verdicts(store, rollout.id)[1:]]
    assert told == [
        ("pause", "ann", 0.0),
        ("resume", "ann", 0.0),
        ("promote", "ben", 0.25),
        ("abort", "ben", 0.0),
    ]
    assert "too early" in rollouts.list_verdicts(store, rollout.id)[-1].sentence


@pytest.mark.parametrize("verb", ["pause", "resume", "promote", "abort"])
def test_an_ended_rollout_cannot_be_steered(store: Store, clock: Clock, verb: str) -> None:
    rollout = begin(store, clock)
    steering.abort(store, rollout.id, "tester", "enough", clock)
    acts: dict[str, Any] = {
        "pause": lambda: steering.pause(store, rollout.id, "t", clock),
        "resume": lambda: steering.resume(store, rollout.id, "t", clock),
        "promote": lambda: steering.promote(store, rollout.id, "t", "why", clock),
        "abort": lambda: steering.abort(store, rollout.id, "t", "why", clock),
    }
    with pytest.raises(RefusedError, match="aborted"):
        acts[verb]()


@pytest.mark.parametrize("rollout_id", ["nobody", ""])
def test_an_unknown_rollout_is_not_found(store: Store, clock: Clock, rollout_id: str) -> None:
    with pytest.raises(NotFoundError, match="rollouts status"):
        steering.pause(store, rollout_id, "t", clock)


def test_a_deleted_student_is_refused(store: Store, clock: Clock) -> None:
    with pytest.raises(NotFoundError, match="no student 'st_gone'"):
        start(store, Start("triage", "st_gone", "tester", reason="a test", force=True), TASK, clock)


def test_a_student_of_another_task_is_refused(store: Store, clock: Clock) -> None:
    student = new_student(store, clock)
    with pytest.raises(RefusedError, match="for task triage, not extract"):
        start(store, Start("extract", student, "tester", reason="a test", force=True), TASK, clock)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"margin": 0.0}, "margin must lie between 0 and 1"),
        ({"alpha": 1.0}, "alpha must lie between 0 and 1"),
        ({"alpha": 1.5}, "alpha must lie between 0 and 1"),
        ({"shares": (0.5, 0.25)}, "shares must rise"),
        ({"shares": (0.5, 1.0)}, "the rest is the control"),
        ({"gates": ("nobody",)}, "gate 'nobody' is no grader"),
        ({"spend_cap_usd": 0.0}, "spend_cap_usd 0 allows no pairs"),
        ({"most_fallbacks": 1.5}, "most_fallbacks"),
        ({"undecided_after_hours": 0.0}, "must exceed its minimum"),
        ({"pairs_between_false_alarms": 1.0}, "pairs_between_false_alarms"),
        ({"slices": {"prompt": "/x"}}, "prompt"),
        ({"guardrails": {"latency": {"smallest": 0.05}}}, "guardrails.latency needs a target"),
    ],
)
def test_each_policy_that_cannot_be_met_is_refused_with_its_reason(
    store: Store, clock: Clock, changes: dict[str, Any], said: str
) -> None:
    policy = RolloutSettings.model_validate({**POLICY.model_dump(), **changes})
    with pytest.raises(RefusedError) as refused:
        begin(store, clock, policy=policy)
    assert said in str(refused.value)
    assert rollouts.list_rollouts(store) == []


@pytest.mark.parametrize("policy", [{"gates": ["code"]}, {"gates": ["half"]}, {"guardrails": {"code": {}}}])
def test_a_grader_that_may_not_run_here_decides_nothing(store: Store, clock: Clock, policy: dict[str, Any]) -> None:
    code = {"type": "python", "source": "def grade(sample, item): return 1.0"}
    half = {"type": "multi", "graders": {"code": code}, "calculate_output": "code / 2"}
    graders = {"category": TASK.graders["category"], "code": code, "half": half}
    rollout = {**POLICY.model_dump(), **policy}
    task = TaskSettings.model_validate({**TASK.model_dump(), "graders": graders, "rollout": rollout})
    asked = Start("triage", new_student(store, clock), "tester", reason="a test", force=True)
    with pytest.raises(RefusedError, match="would never speak: Python graders are off"):
        start(store, asked, task, clock, python=False)
    assert start(store, asked, task, clock, python=True).state == "running"


def test_an_incumbent_at_full_is_no_rollout_under_way(store: Store, clock: Clock) -> None:
    first = begin(store, clock)
    for _ in range(2):
        steering.promote(store, first.id, "tester", "we trust it", clock)
    second = begin(store, clock, student=new_student(store, clock, "other"))
    with pytest.raises(RefusedError, match="has a rollout under way; abort it"):
        begin(store, clock, student=new_student(store, clock, "third"))
    steering.pause(store, second.id, "tester", clock)
    with pytest.raises(RefusedError, match="under way"):
        begin(store, clock, student=new_student(store, clock, "third"))


def test_the_settings_of_fallbacks_and_hours_are_obeyed(store: Store, clock: Clock) -> None:
    policy = POLICY.model_copy(update={"most_fallbacks": 0.9, "undecided_after_hours": 1.0})
    rollout = begin(store, clock, policy=policy)
    steering.promote(store, rollout.id, "tester", "a test", clock)
    add_pairs(store, load_rollout(store, rollout.id), [0.0] * 200)
    observe(store, rollout, "FATT" * 10)
    tick(store, clock, "a")
    assert load_rollout(store, rollout.id).stage == 2  # half of them fell back, and nine tenths may
