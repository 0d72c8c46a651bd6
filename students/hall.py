"""Owns which rows an evaluation may use: refused or thinned where somebody was trained on them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from capture.errors import RefusedError
from capture.settings import TaskSettings
from students.asking import Asked
from students.exams import Exam, exams_of, replayed
from students.overlap import learnt, overlapping, refuse
from students.registry import Student
from students.workshop import Workshop


@dataclass(frozen=True)
class Hall:
    """The rows, in one order for everybody, and what was left out of them, in sentences."""

    exams: list[Exam]
    notes: list[str]


def enter(shop: Workshop, evaluation: Any, asked: Asked, task: TaskSettings, students: Sequence[Student]) -> Hall:
    """Raises RefusedError for a holdout without rows, and for one that overlaps with training rows."""
    exams = _rows(shop, evaluation, asked, task)
    notes: list[str] = []
    newest, known_to_somebody = 0.0, set[str]()
    for student in students:
        near = student.dataset_id != evaluation.dataset_id
        known = learnt(shop, student, task.dataset.near_duplicate, near=near)
        if known is None:
            notes += _untold(student)
            continue
        newest = max(newest, known.newest)
        shared = overlapping(known, exams)
        if asked.replay is None and not asked.leave_out:
            refuse(student, len(shared))
        known_to_somebody |= shared
    if known_to_somebody:
        notes.append(
            f"{len(known_to_somebody)} rows are among the training rows or nearly the same, and were left out."
        )
    exams = [exam for exam in exams if exam.id not in known_to_somebody]
    if asked.temporal:
        exams = _newer(exams, newest, notes)
    if not exams:
        raise RefusedError("no row is left to examine on: " + (" ".join(notes) or "capture more traffic"))
    return Hall(exams, notes)


def _rows(shop: Workshop, evaluation: Any, asked: Asked, task: TaskSettings) -> list[Exam]:
    if asked.replay is not None:
        found = list(replayed(shop, evaluation.task, task, asked.replay))
        if not found:
            raise RefusedError(f"no captured answer of task {evaluation.task} passes these filters")
        return found
    found = list(exams_of(shop, evaluation.dataset_id))
    if not found:
        raise RefusedError(f"dataset {evaluation.dataset_id} has no holdout rows; capture more traffic and build anew")
    return found


def _newer(exams: Sequence[Exam], newest: float, notes: list[str]) -> list[Exam]:
    later = [exam for exam in exams if exam.row.started_at > newest]
    notes.append(f"Only the {len(later)} of {len(exams)} rows that are newer than every training row.")
    return later


def _untold(student: Student) -> list[str]:
    if student.kind == "base":
        return []
    return [f"What {student.name} was trained on is not known here, so an overlap cannot be ruled out."]
