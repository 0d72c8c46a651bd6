"""Every rule of a decision, and the sentences that go with it."""

from dataclasses import replace

import pytest

from students.evidence import Reading
from students.policy import Guardrail, Policy
from students.tally import DriftEvidence, Evidence, GateEvidence, GuardrailEvidence, Tally
from students.verdicts import decide

POLICY = Policy(gates=("category",), margin=0.1, minimum_pairs=60, minimum_sessions=20, guardrails=(Guardrail("x"),))
PROVEN = Reading(84, 0.012, -0.063, 0.091, proven=True, refuted=False, proven_at=71, log_wealth=4.2)
OPEN = replace(PROVEN, proven=False, proven_at=0, log_wealth=1.0, low=-0.14)
REFUTED = replace(OPEN, refuted=True, mean=-0.3, low=-0.42, high=-0.11)
HARMED = Reading(210, -0.148, -0.24, -0.025, proven=True, refuted=False, proven_at=210, log_wealth=5.5)
ENOUGH = Evidence((GateEvidence("category", PROVEN),), pairs_at_stage=84, sessions_at_stage=40, hours_at_stage=2.0)
GERMAN = GuardrailEvidence("category", "language=de", 0.02, 0.05 / 30, HARMED)


def gate(reading: Reading | None) -> Evidence:
    return replace(ENOUGH, gates=(GateEvidence("category", reading),))


def test_a_proven_student_advances_one_stage() -> None:
    verdict = decide(POLICY, 2, ENOUGH)
    assert (verdict.kind, verdict.reason, verdict.stage, verdict.share) == ("advance", "proven", 3, 0.25)
    assert verdict.sentence == (
        "Advanced to 25 %: category is at most 10 points worse than the teacher"
        " (difference +1.2, at least −6.3, 84 pairs, α 0.05)."
    )
    assert verdict.numbers["gates"][0]["reading"]["mean"] == 0.012


def test_full_traffic_is_named_and_trying_again_is_owned_up_to() -> None:
    verdict = decide(POLICY, 4, replace(ENOUGH, attempt=3))
    assert verdict.sentence.startswith("Advanced to full traffic (95 %): category is")
    assert "attempt 3 for this task" in verdict.sentence
    assert "up to 15 %" in verdict.sentence


@pytest.mark.parametrize(
    ("evidence", "kind", "reason", "said"),
    [
        (Evidence(()), "hold", "no_evidence", "Held at 1 %: no pair has been scored yet by category."),
        (gate(None), "hold", "no_evidence", "no pair has been scored"),
        (gate(replace(OPEN, count=0)), "hold", "no_evidence", "no pair has been scored"),
        (
            replace(ENOUGH, pairs_at_stage=23, sessions_at_stage=4),
            "hold",
            "minimum_not_met",
            "Held at 1 %: there are 23 of 60 pairs and 4 of 20 sessions.",
        ),
        (replace(ENOUGH, hours_at_stage=0.25), "advance", "proven", "Advanced to 5 %"),
        (
            gate(OPEN),
            "hold",
            "undecided",
            "Held at 1 %: it is not yet proven that category is at most 10 points worse than the teacher"
            " (difference +1.2, at least −14.0, at most +9.1, 84 pairs, α 0.05).",
        ),
        (
            gate(REFUTED),
            "roll_back",
            "gate_refuted",
            "Rolled back from 1 %: category is more than 10 points worse than the teacher"
            " (difference −30.0, at least −42.0, at most −11.0, 84 pairs, α 0.05).",
        ),
        (
            replace(ENOUGH, guardrails=(GERMAN,)),
            "roll_back",
            "harm",
            "Rolled back from 1 %: category in language=de is more than 2 points worse than the teacher"
            " (difference −14.8, at least −24.0, at most −2.5, 210 pairs, α 0.0017).",
        ),
        (
            replace(ENOUGH, guardrails=(replace(GERMAN, reading=replace(HARMED, proven=False)),)),
            "hold",
            "harm_suspected",
            "category in language=de may be more than 2 points worse",
        ),
        (
            replace(ENOUGH, drifts=(DriftEvidence("category", 0.1, 10_000, -0.42, True),)),
            "roll_back",
            "drift",
            "Rolled back from 1 %: lately category has been more than 10 points worse than the teacher"
            " (difference −42.0, no false alarm in 10,000 pairs on average).",
        ),
        (replace(ENOUGH, capacity_share=0.04), "hold", "capacity", "measured to carry 4 % of the traffic, not 5 %"),
        (replace(ENOUGH, capacity_share=0.05), "advance", "proven", "Advanced"),
        (replace(ENOUGH, fallback_rate=0.3), "hold", "fallbacks", "the teacher had to answer 30 % of the student's"),
        (replace(ENOUGH, fallback_rate=0.1), "advance", "proven", "Advanced"),
        (replace(gate(OPEN), pairs_at_stage=5000), "hold", "needs_person", "Paused at 1 %, a person has to decide"),
    ],
)
def test_each_rule(evidence: Evidence, kind: str, reason: str, said: str) -> None:
    verdict = decide(POLICY, 1, evidence)
    assert (verdict.kind, verdict.reason) == (kind, reason)
    assert said in verdict.sentence
    if kind == "roll_back":
        assert verdict.share == 0.0
    if kind == "hold":
        assert (verdict.stage, verdict.share) == (1, 0.01)


def test_all_gates_must_be_proven_and_each_must_have_been_scored() -> None:
    policy = replace(POLICY, gates=("category", "priority"))
    both = replace(ENOUGH, gates=(GateEvidence("category", PROVEN), GateEvidence("priority", OPEN)))
    assert decide(policy, 0, both).reason == "undecided"
    assert "priority" in decide(policy, 0, both).sentence
    assert "category" not in decide(policy, 0, both).sentence
    missing = decide(policy, 0, ENOUGH)
    assert missing.reason == "grader_missing"
    assert missing.sentence == "Held at shadow: priority has scored no pair, and every gate must be proven."
    refuted = replace(ENOUGH, gates=(GateEvidence("category", PROVEN), GateEvidence("priority", REFUTED)))
    assert decide(policy, 0, refuted).kind == "roll_back"


def test_hours_count_where_the_policy_asks_for_them() -> None:
    policy = replace(POLICY, minimum_hours=3.0)
    assert "2 of 3 hours" in decide(policy, 1, ENOUGH).sentence
    assert decide(policy, 1, replace(ENOUGH, hours_at_stage=3.0)).kind == "advance"


def test_no_evidence_for_too_long_asks_for_a_person() -> None:
    policy = replace(POLICY, undecided_after_hours=24.0)
    verdict = decide(policy, 1, replace(Evidence(()), hours_at_stage=30.0))
    assert verdict.reason == "needs_person"
    assert verdict.sentence == (
        "Paused at 1 %, a person has to decide: after 0 pairs and 30 hours at this stage,"
        " no pair has been scored yet by category."
    )


def test_a_stage_that_waits_for_a_person_waits() -> None:
    policy = replace(POLICY, wait_for_person_before=(0.5,))
    waiting = decide(policy, 3, ENOUGH)
    assert waiting.reason == "waits_for_person"
    assert waiting.sentence.startswith("Held at 25 %: a person has to let it enter 50 %; category is at most")
    assert decide(policy, 3, replace(ENOUGH, person_agreed=True)).kind == "advance"
    assert decide(policy, 2, ENOUGH).kind == "advance"


def test_the_last_stage_is_held_and_still_rolled_back() -> None:
    last = len(POLICY.shares) - 1
    assert decide(POLICY, last, ENOUGH).reason == "full"
    assert "not yet proven" in decide(POLICY, last, gate(OPEN)).sentence
    assert decide(POLICY, last, gate(REFUTED)).kind == "roll_back"
    with pytest.raises(IndexError):
        decide(POLICY, last + 5, gate(REFUTED))


def test_the_tests_of_a_rollout_lead_to_the_verdict() -> None:
    policy = replace(POLICY, guardrails=(Guardrail("category", 0.1),))
    tally = Tally(policy)
    for _ in range(60):
        tally.add_pair({"category": 0.0}, {"language": "de"})
    assert decide(policy, 0, replace(tally.evidence(), sessions_at_stage=60)).kind == "advance"
    for _ in range(60):
        tally.add_pair({"category": -1.0}, {"language": "en"})
    assert decide(policy, 1, tally.evidence()).kind == "roll_back"
