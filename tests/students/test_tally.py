"""The tests of one rollout: order of appearance, slices, stages, and a state that goes on identically."""

import json
import random

import pytest

from students.evidence import guardrail_alpha
from students.policy import Guardrail, Policy
from students.tally import MOST_SLICES, Tally

POLICY = Policy(
    gates=("category", "priority"), margin=0.1, guardrails=(Guardrail("category"), Guardrail("thumbs", 0.1))
)


def fed(tally: Tally, seed: int, pairs: int = 60) -> Tally:
    source = random.Random(seed)
    for _ in range(pairs):
        differences = {"category": source.choice([-1.0, 0.0, 0.0, 1.0]), "priority": source.choice([0.0, -0.5])}
        tally.add_pair(differences, {"language": source.choice(["de", "en"])})
        tally.add_value("thumbs", source.random() < 0.5, source.random())
    return tally


def test_a_tally_read_back_from_json_goes_on_identically() -> None:
    tally = fed(Tally(POLICY), 1)
    copy = Tally.from_state(POLICY, json.loads(json.dumps(tally.to_state())))
    assert copy.evidence() == tally.evidence()
    assert fed(copy, 2).to_state() == fed(tally, 2).to_state()


def test_guardrails_spend_alpha_in_their_order_of_appearance() -> None:
    evidence = fed(Tally(POLICY), 1).evidence()
    alphas = sorted((guard.alpha for guard in evidence.guardrails), reverse=True)
    assert alphas == [guardrail_alpha(0.05, order) for order in range(1, 5)]
    assert {(guard.metric, guard.unpaired) for guard in evidence.guardrails} == {("category", False), ("thumbs", True)}
    assert {guard.slice for guard in evidence.guardrails} == {"", "language=de", "language=en"}


def test_pairs_carry_over_and_what_is_unpaired_starts_anew() -> None:
    tally = fed(Tally(POLICY), 1)
    before = tally.evidence()
    tally.enter_stage()
    after = tally.evidence()
    assert after.gates == before.gates
    assert (before.pairs_at_stage, after.pairs_at_stage) == (60, 0)
    assert not [guard for guard in after.guardrails if guard.unpaired]
    tally.add_value("thumbs", True, 1.0)
    assert tally.evidence().guardrails[-1].alpha == guardrail_alpha(0.05, 5)


def test_a_grader_that_never_scored_has_no_reading() -> None:
    tally = Tally(POLICY)
    tally.add_pair({"category": 0.0}, {})
    assert [gate.reading is None for gate in tally.evidence().gates] == [False, True]


def test_harm_in_one_slice_is_found_though_the_average_is_fine() -> None:
    tally = Tally(POLICY)
    for number in range(900):
        bad = number % 10 == 0
        tally.add_pair({"category": -1.0 if bad and number % 20 else 0.05}, {"language": "fr" if bad else "en"})
    harmed = [guard.slice for guard in tally.evidence().guardrails if guard.reading.proven]
    assert harmed == ["language=fr"]


def test_a_key_with_ever_new_values_does_not_grow_the_tally_for_ever() -> None:
    policy = Policy(gates=("category",), guardrails=(Guardrail("category"),))
    tally = Tally(policy)
    for number in range(MOST_SLICES + 30):
        tally.add_pair({"category": 0.0}, {"id": str(number)})
    assert len(tally.evidence().guardrails) == MOST_SLICES + 1
    assert tally.untested == 30


def test_sampled_pairs_are_weighted_and_unpaired_values_are_not() -> None:
    tally = Tally(POLICY, floor=0.1)
    tally.add_pair({"category": 1.0}, {}, probability=1.0)
    tally.add_pair({"category": -1.0}, {}, probability=0.1)
    assert tally.evidence().gates[0].reading.mean == pytest.approx((0.1 - 1.0) / 1.1)
    tally.add_value("thumbs", True, 1.0)
    tally.add_value("thumbs", False, 0.0)
    assert tally._unpaired["thumbs", ""].test.floor == 1.0
    tally.add_value("unheard of", True, 1.0)
    assert len(tally.evidence().guardrails) == 2
