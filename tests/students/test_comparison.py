"""Differences of scores: with truth, against the teacher asked twice, and where there is nothing to judge by."""

import json
from typing import Any

import pytest

from capture.exchange import Answer
from capture.settings import GraderSettings, TaskSettings, TeacherSettings
from students.comparison import Case, Judge, awaits_truth, compare, judges_of

REQUEST: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}]}


def judges(**graders: GraderSettings) -> list[Judge]:
    teacher = TeacherSettings(upstream="u", model="m")
    return judges_of(TaskSettings(teacher=teacher, label="/category", graders=graders))


def saying(category: str | None) -> Answer:
    text = "" if category is None else json.dumps({"category": category})
    return Answer(message={"role": "assistant", "content": text})


TRUTH = GraderSettings(type="json_fields", against="truth", fields={"category": 1.0})
TEACHER = GraderSettings(type="json_fields", against="teacher", fields={"category": 1.0})
FREE = GraderSettings(type="empty")


@pytest.mark.parametrize(
    ("student", "teacher", "difference"), [("a", "a", 0.0), ("a", "b", 1.0), ("b", "a", -1.0), ("b", "b", 0.0)]
)
def test_with_truth_both_are_scored_against_it(student: str, teacher: str, difference: float) -> None:
    found = compare(judges(g=TRUTH), Case(REQUEST, saying(teacher), saying(student), truth={"category": "a"}))
    assert found.differences == {"g": difference}


def test_a_bare_truth_is_the_labels() -> None:
    assert compare(judges(g=TRUTH), Case(REQUEST, saying("b"), saying("a"), truth="a")).differences == {"g": 1.0}


@pytest.mark.parametrize(
    ("student", "first", "second", "difference"),
    [("a", "a", "a", 0.0), ("b", "a", "a", -1.0), ("a", "a", "b", 1.0), ("b", "a", "b", 0.0)],
)
def test_without_truth_the_teachers_agreement_with_itself_is_the_bar(
    student: str, first: str, second: str, difference: float
) -> None:
    found = compare(judges(g=TEACHER), Case(REQUEST, saying(first), saying(student), saying(second)))
    assert found.differences == {"g": difference}


def test_a_teacher_is_never_scored_one_by_definition() -> None:
    found = compare(judges(g=TEACHER), Case(REQUEST, saying("a"), saying("a")))
    assert (found.student, found.teacher, found.differences) == ({"g": 1.0}, {}, {})


def test_without_truth_a_grader_against_it_says_nothing_and_is_waited_for() -> None:
    found = compare(judges(g=TRUTH), Case(REQUEST, saying("a"), saying("a"), saying("a")))
    assert (found.student, found.differences) == ({}, {})
    assert awaits_truth(judges(g=TRUTH), ["g"], found.differences)
    assert not awaits_truth(judges(g=TRUTH), ["other"], found.differences)
    assert not awaits_truth(judges(g=TEACHER), ["g"], found.differences)


def test_graders_that_need_no_reference_score_both_as_they_are() -> None:
    found = compare(judges(g=FREE), Case(REQUEST, saying("a"), saying(None)))
    assert found.differences == {"g": -1.0}


@pytest.mark.parametrize("grader", [TRUTH, TEACHER, FREE])
def test_a_student_that_erred_scores_nothing(grader: GraderSettings) -> None:
    found = compare(judges(g=grader), Case(REQUEST, saying("a"), None, saying("a"), truth={"category": "a"}))
    assert (found.student, found.differences) == ({"g": 0.0}, {"g": -1.0})
