"""The demo's margin, bound and minimums: an honest run reaches full in at least 19 of 20, within the pairs it has."""

import tomllib

import pytest

from capture.settings import RolloutSettings
from examples.demo.world import TICKETS
from students.made_traffic import GRADER, Plan
from students.policy import Guardrail, Policy, policy_of
from students.simulate import run

PAIRS = 650
"""As many as come in the ten minutes that the demo's rollout has, at a good request a second."""
TEACHER_WRONG = 0.08


def demo_policy() -> Policy:
    settings = RolloutSettings(gates=(GRADER,), **tomllib.loads(TICKETS.rollout))
    policy = policy_of(settings, (GRADER,))
    return Policy(**{**vars(policy), "guardrails": (Guardrail(GRADER, policy.margin),)})


@pytest.mark.parametrize("worse", [0.0, 0.03, 0.05])
def test_a_student_as_the_demo_trains_them_reaches_full(worse: float) -> None:
    plan = Plan(demo_policy(), TEACHER_WRONG, TEACHER_WRONG + worse, sessions=PAIRS, tick_every=5, runs=200)
    assert run(plan).promoted.count >= 190


def test_one_that_is_as_much_worse_as_the_margin_hardly_does() -> None:
    plan = Plan(demo_policy(), TEACHER_WRONG, TEACHER_WRONG + 0.15, sessions=PAIRS, tick_every=5, runs=200)
    assert run(plan).promoted.count <= 10
