"""What a policy says of itself before anything moves."""

from students.policy import Guardrail, Policy
from students.sentences import policy_words

POLICY = Policy(
    gates=("category", "tone"),
    guardrails=(Guardrail("category", 0.03), Guardrail("latency", 0.05, 1500.0), Guardrail("stars", 0.01)),
    wait_for_person_before=(0.5,),
    minimum_hours=2,
    undecided_after_hours=48,
)


def test_a_policy_says_how_it_goes_and_what_stops_it() -> None:
    assert policy_words(POLICY) == [
        "Goes shadow → 1 % → 5 % → 25 % → 50 % → full traffic (95 %).",
        "Each step needs the proof (α 0.05) that category is at most 3 points worse than the teacher and tone is at "
        "most 3 points worse than the teacher, and 50 pairs, 20 sessions and 2 hours at the stage it leaves.",
        "It is held while more than 20 % of the student's requests fall back.",
        "Rolled back as soon as worse than the teacher everywhere, or in a slice of its pairs: category by more than 3 "
        "points, latency (1,500 ms) by more than 5 points and stars by more than 1 point.",
        "A person is asked where a stage is undecided after 5,000 pairs or 48 hours.",
        "A person has to resume it before it enters 50 %.",
        "A drift detector watches, with no false alarm in 10,000 pairs on average.",
    ]


def test_a_guardrail_that_no_grader_has_the_name_of_is_told() -> None:
    """A misspelt one would never come."""
    said = "The task has no grader stars: scores posted to /feedback by that name count."
    assert said in policy_words(POLICY, ["category", "tone"])
    assert said not in policy_words(POLICY, ["category", "tone", "stars"])
