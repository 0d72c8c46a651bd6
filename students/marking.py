"""Owns the marking of kept answers: each compared with the teacher's by every grader, and all of it made a report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import func, select

from capture.datasets import load_card
from capture.exchange import Answer
from capture.graders.sample import text_of
from capture.rows import label_of
from capture.settings import TaskSettings
from students.comparison import Case, Judge, compare
from students.exams import Exam, Sitting
from students.pairs import read_output, written
from students.report import Answered, Arm, Report, summarise
from students.slices import slices_of
from students.tables import evaluation_answers, evaluations
from students.workshop import Workshop

TEACHER = "teacher"
"""The student_id under which the teacher's second answers are kept."""


@dataclass(frozen=True)
class Kept:
    """One kept answer."""

    answer: Answer | None
    error: str | None
    duration_ms: float


def mark(
    shop: Workshop, evaluation: Any, exams: Sequence[Exam], sat: Sequence[Sitting], judges: Sequence[Judge]
) -> Report:
    card = load_card(shop.store, evaluation.dataset_id)
    second = _kept(shop, evaluation.dataset_id, TEACHER)
    arms = [_teacher_arm(exams, second, judges, shop.load_tasks()[evaluation.task])]
    for sitting in sat:
        answers = _kept(shop, evaluation.dataset_id, sitting.key)
        arms.append(_student_arm(sitting, exams, (answers, second), judges, shop.load_tasks()[evaluation.task]))
    with_truth = sum(exam.truth is not None for exam in exams)
    looks = _looks(shop, evaluation)
    return Report(
        dataset_id=evaluation.dataset_id,
        dataset_hash=card.hash,
        rows=len(exams),
        rows_with_truth=with_truth,
        graders={judge.name: judge.against if judge.grader.needs_reference else "nothing" for judge in judges},
        arms=arms,
        looks=looks,
        notes=_notes(judges, with_truth, bool(second), looks),
    )


def _notes(judges: Sequence[Judge], with_truth: int, has_second: bool, looks: int) -> list[str]:
    notes = []
    if any(judge.needs_truth for judge in judges) and not with_truth:
        notes.append("No row of the holdout has a truth, so graders against truth say nothing.")
    if any(judge.needs_second for judge in judges) and not has_second:
        notes.append("The teacher was not asked twice (no worker key), so its agreement with itself is unknown.")
    if looks > 20:
        notes.append(f"This holdout was looked at {looks} times: capture a fresh one before trusting small gains.")
    return notes


def _looks(shop: Workshop, evaluation: Any) -> int:
    done = (evaluations.c.dataset_id == evaluation.dataset_id) & (evaluations.c.state == "succeeded")
    with shop.store.read() as connection:
        before = connection.execute(select(func.count()).where(done, evaluations.c.id != evaluation.id)).scalar_one()
    return int(before) + 1


def _kept(shop: Workshop, dataset_id: str, student_id: str) -> dict[str, Kept]:
    query = select(evaluation_answers).where(
        evaluation_answers.c.dataset_id == dataset_id, evaluation_answers.c.student_id == student_id
    )
    with shop.store.read() as connection:
        return {
            row.exchange_id: Kept(None if row.error else read_output(row.output), row.error, row.duration_ms)
            for row in connection.execute(query)
        }


def _teacher_arm(exams: Sequence[Exam], second: Mapping[str, Kept], judges: Sequence[Judge], task: TaskSettings) -> Arm:
    answered = []
    for exam in exams:
        twice = second.get(exam.id)
        case = Case(exam.request, exam.teacher, None, twice.answer if twice else None, exam.truth)
        scores = compare(judges, case).teacher
        answered.append(_row(exam, task, exam.teacher, scores=scores, duration_ms=exam.duration_ms, cost=exam.cost_usd))
    return summarise(TEACHER, task.teacher.model, "teacher", answered)


def _student_arm(
    sitting: Sitting,
    exams: Sequence[Exam],
    answers: tuple[Mapping[str, Kept], Mapping[str, Kept]],
    judges: Sequence[Judge],
    task: TaskSettings,
) -> Arm:
    own, second = answers
    answered = []
    for exam in exams:
        kept = own.get(exam.id)
        if kept is None:
            continue
        twice = second.get(exam.id)
        found = compare(
            judges, Case(exam.request, exam.teacher, kept.answer, twice.answer if twice else None, exam.truth)
        )
        row = _row(exam, task, kept.answer, scores=found.student, duration_ms=kept.duration_ms)
        answered.append(msgspec.structs.replace(row, differences=found.differences, error=kept.error))
    return summarise(sitting.key, sitting.name, sitting.role, answered)


def _row(
    exam: Exam,
    task: TaskSettings,
    answer: Answer | None,
    *,
    scores: dict[str, float],
    duration_ms: float | None,
    cost: float | None = None,
) -> Answered:
    reference = None if exam.truth is None else text_of(exam.truth)
    true_label = None if reference is None else label_of(Answer(message={"content": reference}), task.label)
    true_label = true_label or exam.row.label
    return Answered(
        exchange_id=exam.id,
        conversation=exam.row.conversation,
        slices=slices_of(exam.request, exam.row.fingerprint, true_label, exam.key_id),
        scores=scores,
        differences={},
        duration_ms=duration_ms,
        cost_usd=cost,
        output="" if answer is None else written(answer),
        teacher=written(exam.teacher),
        reference=reference,
        label=None if answer is None else label_of(answer, task.label),
        true_label=true_label,
    )
