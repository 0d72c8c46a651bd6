"""What live answers say without a pair: latency, first events, cost, fallbacks and feedback, by assignment."""

from typing import Any

import pytest

from capture.db import Store
from capture.feedback import Feedback, record
from capture.settings import GuardrailSettings
from students import rollouts, said, steering
from students.controller import tick
from students.observing import Measure
from students.rollouts import load_rollout
from tests.factories.clock import Clock
from tests.factories.moving import POLICY, begin, observe
from tests.factories.store import add_exchange

FAST, SLOW = Measure(50.0, 100.0, 0.001), Measure(900.0, 2_000.0, 0.01)
GUARDS = {
    "latency": GuardrailSettings(smallest=0.05, target=1_000.0),
    "first_event": GuardrailSettings(smallest=0.05, target=500.0),
    "cost": GuardrailSettings(smallest=0.05, target=0.01),
}


def at_a_quarter(store: Store, clock: Clock, **guardrails: Any) -> rollouts.Rollout:
    rollout = begin(store, clock, policy=POLICY.model_copy(update={"guardrails": guardrails}))
    return steering.promote(store, rollout.id, "tester", "a test", clock)


@pytest.mark.parametrize("metric", list(GUARDS))
def test_a_student_that_takes_or_costs_more_is_rolled_back(store: Store, clock: Clock, metric: str) -> None:
    rollout = at_a_quarter(store, clock, **{metric: GUARDS[metric]})
    for _ in range(60):
        observe(store, rollout, "A", SLOW)
        observe(store, rollout, "T", FAST)
    tick(store, clock, "a")
    last = rollouts.list_verdicts(store, rollout.id)[-1]
    assert (last.kind, last.reason) == ("roll_back", "harm")
    assert metric in last.sentence


@pytest.mark.parametrize("metric", list(GUARDS))
@pytest.mark.parametrize(("ours", "theirs"), [(FAST, SLOW), (SLOW, SLOW), (Measure(), Measure())])
def test_one_that_is_as_quick_and_cheap_is_not(
    store: Store, clock: Clock, metric: str, ours: Measure, theirs: Measure
) -> None:
    rollout = at_a_quarter(store, clock, **{metric: GUARDS[metric]})
    for _ in range(60):
        observe(store, rollout, "A", ours)
        observe(store, rollout, "T", theirs)
    tick(store, clock, "a")
    assert load_rollout(store, rollout.id).state == "running"


def test_an_answer_that_failed_was_not_in_time(store: Store, clock: Clock) -> None:
    rollout = at_a_quarter(store, clock, latency=GUARDS["latency"])
    for _ in range(60):
        observe(store, rollout, "a", Measure(1.0, 2.0, None))
        observe(store, rollout, "T", FAST)
    tick(store, clock, "a")
    assert load_rollout(store, rollout.id).state == "rolled_back"


def test_a_student_that_always_falls_back_is_rolled_back(store: Store, clock: Clock) -> None:
    rollout = at_a_quarter(store, clock, fallbacks=GuardrailSettings(smallest=0.5))
    observe(store, rollout, "FT" * 100)
    tick(store, clock, "a")
    last = rollouts.list_verdicts(store, rollout.id)[-1]
    assert (last.kind, last.reason) == ("roll_back", "harm")
    assert "fallbacks" in last.sentence


def test_nameless_scores_are_peoples_feedback(store: Store, clock: Clock) -> None:
    rollout = at_a_quarter(store, clock, feedback=GuardrailSettings(smallest=0.05))
    for number in range(120):
        student = number % 2 == 0
        one = add_exchange(store, rollout=rollout.id, assignment="student" if student else "teacher")
        given = Feedback(id=one, kind="score", value=0.1 if student else 0.9)
        record(store, given, None, clock, lambda _id, value: value)
    clock.now += said.SETTLED_S + 1
    tick(store, clock, "a")
    last = rollouts.list_verdicts(store, rollout.id)[-1]
    assert (last.kind, last.reason) == ("roll_back", "harm")
    assert "feedback" in last.sentence


def test_a_session_is_heard_once_a_day_however_much_it_says(store: Store, clock: Clock) -> None:
    rollout = at_a_quarter(store, clock, feedback=GuardrailSettings(smallest=0.05))
    for number in range(100):
        student = number % 2 == 0
        noted = {"rollout": rollout.id, "assignment": "student" if student else "teacher"}
        one = add_exchange(store, session=f"session {student}", **noted)
        for key in ("first", "again"):
            given = Feedback(id=one, kind="score", value=0.1 if student else 0.9, idempotency_key=f"{number} {key}")
            record(store, given, None, clock, lambda _id, value: value)
    clock.now += said.SETTLED_S + 1
    for _ in range(5):
        tick(store, clock, "a")
    after = load_rollout(store, rollout.id)
    assert after.state == "running"
    ((_, _, compared),) = after.evidence["tally"]["unpaired"]
    assert compared["values"] == [1, 1]


def test_a_key_that_all_clients_share_is_no_session(store: Store, clock: Clock) -> None:
    rollout = at_a_quarter(store, clock, feedback=GuardrailSettings(smallest=0.05))
    for number in range(160):
        student = number % 2 == 0
        noted = {"rollout": rollout.id, "assignment": "student" if student else "teacher"}
        one = add_exchange(store, session="everybody", **noted)
        record(store, Feedback(id=one, kind="score", value=float(not student)), None, clock, lambda _id, value: value)
    clock.now += said.SETTLED_S + 1
    tick(store, clock, "a")
    assert load_rollout(store, rollout.id).state == "rolled_back"


def test_live_measures_start_anew_at_each_stage(store: Store, clock: Clock) -> None:
    rollout = at_a_quarter(store, clock, latency=GUARDS["latency"])
    for _ in range(6):
        observe(store, rollout, "A", SLOW)
        observe(store, rollout, "T", FAST)
    tick(store, clock, "a")
    assert load_rollout(store, rollout.id).evidence["tally"]["unpaired"]
    steering.promote(store, rollout.id, "tester", "a test", clock)
    tick(store, clock, "a")
    assert load_rollout(store, rollout.id).evidence["tally"]["unpaired"] == []
