"""Policies that cannot be met are refused with the reason."""

from dataclasses import replace

import pytest
from pydantic import ValidationError

from capture.errors import RefusedError
from capture.settings import RolloutSettings
from students.policy import Guardrail, Policy, policy_of, validate

SOUND = Policy(gates=("category",))


def test_the_default_ladder_is_sound() -> None:
    validate(SOUND, ["category"])
    assert SOUND.shares == (0.0, 0.01, 0.05, 0.25, 0.5, 0.95)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"margin": 0.0}, "margin must lie between 0 and 1, not 0"),
        ({"margin": float("nan")}, "margin"),
        ({"alpha": 1.0}, "alpha must lie between 0 and 1, not 1"),
        ({"alpha": 0.0}, "alpha"),
        ({"shares": (0.0, 0.5, 0.25)}, "shares must rise from stage to stage, not 0, 0.5, 0.25"),
        ({"shares": (0.0, 0.5, 0.5)}, "shares must rise"),
        ({"shares": (0.0, 0.5, 1.0)}, "the rest is the control"),
        ({"shares": (0.01, 0.5)}, "first stage must be shadow"),
        ({"shares": (0.0,)}, "a stage after shadow"),
        ({"shares": ()}, "first stage must be shadow"),
        ({"gates": ()}, "at least one grader"),
        ({"gates": ("colour",)}, "gate 'colour' is no grader of this task (it has category)"),
        ({"gates": ("category", "category")}, "named twice"),
        ({"guardrails": (Guardrail("category", -0.1),)}, "smallest must lie in [0, 1) for category"),
        ({"minimum_pairs": 0}, "minimum_pairs"),
        ({"minimum_sessions": 0}, "minimum_sessions"),
        ({"minimum_hours": -1}, "minimum_hours"),
        ({"undecided_after_pairs": 50}, "must exceed its minimum"),
        ({"undecided_after_hours": 1.0, "minimum_hours": 2.0}, "must exceed its minimum"),
        ({"wait_for_person_before": (0.3,)}, "no stage: [0.3]"),
        ({"spend_cap_usd": 0.0}, "spend_cap_usd 0 allows no pairs"),
        ({"most_fallbacks": 2.0}, "most_fallbacks"),
    ],
)
def test_a_policy_that_cannot_be_met_is_refused(change, said: str) -> None:
    with pytest.raises(RefusedError) as refused:
        validate(replace(SOUND, **change), ["category"])
    assert said in str(refused.value)


def test_all_reasons_are_said_at_once() -> None:
    with pytest.raises(RefusedError, match=r"margin .*; alpha .*"):
        validate(replace(SOUND, margin=0, alpha=2))


def test_a_policy_is_made_of_a_tasks_settings() -> None:
    settings = RolloutSettings(margin=0.1, minimum_pairs=10, guardrails={"refusals": {"smallest": 0.05}})
    policy = policy_of(settings, ["category", "priority"])
    assert policy.gates == ("category",)
    assert policy.shares[:2] == (0.0, 0.01)
    assert policy.guardrails == (Guardrail("refusals", 0.05),)
    assert policy.margin == 0.1


def test_without_guardrails_the_gates_graders_are_watched_beyond_the_margin() -> None:
    assert policy_of(RolloutSettings(margin=0.1), ["category"]).guardrails == (Guardrail("category", 0.1),)


def test_a_task_without_graders_can_have_no_rollout() -> None:
    with pytest.raises(RefusedError, match="at least one grader"):
        policy_of(RolloutSettings(), [])


@pytest.mark.parametrize("deadline_s", [0, -1])
def test_a_deadline_that_nobody_meets_is_refused(deadline_s: float) -> None:
    """Every request of the student's would fall back."""
    with pytest.raises(ValidationError, match="deadline_s"):
        RolloutSettings(deadline_s=deadline_s)
