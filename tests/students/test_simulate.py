"""The simulator plays what decides live: the same endings, errors within α, and planted faults that are found."""

from dataclasses import replace

import numpy as np
import pytest

from capture.errors import RefusedError
from capture.settings import RolloutSettings
from students import evidence
from students.made_traffic import GRADER, Plan, Slice, made_traffic, planted_difference
from students.policy import Guardrail, Policy, policy_of
from students.simulate import looks, run
from students.tally import Tally
from students.verdicts import decide

POLICY = Policy(gates=(GRADER,), margin=0.1, guardrails=(Guardrail(GRADER, 0.1),), minimum_pairs=25)
PLAN = Plan(policy=POLICY, sessions=600, runs=100)


def played_live(plan: Plan) -> tuple[dict[str, int], list[int], list[int]]:
    """The very traffic of `run`, pair by pair through a Tally and `decide`: reasons, full at, rolled back at."""
    traffic = made_traffic(plan, plan.runs, np.random.default_rng(plan.seed))
    reasons: dict[str, int] = {}
    full, back = [], []
    for differences in traffic.differences[GRADER]:
        tally, stage, reason, full_at, back_at = Tally(plan.policy), 0, "", 0, 0
        for pair, difference in enumerate(differences, start=1):
            places = dict(place.split("=") for place, inside in traffic.places.items() if inside[0, pair - 1])
            tally.add_pair({GRADER: float(difference)}, places)
            if pair % plan.tick_every:
                continue
            here = tally.pairs_at_stage
            verdict = decide(plan.policy, stage, replace(tally.evidence(), sessions_at_stage=here, hours_at_stage=9.0))
            reason = verdict.reason
            if verdict.kind == "roll_back":
                back_at = pair
                break
            if verdict.stage > stage:
                stage = verdict.stage
                tally.enter_stage()
                full_at = pair if stage == len(plan.policy.shares) - 1 else full_at
        reasons[reason] = reasons.get(reason, 0) + 1
        full.append(full_at)
        back.append(back_at)
    return reasons, full, back


@pytest.mark.parametrize(
    "plan",
    [
        Plan(policy=POLICY, sessions=300, runs=6, student_wrong=0.08),
        Plan(policy=replace(POLICY, margin=0.05), sessions=300, runs=6, student_wrong=0.08),
        Plan(policy=POLICY, sessions=400, runs=6, slices=(Slice("fr", 0.3, 0.6),)),
    ],
)
def test_a_simulated_run_ends_as_the_live_one_does(plan: Plan) -> None:
    report = run(plan)
    reasons, full, back = played_live(plan)
    assert report.reasons == reasons
    assert report.promoted.count == sum(at > 0 for at in full)
    assert report.rolled_back.count == sum(at > 0 for at in back)


def test_the_same_seed_gives_the_same_report_and_another_seed_another() -> None:
    plan = replace(PLAN, runs=40, student_wrong=0.09)
    assert run(plan) == run(plan)
    assert run(plan).pairs_to_full != run(replace(plan, seed=2)).pairs_to_full


def test_an_equal_student_reaches_full_and_little_is_asked_of_it() -> None:
    report = run(PLAN)
    assert report.misses is not None
    assert report.misses.count / report.misses.total <= 0.05
    assert report.false_promotions is None
    assert report.pairs_to_proof.median <= 85
    assert report.pairs_to_full.median >= report.pairs_to_proof.median + 4 * POLICY.minimum_pairs - PLAN.tick_every
    assert report.rolled_back.low <= 0.1


def test_a_student_at_the_margin_is_promoted_at_most_alpha_often() -> None:
    """Sessions of mixed quality, two requests each, pairs delivered twice and out of order."""
    plan = replace(
        PLAN,
        student_wrong=0.15,
        spread=0.5,
        requests_per_session=2,
        duplicated=0.2,
        reordered_within=20,
        runs=300,
        sessions=1_000,
    )
    assert planted_difference(plan) == -plan.policy.margin
    report = run(plan)
    assert report.false_promotions is not None
    assert report.false_promotions.low <= plan.policy.alpha
    assert report.misses is None


def test_pairing_every_request_of_a_session_breaks_the_test() -> None:
    """What the rule of one pair a session is for: eight alike requests are no eight pieces of evidence."""
    plan = replace(PLAN, student_wrong=0.15, spread=0.9, requests_per_session=8, sessions=400)
    ruled = run(plan)
    unruled = run(replace(plan, every_request_paired=True))
    assert ruled.false_promotions is not None
    assert unruled.false_promotions is not None
    assert ruled.false_promotions.low <= 0.05
    assert unruled.false_promotions.low > 0.05


def test_a_bad_student_is_rolled_back_before_it_serves() -> None:
    report = run(replace(PLAN, student_wrong=0.35))
    assert report.rolled_back.count == 100
    assert report.promoted.count == 0
    assert report.bad_answers.median == 0


def test_drift_at_full_is_rolled_back_and_its_bad_answers_are_counted() -> None:
    report = run(replace(PLAN, drift_at=400, drift_wrong=0.6, sessions=900))
    assert report.rolled_back.count >= 95
    assert report.promoted.count >= 90
    assert report.pairs_to_roll_back.median > 400
    assert 10 <= report.bad_answers.median <= 200


def test_a_bad_slice_stops_a_student_that_is_fine_on_average() -> None:
    policy = replace(POLICY, guardrails=(Guardrail(GRADER, 0.02),))
    plan = replace(PLAN, policy=policy, slices=(Slice("fr", 0.15, 0.3),), sessions=1_500, student_wrong=0.04)
    assert planted_difference(plan) > -policy.margin
    report = run(plan)
    assert report.reasons.get("harm", 0) >= 90


def test_a_run_ends_where_a_person_is_asked() -> None:
    """Past its bound a rollout pauses; that the proof comes later promotes nobody."""
    policy = replace(POLICY, margin=0.03, undecided_after_pairs=100)
    plan = replace(PLAN, policy=policy, sessions=3_000)
    report = run(plan)
    assert report.reasons["needs_person"] == report.asked.count >= 90
    assert not any(ending.full_at for ending in report.endings if ending.reason == "needs_person")
    assert run(replace(plan, policy=replace(policy, undecided_after_pairs=None))).promoted.count >= 90
    seen = list(looks(plan))
    assert (seen[-1].pairs, seen[-1].verdict.reason) == (100, "needs_person")


def test_a_stage_that_only_waits_for_a_person_is_entered() -> None:
    report = run(replace(PLAN, policy=replace(POLICY, wait_for_person_before=(0.05, 0.5))))
    assert report.endings == run(PLAN).endings


def test_too_little_traffic_promotes_nobody() -> None:
    report = run(replace(PLAN, sessions=20))
    assert report.reasons == {"no_traffic": 100}
    assert report.promoted.count == 0


def test_a_policy_that_cannot_be_met_is_refused() -> None:
    with pytest.raises(RefusedError, match="margin"):
        run(replace(PLAN, policy=replace(POLICY, margin=0.0)))


@pytest.mark.parametrize("slices", [(), (Slice("a", 0.2, 0.3), Slice("b", 0.1, 0.0))])
def test_made_traffic_is_as_planted(slices: tuple[Slice, ...]) -> None:
    plan = Plan(sessions=3_000, slices=slices, requests_per_session=2, spread=0.4, student_wrong=0.1, duplicated=0.5)
    traffic = made_traffic(plan, 60, np.random.default_rng(3))
    assert traffic.differences[GRADER].shape == (60, 3_000)
    assert traffic.differences[GRADER].mean() == pytest.approx(planted_difference(plan), abs=0.006)
    pairs = traffic.student_bad.reshape(60, 3_000, 2).astype(float)
    assert np.corrcoef(pairs[..., 0].ravel(), pairs[..., 1].ravel())[0, 1] > 0.3


def test_drift_begins_where_it_was_planted_and_never_both_is_kept() -> None:
    plan = Plan(sessions=1_000, drift_at=600, drift_wrong=1.0, teacher_wrong=0.2, student_wrong=0.3)
    bad = made_traffic(plan, 5, np.random.default_rng(3)).student_bad
    assert bad[:, 600:].all()
    assert bad[:, :600].mean() == pytest.approx(0.3, abs=0.04)
    alone = made_traffic(replace(plan, drift_at=None, never_both=True), 5, np.random.default_rng(3)).differences[GRADER]
    assert np.abs(alone).mean() == pytest.approx(0.5, abs=0.03)


def test_truth_that_comes_late_duplicated_and_out_of_order_changes_no_error_rate() -> None:
    late = replace(PLAN, delayed_sessions=40, duplicated=0.3, reordered_within=30, sessions=1_000, runs=200)
    equal, at_the_margin = run(late), run(replace(late, student_wrong=0.15))
    assert equal.misses is not None
    assert equal.misses.high <= 0.05
    assert at_the_margin.false_promotions is not None
    assert at_the_margin.false_promotions.low <= POLICY.alpha


def test_late_truth_costs_bad_answers() -> None:
    plan = replace(PLAN, drift_at=400, drift_wrong=0.6, sessions=1_200, runs=60)
    on_time, late = run(plan), run(replace(plan, delayed_sessions=100))
    assert late.bad_answers.median > on_time.bad_answers.median
    assert late.hours_to_roll_back.median > on_time.hours_to_roll_back.median


def test_in_an_outage_nothing_is_decided_and_after_a_minute_nothing_is_served() -> None:
    plan = replace(PLAN, student_wrong=0.0, drift_at=500, drift_wrong=0.9, sessions=1_000, runs=60, tick_every=1)
    away = replace(plan, outage_at=500, outage_sessions=300)
    report = run(away)
    assert report.rolled_back.count == 60
    assert all(ending.rolled_back_h >= 800 / 100 for ending in report.endings)
    assert report.bad_answers.median <= 3  # a minute at a hundred sessions an hour, then the teacher answers
    assert run(plan).bad_answers.median > report.bad_answers.median


def test_evidence_that_never_comes_in_time_promotes_nobody() -> None:
    report = run(replace(PLAN, delayed_sessions=1e9))
    assert report.reasons == {"no_traffic": 100}


def test_one_margin_moves_the_simulator_and_the_live_decision_alike() -> None:
    """The margin stands in one place, the task's settings: both follow it."""
    reached = {}
    for margin in (0.02, 0.1):
        policy = policy_of(RolloutSettings(margin=margin, minimum_pairs=25), [GRADER])
        plan = replace(PLAN, policy=policy, runs=8, sessions=500)
        reasons, full, _ = played_live(plan)
        report = run(plan)
        assert report.reasons == reasons
        reached[margin] = (report.promoted.count, sum(at > 0 for at in full))
    assert reached[0.02] == (0, 0)
    assert reached[0.1] == (8, 8)


def test_what_the_tests_bet_is_shared_with_the_live_decision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "BOLDNESS", 0.0)  # who bets nothing proves nothing
    plan = replace(PLAN, runs=4, sessions=300)
    assert run(plan).reasons == played_live(plan)[0] == {"undecided": 4}


def test_the_first_run_can_be_watched_look_by_look() -> None:
    seen = list(looks(replace(PLAN, runs=1)))
    assert [look.pairs for look in seen] == list(range(25, 601, 25))
    assert seen[-1].verdict.reason == "full"
    assert seen[-1].hours == pytest.approx(6.0)


def test_where_less_is_paired_at_full_a_drift_takes_longer_to_find_and_nothing_else_changes() -> None:
    plan = replace(PLAN, drift_at=400, drift_wrong=0.6, sessions=2_500, runs=60)
    all_paired, thinned = run(plan), run(replace(plan, watch_share=0.2))
    assert thinned.pairs_to_full == all_paired.pairs_to_full
    assert thinned.rolled_back.count >= 57
    assert thinned.bad_answers.median > 2 * all_paired.bad_answers.median
