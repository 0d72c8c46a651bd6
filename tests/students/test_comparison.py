"""Differences of scores: with truth, against the teacher asked twice, and where there is nothing to judge by."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from capture.errors import ConfigError
from capture.exchange import Answer
from capture.graders.means import Means
from capture.settings import GraderSettings, TaskSettings, TeacherSettings
from students.comparison import Case, Judge, KnownJudges, awaits_truth, compare, judges_of

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


def test_of_a_teacher_that_was_asked_twice_the_second_answer_is_scored() -> None:
    """Cut by the first answer's label, no pair has an empty first one: its luck must not count against the student."""
    found = compare(judges(g=FREE), Case(REQUEST, saying("a"), saying("a"), saying(None)))
    assert (found.teacher, found.differences) == ({"g": 0.0}, {"g": 1.0})


@pytest.mark.parametrize("grader", [TRUTH, TEACHER, FREE])
def test_a_student_that_erred_scores_nothing(grader: GraderSettings) -> None:
    found = compare(judges(g=grader), Case(REQUEST, saying("a"), None, saying("a"), truth={"category": "a"}))
    assert (found.student, found.differences) == ({"g": 0.0}, {"g": -1.0})


JUDGE = {"type": "score_model", "upstream": "u", "model": "m", "input": "Grade {{ sample.output_text }}"}
CODE = {"type": "python", "source": "def grade(sample, item): return 1.0"}
EMPTY = {"type": "empty"}


class FakePython:
    def grade(self, source: str, sample: Mapping[str, Any], item: Mapping[str, Any]) -> float | None:
        return 0.25 if source == CODE["source"] and {"output_text"} <= {*sample, *item} else None


def task_with(**graders: Any) -> TaskSettings:
    teacher = {"upstream": "u", "model": "m"}
    return TaskSettings.model_validate({"teacher": teacher, "graders": graders, "judges": {"upstreams": ["u"]}})


def both(formula: str, **parts: Any) -> dict[str, Any]:
    return {"type": "multi", "graders": parts, "calculate_output": formula}


def test_graders_that_cannot_score_here_are_left_out() -> None:
    deep = both("outer", outer=both("tone + shape", tone=JUDGE, shape=EMPTY))
    unused = both("shape", tone=JUDGE, shape=EMPTY)  # its formula asks no judge
    task = task_with(tone=JUDGE, shape=EMPTY, code=CODE, deep=deep, unused=unused)
    assert [judge.name for judge in judges_of(task)] == ["shape", "unused"]


def test_with_the_means_they_score() -> None:
    task = task_with(code=CODE, half=both("(code + shape) / 2", code=CODE, shape=EMPTY), tone=JUDGE)
    found = compare(judges_of(task, Means(python=FakePython())), Case(REQUEST, saying(None), saying("a")))
    assert found.student == {"code": 0.25, "half": 0.625}
    assert found.differences == {"code": 0.0, "half": 0.5}


def test_a_tasks_graders_are_built_once_and_anew_when_it_changes() -> None:
    known, task = KnownJudges(), task_with(shape=EMPTY)
    built = known.of("t", task)
    assert known.of("t", task_with(shape=EMPTY)) is built
    assert [judge.name for judge in known.of("t", task_with(form=EMPTY))] == ["form"]
    for _ in range(2):
        with pytest.raises(ConfigError, match="calculate_output"):
            known.of("t", task_with(form=both("shape +", shape=EMPTY)))
