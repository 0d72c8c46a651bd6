"""The controller: evidence counted once under a fence, verdicts carried out, nothing moved on nothing."""

import json
from pathlib import Path
from typing import Any, Literal

import pytest
from sqlalchemy import event, insert, select, update

import students.tables as tables
from capture.db import Store
from capture.errors import RefusedError
from capture.feedback import Feedback, record
from capture.settings import GuardrailSettings, RolloutSettings, SamplingSettings
from students import controller, leases, rollouts, said, steering
from students.controller import tick
from students.holding import Silence
from students.leases import StaleLeaseError
from students.observing import Measure
from students.policy import policy_of
from students.rollout_start import Start, start
from students.rollouts import load_rollout
from students.standing import standing_of
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
from tests.factories.store import add_exchange, new_store


def test_no_evidence_holds(store: Store, clock: Clock) -> None:
    rollout = begin(store, clock)
    for _ in range(3):
        clock.now += 1000 * 3600
        tick(store, clock, "a")
    after = load_rollout(store, rollout.id)
    assert (after.state, after.stage, after.share) == ("running", 0, 0.0)
    assert verdict_rows(store, rollout) == [("start", "start"), ("hold", "no_evidence")]


def test_pairs_that_wait_for_truth_are_no_evidence(store: Store, clock: Clock) -> None:
    rollout = begin(store, clock)
    add_pairs(store, rollout, [0.0] * 300, state="waiting")
    assert tick(store, clock, "a").consumed == 0
    assert load_rollout(store, rollout.id).stage == 0


def test_a_dead_judge_promotes_nobody(store: Store, clock: Clock) -> None:
    """Pairs come, and the gate's grader says nothing of them."""
    rollout = begin(store, clock)
    add_pairs(store, rollout, [0.0] * 300, grader="another")
    clock.now += 1
    tick(store, clock, "a")
    after = load_rollout(store, rollout.id)
    assert (after.stage, after.share) == (0, 0.0)
    assert verdict_rows(store, rollout)[-1] == ("hold", "no_evidence")


def test_every_gate_has_to_speak(store: Store, clock: Clock) -> None:
    policy = POLICY.model_copy(update={"gates": ("category", "schema")})
    rollout = begin(store, clock, policy=policy)
    add_pairs(store, rollout, [0.0] * 200)
    tick(store, clock, "a")
    assert load_rollout(store, rollout.id).stage == 0
    assert verdict_rows(store, rollout)[-1] == ("hold", "grader_missing")


def test_a_ticks_cost_does_not_grow_with_the_history(tmp_path: Path, clock: Clock) -> None:
    store = new_store(tmp_path)
    rollout = begin(store, clock, policy=POLICY.model_copy(update={"undecided_after_pairs": 100_000}))
    statements: list[str] = []
    event.listen(store.engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
    costs = []
    for _ in range(12):
        add_pairs(store, load_rollout(store, rollout.id), [0.0] * 100)
        observe(store, rollout, "AT" * 50)
        statements.clear()
        clock.now += 1
        tick(store, clock, "a")
        costs.append((len(statements), len(json.dumps(load_rollout(store, rollout.id).evidence))))
    early, late = costs[3], costs[-1]
    assert late[0] <= early[0]
    assert late[1] < 1.1 * early[1]
    store.close()


def test_pairs_are_weighted_by_the_probability_that_their_exchange_was_kept_with(store: Store, clock: Clock) -> None:
    """Half of what is kept comes from a stratum that is kept ten times as often: it stands for a tenth as much."""
    strata = [{"rate": 1.0, "language": "de"}]
    task = TASK.model_copy(update={"sampling": SamplingSettings(rate=0.1, strata=strata)})
    asked = Start("triage", new_student(store, clock), "tester", reason="a test", force=True)
    rollout = start(store, asked, task, clock)
    add_pairs(store, rollout, [0.1] * 20, probability=0.1)
    add_pairs(store, rollout, [-1.0] * 20, probability=1.0)
    add_pairs(store, rollout, [0.1] * 20, probability=0.001)  # thinned out below what was promised
    tick(store, clock, "a")
    found = standing_of(policy_of(rollout.policy, rollout.policy.gates), load_rollout(store, rollout.id).evidence)
    (gate,) = found.tally.evidence().gates
    assert gate.reading is not None
    assert gate.reading.mean == pytest.approx((0.1 * 40 - 1.0 * 2) / 42)


def test_what_is_paired_at_full_cancels(store: Store, clock: Clock) -> None:
    rollout = begin(store, clock, policy=POLICY.model_copy(update={"watch_share": 0.2, "pair_share": 0.5}))
    add_pairs(store, rollout, [0.1] * 10, probability=0.5)
    for _ in range(2):
        steering.promote(store, rollout.id, "tester", "a test", clock)
    add_pairs(store, load_rollout(store, rollout.id), [-0.1] * 10, probability=0.2)
    tick(store, clock, "a")
    found = load_rollout(store, rollout.id).evidence["tally"]
    assert found["floor"] == 1.0
    assert found["gates"]["category"]["sums"][0] == pytest.approx(20.0)


def test_an_equal_student_goes_from_shadow_to_full(store: Store, clock: Clock) -> None:
    rollout = begin(store, clock)
    shares = []
    for _ in range(30):
        add_pairs(store, load_rollout(store, rollout.id), [0.0] * 20)
        clock.now += 1
        tick(store, clock, "a")
        shares.append(load_rollout(store, rollout.id).share)
    assert load_rollout(store, rollout.id).state == "full"
    assert sorted(set(shares)) == [0.0, 0.25, 0.95]
    assert shares == sorted(shares)


def test_a_worse_student_is_rolled_back_with_its_numbers(store: Store, clock: Clock) -> None:
    rollout = begin(store, clock)
    add_pairs(store, rollout, [-1.0, 0.0] * 30)
    clock.now += 5
    tick(store, clock, "a")
    after = load_rollout(store, rollout.id)
    assert (after.state, after.share, after.ended_at) == ("rolled_back", 0.0, clock.now)
    last = rollouts.list_verdicts(store, rollout.id)[-1]
    assert last.kind == "roll_back"
    assert last.numbers["gates"][0]["reading"]["count"] == 60
    assert last.who == "controller"


def test_the_full_student_goes_on_being_watched(store: Store, clock: Clock) -> None:
    rollout = begin(store, clock)
    for _ in range(2):
        steering.promote(store, rollout.id, "tester", "we trust it", clock)
    full = load_rollout(store, rollout.id)
    assert (full.state, full.share) == ("full", 0.95)
    add_pairs(store, full, [-1.0] * 60)
    tick(store, clock, "a")
    assert load_rollout(store, rollout.id).state == "rolled_back"


def test_replay_counts_nothing_twice(store: Store, clock: Clock) -> None:
    rollout = begin(store, clock)
    ids = add_pairs(store, rollout, [0.0] * 4)
    look = controller._look(store, rollout.id, clock())
    assert look is not None
    tick(store, clock, "a")
    lease = leases.acquire(store, controller.LEASE, "a", clock(), 10)
    assert lease is not None
    with pytest.raises(controller.MovedError):
        controller._turn(store, look, lease, clock(), Silence())
    tick(store, clock, "a")
    assert count_of_gate(load_rollout(store, rollout.id)) == len(ids)


def test_a_stale_controller_is_refused_and_nothing_is_consumed(store: Store, clock: Clock) -> None:
    rollout = begin(store, clock)
    stale = leases.acquire(store, controller.LEASE, "old", clock(), 10)
    assert stale is not None
    add_pairs(store, rollout, [0.0] * 4)
    look = controller._look(store, rollout.id, clock())
    assert look is not None
    clock.now += 11
    fresh = leases.acquire(store, controller.LEASE, "new", clock(), 10)
    assert fresh is not None
    assert fresh.token == stale.token + 1
    assert (leases.was_last(store, controller.LEASE, "old"), leases.was_last(store, controller.LEASE, "new")) == (
        False,
        True,
    )
    with pytest.raises(StaleLeaseError):
        controller._turn(store, look, stale, clock(), Silence())
    with store.read() as connection:
        states = set(connection.execute(select(tables.pairs.c.state)).scalars())
    assert states == {"scored"}
    assert tick(store, clock, "old") == controller.Tick(leading=False)
    assert tick(store, clock, "new").consumed == 4


def test_the_tick_is_written_for_the_gateways(store: Store, clock: Clock) -> None:
    tick(store, clock, "a")
    with store.read() as connection:
        assert connection.execute(select(tables.leases.c.ticked_at)).scalar() == clock.now


def test_paused_never_advances_but_still_rolls_back(store: Store, clock: Clock) -> None:
    rollout = begin(store, clock)
    steering.pause(store, rollout.id, "tester", clock)
    add_pairs(store, rollout, [0.0] * 200)
    tick(store, clock, "a")
    assert load_rollout(store, rollout.id).stage == 0
    assert verdict_rows(store, rollout)[-1] == ("hold", "paused")
    add_pairs(store, rollout, [-1.0] * 190)
    tick(store, clock, "a")
    assert load_rollout(store, rollout.id).state == "rolled_back"


def test_a_stage_that_cannot_decide_pauses_and_asks(store: Store, clock: Clock) -> None:
    policy = POLICY.model_copy(update={"undecided_after_pairs": 40})
    rollout = begin(store, clock, policy=policy)
    wavering = [-1.0, 1.0, 0.0, -1.0, 0.0, 0.0, 1.0, -1.0] * 5
    add_pairs(store, rollout, wavering)
    tick(store, clock, "a")
    asking = load_rollout(store, rollout.id)
    assert (asking.state, asking.stage, verdict_rows(store, rollout)[-1]) == ("paused", 0, ("hold", "needs_person"))
    clock.now += 5
    resumed = steering.resume(store, rollout.id, "tester", clock)
    assert (resumed.state, resumed.stage_at) == ("running", clock.now)
    tick(store, clock, "a")
    assert load_rollout(store, rollout.id).state == "running"  # its bound is counted anew
    assert count_of_gate(load_rollout(store, rollout.id)) == len(wavering)  # the evidence is not


def test_what_a_paused_rollout_asked_is_not_forgotten(store: Store, clock: Clock) -> None:
    """A proof comes while it waits, and goes again: resuming still begins the stage's bound anew."""
    policy = POLICY.model_copy(update={"undecided_after_pairs": 40})
    rollout = begin(store, clock, policy=policy)
    add_pairs(store, rollout, [-1.0, 1.0, 0.0, -1.0, 0.0, 0.0, 1.0, -1.0] * 5)
    tick(store, clock, "a")
    for _ in range(5):
        add_pairs(store, rollout, [0.0] * 200)
        tick(store, clock, "a")
    assert verdict_rows(store, rollout)[-1] == ("hold", "paused")
    assert load_rollout(store, rollout.id).reason == rollouts.NEEDS_PERSON
    steering.resume(store, rollout.id, "tester", clock)
    assert load_rollout(store, rollout.id).evidence["stage"] == steering.STAGE_ANEW


def test_a_dry_run_decides_and_moves_nothing(store: Store, clock: Clock) -> None:
    rollout = begin(store, clock, dry_run=True)
    for _ in range(20):
        add_pairs(store, rollout, [0.0] * 20)
        clock.now += 1
        tick(store, clock, "a")
    after = load_rollout(store, rollout.id)
    assert (after.state, after.stage, after.share) == ("running", 2, 0.0)


def test_errors_by_assignment_roll_back(store: Store, clock: Clock) -> None:
    rollout = begin(store, clock)
    steering.promote(store, rollout.id, "tester", "we trust it", clock)
    observe(store, rollout, "aTaTATAT" * 40)
    tick(store, clock, "a")
    last = rollouts.list_verdicts(store, rollout.id)[-1]
    assert (last.kind, last.reason) == ("roll_back", "harm")
    with store.read() as connection:
        assert connection.execute(select(tables.observations.c.id)).all() == []


def test_a_new_prompt_version_is_proven_by_its_own_pairs(store: Store, clock: Clock) -> None:
    rollout = begin(store, clock)
    for _ in range(10):
        add_pairs(store, rollout, [0.0] * 20, prompt="new prompt")
        tick(store, clock, "a")
    with store.read() as connection:
        assert connection.execute(select(tables.students.c.fingerprints)).scalar_one() == ["new prompt"]
    after = load_rollout(store, rollout.id)
    assert after.stage == 0  # it says nothing of the traffic that the rollout is about
    assert ("hold", "prompt_proven") in verdict_rows(store, rollout)


@pytest.mark.parametrize("why", ["paused", "dry_run", "unheard"])
def test_no_prompt_version_is_proven_while_nothing_may_move(store: Store, clock: Clock, why: str) -> None:
    rollout = begin(store, clock, dry_run=why == "dry_run")
    if why == "paused":
        steering.pause(store, rollout.id, "tester", clock)
    unheard = {rollout.id: "its judge is away"} if why == "unheard" else {}
    for _ in range(10):
        add_pairs(store, rollout, [0.0] * 20, prompt="new prompt")
        tick(store, clock, "a", unheard=unheard)
    with store.read() as connection:
        assert connection.execute(select(tables.students.c.fingerprints)).scalar_one() == []
    assert ("hold", "prompt_proven") not in verdict_rows(store, rollout)


def test_many_prompt_versions_keep_none_from_being_proven(store: Store, clock: Clock) -> None:
    """A prompt with a name in it makes versions without end; the one that goes on takes the place of one of those."""
    rollout = begin(store, clock)
    for number in range(30):
        add_pairs(store, rollout, [0.0], prompt=f"prompt {number}")
        tick(store, clock, "a")
    for _ in range(10):
        add_pairs(store, rollout, [0.0] * 20, prompt="new prompt")
        tick(store, clock, "a")
    with store.read() as connection:
        assert connection.execute(select(tables.students.c.fingerprints)).scalar_one() == ["new prompt"]


def test_at_full_it_says_that_nobody_keeps_watch(store: Store, clock: Clock) -> None:
    rollout = begin(store, clock)
    for _ in range(2):
        steering.promote(store, rollout.id, "tester", "we trust it", clock)
    add_pairs(store, rollout, [0.0] * 20)
    tick(store, clock, "a", obstacles={rollout.id: "the spend cap of 1 USD is reached"})
    held = rollouts.list_verdicts(store, rollout.id)[-1]
    assert (held.kind, held.reason) == ("hold", "pairs_off")
    assert held.sentence.endswith("No pairs are coming in: the spend cap of 1 USD is reached.")
    assert load_rollout(store, rollout.id).state == "full"


def test_what_people_say_of_live_answers_rolls_back_by_assignment(store: Store, clock: Clock) -> None:
    policy = POLICY.model_copy(update={"guardrails": {"stars": GuardrailSettings(smallest=0.02)}})
    rollout = begin(store, clock, policy=policy)
    steering.promote(store, rollout.id, "tester", "we trust it", clock)
    for number in range(120):
        student = number % 2 == 0
        one = add_exchange(store, rollout=rollout.id, assignment="student" if student else "teacher")
        given = Feedback(id=one, kind="score", name="stars", value=0.2 if student else 0.9)
        record(store, given, None, clock, lambda _id, value: value)
    tick(store, clock, "a")
    assert load_rollout(store, rollout.id).state == "running"  # said a moment ago: more may be on its way
    clock.now += said.SETTLED_S + 1
    tick(store, clock, "a")
    last = rollouts.list_verdicts(store, rollout.id)[-1]
    assert (last.kind, last.reason) == ("roll_back", "harm")
    assert "stars" in last.sentence


STARS = POLICY.model_copy(update={"guardrails": {"stars": GuardrailSettings(smallest=0.02)}})


def say(store: Store, clock: Clock, exchange_id: str, kind: Literal["score", "truth"], value: Any) -> None:
    given = Feedback(id=exchange_id, kind=kind, name="stars" if kind == "score" else "", value=value)
    record(store, given, None, clock, lambda _id, value: value)


def stars_of(store: Store, rollout: rollouts.Rollout) -> list[Any]:
    return list(load_rollout(store, rollout.id).evidence["tally"]["unpaired"])


def test_feedback_that_is_no_score_is_looked_through_once(store: Store, clock: Clock) -> None:
    rollout = begin(store, clock, policy=STARS)
    one = add_exchange(store, rollout=rollout.id, assignment="student")
    clock.now += 10
    say(store, clock, one, "truth", "card")
    said_at = clock.now
    clock.now += said.SETTLED_S + said.HEARD_S - 1
    tick(store, clock, "a")
    assert load_rollout(store, rollout.id).evidence["said_until"][0] < said_at  # what comes late is still found
    clock.now += 1
    tick(store, clock, "a")
    assert load_rollout(store, rollout.id).evidence["said_until"] == [said_at, ""]
    silent = stars_of(store, rollout)
    say(store, clock, one, "score", 0.9)
    clock.now += said.SETTLED_S
    tick(store, clock, "a")
    counted = stars_of(store, rollout)
    assert counted != silent
    for _ in range(3):
        clock.now += said.HEARD_S
        tick(store, clock, "a")
    assert stars_of(store, rollout) == counted  # once


def test_no_jump_of_the_clock_passes_over_what_people_say(store: Store, clock: Clock) -> None:
    rollout = begin(store, clock, policy=STARS)
    one = add_exchange(store, rollout=rollout.id, assignment="student")
    say(store, clock, one, "truth", "card")
    clock.now += 86_400
    tick(store, clock, "a")
    clock.now -= 86_400 - 10
    before = stars_of(store, rollout)
    say(store, clock, one, "score", 0.9)
    clock.now += said.SETTLED_S
    tick(store, clock, "a")
    assert stars_of(store, rollout) != before


def test_too_many_fallbacks_hold(store: Store, clock: Clock) -> None:
    rollout = begin(store, clock)
    steering.promote(store, rollout.id, "tester", "we trust it", clock)
    add_pairs(store, load_rollout(store, rollout.id), [0.0] * 200)
    observe(store, rollout, "FATT" * 10)
    tick(store, clock, "a")
    assert verdict_rows(store, rollout)[-1] == ("hold", "fallbacks")


def test_no_step_beyond_the_measured_capacity(store: Store, clock: Clock) -> None:
    rollout = begin(store, clock)
    be_served(store, rollout, 1.0, clock)
    add_pairs(store, rollout, [0.0] * 200)
    observe(store, rollout, "T" * 100)
    tick(store, clock, "a")
    for _ in range(3):  # 100 requests a second, of which the next stage would bring 25
        clock.now += 1
        observe(store, rollout, "T" * 100)
        tick(store, clock, "a")
    assert load_rollout(store, rollout.id).stage == 0
    reasons = [reason for _, reason in verdict_rows(store, rollout)]
    assert reasons[1:] == ["traffic_unknown", "capacity"]
    assert "1 %" in rollouts.list_verdicts(store, rollout.id)[-1].sentence


def test_no_lull_lifts_the_measured_capacity(store: Store, clock: Clock) -> None:
    rollout = begin(store, clock)
    be_served(store, rollout, 1.0, clock)
    add_pairs(store, rollout, [0.0] * 200)
    for _ in range(3):
        tick(store, clock, "a")
        clock.now += 1
    assert verdict_rows(store, rollout)[-1] == ("hold", "traffic_unknown")  # nothing comes, so nothing is known
    for _ in range(7):
        clock.now += 100
        observe(store, rollout, "T" * 2_000)
        tick(store, clock, "a")
    for _ in range(20):
        clock.now += 600
        tick(store, clock, "a")
    assert (load_rollout(store, rollout.id).stage, verdict_rows(store, rollout)[-1]) == (0, ("hold", "capacity"))


def test_in_shadow_beside_an_incumbent_its_traffic_counts(store: Store, clock: Clock) -> None:
    """What the incumbent answers bears its mark; the newer student sees none of it before its first share."""
    incumbent = begin(store, clock)
    for _ in range(2):
        steering.promote(store, incumbent.id, "tester", "we trust it", clock)
    for _ in range(5):
        clock.now += 1
        observe(store, incumbent, "A" * 95 + "T" * 5)
        tick(store, clock, "a")
    newer = begin(store, clock, student=new_student(store, clock, "newer"))
    be_served(store, newer, 1.0, clock)
    add_pairs(store, newer, [0.0] * 200)
    tick(store, clock, "a")
    assert verdict_rows(store, newer)[-1] == ("hold", "capacity")
    with pytest.raises(RefusedError, match="carry 1 % of the traffic"):
        steering.promote(store, newer.id, "tester", "we trust it", clock)


@pytest.mark.parametrize(("kept", "reason"), [(0.1, "capacity"), (1.0, "proven")])
def test_the_capacity_is_compared_with_all_the_traffic_not_with_what_is_kept_of_it(
    store: Store, clock: Clock, kept: float, reason: str
) -> None:
    rollout = begin(store, clock)
    be_served(store, rollout, 3.0, clock)
    add_pairs(store, rollout, [0.0] * 200)
    for _ in range(3):  # 10 marks a second, a tenth of the traffic or all of it
        clock.now += 1
        observe(store, rollout, "T" * 10, Measure(probability=kept))
        tick(store, clock, "a")
    assert reason in [reason for _, reason in verdict_rows(store, rollout)]
    assert load_rollout(store, rollout.id).stage == (reason == "proven")


@pytest.mark.parametrize(("floor", "kept", "stage"), [(0.1, 0.1, 1), (0.1, 1.0, 0), (0.5, 0.001, 0)])
def test_fallbacks_are_counted_with_those_that_were_not_kept(
    store: Store, clock: Clock, floor: float, kept: float, stage: int
) -> None:
    """A stratum that is kept whole does not stand for all of the student's requests, nor does one user's flood."""
    task = TASK.model_copy(update={"sampling": SamplingSettings(rate=floor), "rollout": POLICY})
    asked = Start("triage", new_student(store, clock), "tester", reason="a test", force=True)
    rollout = start(store, asked, task, clock)
    observe(store, rollout, "F" * 10)
    observe(store, rollout, "A" * 10, Measure(probability=kept))
    add_pairs(store, rollout, [0.0] * 200, probability=floor)
    tick(store, clock, "a")
    assert load_rollout(store, rollout.id).stage == stage


def test_what_cannot_be_heard_holds_whatever_was_proven(store: Store, clock: Clock) -> None:
    rollout = begin(store, clock)
    add_pairs(store, rollout, [0.0] * 200)
    silent = {rollout.id: "judge tone has no licence: it agrees with nobody"}
    tick(store, clock, "a", unheard=silent)
    held = rollouts.list_verdicts(store, rollout.id)[-1]
    assert (held.kind, held.reason, held.stage, held.share) == ("hold", "unheard", 0, 0.0)
    assert (
        held.sentence == "Held at shadow, whatever was proven before: judge tone has no licence: it agrees with nobody."
    )
    tick(store, clock, "a", unheard=silent)
    assert len(rollouts.list_verdicts(store, rollout.id)) == 2
    tick(store, clock, "a")
    assert load_rollout(store, rollout.id).stage == 1


def test_who_is_not_heard_is_told_where_it_is_waited_for(store: Store, clock: Clock) -> None:
    rollout = begin(store, clock)
    tick(store, clock, "a", unheard={rollout.id: "the task has no grader category any more"})
    held = rollouts.list_verdicts(store, rollout.id)[-1]
    assert (held.kind, held.reason) == ("hold", "unheard")
    assert held.sentence.endswith("scored yet by category. The task has no grader category any more.")
    add_pairs(store, rollout, [-1.0] * 60)
    tick(store, clock, "a", unheard={rollout.id: "the task has no grader category any more"})
    assert load_rollout(store, rollout.id).state == "rolled_back"


def test_one_rollout_of_a_task_at_a_time(store: Store, clock: Clock) -> None:
    first = begin(store, clock)
    with pytest.raises(RefusedError, match="under way"):
        begin(store, clock, student=new_student(store, clock, "other"))
    steering.abort(store, first.id, "tester", "enough", clock)
    assert begin(store, clock).evidence["attempt"] == 2


def test_the_next_student_takes_over_from_the_incumbent_or_gives_back(store: Store, clock: Clock) -> None:
    incumbent = begin(store, clock)
    for _ in range(2):
        steering.promote(store, incumbent.id, "tester", "we trust it", clock)
    bad = begin(store, clock, student=new_student(store, clock, "bad"))
    steering.promote(store, bad.id, "tester", "a test", clock)
    add_pairs(store, bad, [-1.0] * 60)
    tick(store, clock, "a")
    assert load_rollout(store, bad.id).state == "rolled_back"
    assert (load_rollout(store, incumbent.id).state, load_rollout(store, incumbent.id).share) == ("full", 0.95)
    good = begin(store, clock, student=new_student(store, clock, "good"))
    for _ in range(2):
        steering.promote(store, good.id, "tester", "we trust it", clock)
    assert (load_rollout(store, incumbent.id).state, load_rollout(store, incumbent.id).share) == ("superseded", 0.0)


@pytest.mark.parametrize(
    "policy",
    [
        POLICY.model_copy(update={"margin": 0.0}),
        POLICY.model_copy(update={"alpha": 1.0}),
        POLICY.model_copy(update={"shares": (0.5, 0.25)}),
        POLICY.model_copy(update={"gates": ("nobody",)}),
        POLICY.model_copy(update={"spend_cap_usd": 0.0}),
    ],
)
def test_a_policy_that_cannot_be_met_is_refused(store: Store, clock: Clock, policy: RolloutSettings) -> None:
    with pytest.raises(RefusedError):
        begin(store, clock, policy=policy)
    assert rollouts.list_rollouts(store) == []


def test_a_student_without_evaluation_is_refused(store: Store, clock: Clock) -> None:
    student = new_student(store, clock)
    with pytest.raises(RefusedError, match="no evaluation"):
        start(store, Start("triage", student, "tester"), TASK, clock)
    with pytest.raises(RefusedError, match="reason"):
        start(store, Start("triage", student, "tester", force=True), TASK, clock)


def test_the_student_of_an_ended_rollout_is_retired_after_a_while(store: Store, clock: Clock) -> None:
    rollout = begin(store, clock)
    with store.write() as connection:
        values = {"student_id": rollout.student_id, "state": "ready", "wanted_at": clock.now, "seen_at": clock.now}
        connection.execute(insert(tables.student_servers).values(values))
    clock.now += 1
    steering.abort(store, rollout.id, "tester", "enough", clock)

    def wanted() -> float | None:
        with store.read() as connection:
            return connection.execute(select(tables.student_servers.c.wanted_at)).scalar()

    tick(store, clock, "a")
    assert wanted() is not None
    clock.now += controller.RETIRE_AFTER_S + 1
    tick(store, clock, "a")
    assert wanted() is None
    with store.write() as connection:
        connection.execute(update(tables.student_servers).values(wanted_at=clock.now))
    tick(store, clock, "a")
    assert wanted() is not None
