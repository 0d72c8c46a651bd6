"""Owns what one request says about student against teacher: both sides' scores by every grader, and the difference."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from capture.errors import ConfigError
from capture.exchange import Answer
from capture.graders.grader import Grader
from capture.graders.means import Means
from capture.graders.models import ModelGrader
from capture.graders.multi import Multi
from capture.graders.of_task import graders_of, reference_of
from capture.graders.python import PythonGrader
from capture.graders.registry import NO_MEANS
from capture.graders.sample import Sample
from capture.settings import TaskSettings

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Judge:
    """One grader of a task, and what it compares with."""

    grader: Grader
    against: str
    label: str | None = None

    @property
    def name(self) -> str:
        return self.grader.name

    @property
    def needs_truth(self) -> bool:
        return self.grader.needs_reference and self.against == "truth"

    @property
    def needs_second(self) -> bool:
        """Whether its difference needs a second answer of the teacher: it compares with the teacher."""
        return self.grader.needs_reference and self.against == "teacher"


@dataclass(frozen=True)
class Case:
    """One request with all that answered it. `student` is None when it erred: it scores 0 then.

    `truth` is any JSON value, None where none has come. `second` is the teacher's second answer to the same request.
    """

    request: dict[str, Any]
    teacher: Answer
    student: Answer | None
    second: Answer | None = None
    truth: Any = None


@dataclass(frozen=True)
class Comparison:
    """By grader name; a grader that has nothing to judge by is in none of them."""

    student: dict[str, float]
    teacher: dict[str, float]
    differences: dict[str, float]


def judges_of(task: TaskSettings, means: Means = NO_MEANS) -> list[Judge]:
    """Those of a task's graders that can score by these means, in the order of its settings.

    One that cannot would never speak: pairs would wait for its truth for ever, and the teacher would be paid a second
    time for it. Left out, a gate on it is a grader that is missing. Raises ConfigError for settings that no grader can
    obey.
    """
    found = graders_of(task, means)
    able = {name: grader for name, grader in found.graders.items() if _can_score(grader)}
    return [Judge(grader, found.against[name], found.label) for name, grader in able.items()]


def _can_score(grader: Grader) -> bool:
    if isinstance(grader, Multi):
        return all(_can_score(grader.parts[name]) for name in grader.formula.names)
    if isinstance(grader, ModelGrader):
        return grader.means.judges is not None
    return not isinstance(grader, PythonGrader) or grader.means.python is not None


class KnownJudges:
    """Every task's graders, built once, and again when the task's settings have changed. Not thread-safe."""

    def __init__(self, means: Means = NO_MEANS) -> None:
        self._means = means
        self._known: dict[str, tuple[TaskSettings, list[Judge], str | None]] = {}

    def of(self, name: str, task: TaskSettings) -> list[Judge]:
        """Raises ConfigError for settings that no grader can obey, each time; that is logged once."""
        known = self._known.get(name)
        if known is None or known[0] != task:
            known = self._known[name] = _built(name, task, self._means)
        _, judges, problem = known
        if problem is not None:
            raise ConfigError(problem)
        return judges


def _built(name: str, task: TaskSettings, means: Means) -> tuple[TaskSettings, list[Judge], str | None]:
    try:
        return task, judges_of(task, means), None
    except ConfigError as error:
        log.error("a task's answers cannot be compared", task=name, error=str(error))
        return task, [], str(error)


def compare(judges: Sequence[Judge], case: Case) -> Comparison:
    """Score both sides by every grader.

    With truth: score(student, truth) − score(teacher, truth). Against the teacher t₁, asked twice:
    score(student, t₁) − score(t₂, t₁); without t₂ the student's agreement alone, and no difference, since a teacher is
    never scored 1 by definition. Graders that need no reference score both as they are, of the teacher's t₂ where there
    is one: pairs are cut into slices by t₁, which so says nothing of the answers that are compared. A student's answer
    that a grader makes nothing of scores 0 where the teacher's has a score: else one that derails it would count for
    nobody.
    """
    student: dict[str, float] = {}
    teacher: dict[str, float] = {}
    for judge in judges:
        reference, theirs = _sides(judge, case)
        if reference is None and judge.grader.needs_reference:
            continue
        student_score = 0.0 if case.student is None else _score(judge, case.student, reference, case.request)
        teacher_score = None if theirs is None else _score(judge, theirs, reference, case.request)
        if student_score is None and teacher_score is not None:
            student_score = 0.0
        _keep(student, judge.name, student_score)
        _keep(teacher, judge.name, teacher_score)
    both = [name for name in student if name in teacher]
    return Comparison(student, teacher, {name: student[name] - teacher[name] for name in both})


def awaits_truth(judges: Sequence[Judge], names: Sequence[str], found: Mapping[str, float]) -> bool:
    """Whether one of the graders in `names` has no difference yet and needs a truth for it."""
    return any(judge.needs_truth and judge.name in names and judge.name not in found for judge in judges)


def _sides(judge: Judge, case: Case) -> tuple[Any, Answer | None]:
    """What the grader compares with, and the teacher's answer that is scored against it; None where there is none."""
    if judge.needs_truth:
        return reference_of(case.truth, judge.label), case.teacher
    if judge.needs_second:
        return case.teacher, case.second
    return None, case.second or case.teacher


def _score(judge: Judge, output: Answer, reference: Any, request: dict[str, Any]) -> float | None:
    return judge.grader.score(Sample(output=output, reference=reference, request=request))


def _keep(scores: dict[str, float], name: str, value: float | None) -> None:
    if value is not None:
        scores[name] = value
