"""The simulator plays what decides live: the same endings, errors within α, and planted faults that are found."""

from dataclasses import replace

import numpy as np
import pytest

from capture.errors import RefusedError
from students.made_traffic import GRADER, Plan, Slice, made_traffic, planted_difference
from students.policy import Guardrail, Policy
from students.simulate import run
from students.tally import Tally
from students.verdicts import decide

POLICY = Policy(gates=(GRADER,), margin=0.1, guardrails=(Guardrail(GRADER, 0.1),), minimum_pairs=25)
PLAN = Plan(policy=POLICY, sessions=600, runs=100)


def played_live(plan: Plan) -> tuple[dict[str, int], list[int], list[int]]:
    """The very traffic of `run`, pair by pair through a Tally and `decide`: reasons, full at, rolled back at."""
    traffic = made_traffic(plan, plan.runs, np.random.default_rng(plan.seed))
    names = ["", *(f"{each.name}" for each in plan.slices)]
    reasons: dict[str, int] = {}
    full, back = [], []
    for differences in traffic.differences:
        tally, stage, reason, full_at, back_at = Tally(plan.policy), 0, "", 0, 0
        for pair, difference in enumerate(differences, start=1):
            place = names[traffic.slice[traffic.taken[pair - 1]]]
            tally.add_pair({GRADER: float(difference)}, {"slice": place} if place else {})
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
    assert traffic.differences.shape == (60, 3_000)
    assert traffic.differences.mean() == pytest.approx(planted_difference(plan), abs=0.006)
    pairs = traffic.student_bad.reshape(60, 3_000, 2).astype(float)
    assert np.corrcoef(pairs[..., 0].ravel(), pairs[..., 1].ravel())[0, 1] > 0.3


def test_drift_begins_where_it_was_planted_and_never_both_is_kept() -> None:
    plan = Plan(sessions=1_000, drift_at=600, drift_wrong=1.0, teacher_wrong=0.2, student_wrong=0.3)
    bad = made_traffic(plan, 5, np.random.default_rng(3)).student_bad
    assert bad[:, 600:].all()
    assert bad[:, :600].mean() == pytest.approx(0.3, abs=0.04)
    alone = made_traffic(replace(plan, drift_at=None, never_both=True), 5, np.random.default_rng(3)).differences
    assert np.abs(alone).mean() == pytest.approx(0.5, abs=0.03)
