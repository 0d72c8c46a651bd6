"""Owns evaluations: every student's answers to a sealed holdout, kept once each, compared with the teacher's."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

import msgspec
from sqlalchemy import select, update

from capture.db import upsert
from capture.errors import NotFoundError, RefusedError
from capture.settings import TaskSettings
from students.caps import Caps
from students.clients import Reply, Target, student_target, teacher_target
from students.comparison import Case, Judge, compare, judges_of
from students.exams import Exam, Sitting, check_overlap, choose_shots, exams_of, sittings
from students.marking import TEACHER, mark
from students.pairs import written
from students.registry import Student, ensure_base, load_student, unwant_if_idle
from students.report import Report
from students.tables import evaluation_answers, evaluations
from students.view import student_view
from students.workshop import Workshop

AT_ONCE = 8
PROGRESS_EVERY_S = 0.3


def carry_out(shop: Workshop, evaluation_id: str) -> None:
    """The whole job, with its states in the row: queued, running, succeeded. Repeatable; nothing is asked twice."""
    of_row = update(evaluations).where(evaluations.c.id == evaluation_id)
    if _load(shop, evaluation_id).state in ("succeeded", "failed"):
        return
    with shop.store.write() as connection:
        connection.execute(of_row.values(state="running"))
    report = run(shop, evaluation_id)
    ended = {"state": "succeeded", "report": msgspec.to_builtins(report), "ended_at": shop.clock()}
    with shop.store.write() as connection:
        connection.execute(of_row.values(ended))


def run(shop: Workshop, evaluation_id: str) -> Report:
    """Answer what is not answered yet and write the report; going on after a stop asks nothing twice.

    The row's `progress` says what is wanted beside the students: `with_base` (default true), `greedy`, and `few_shot`,
    how many examples the base is shown in its prompt.

    Raises RefusedError when the holdout overlaps a student's training rows, UpstreamAwayError when a student is not
    served, NotFoundError for what is not there.
    """
    evaluation = _load(shop, evaluation_id)
    task = shop.load_tasks().get(evaluation.task)
    if task is None:
        raise NotFoundError(f"task {evaluation.task!r} is gone")
    exams = list(exams_of(shop, evaluation.dataset_id))
    if not exams:
        raise RefusedError(f"dataset {evaluation.dataset_id} has no holdout rows; capture more traffic and build anew")
    judges = judges_of(task)
    students = _students(shop, evaluation)
    for student in students:
        check_overlap(shop, student, exams)
    asked = evaluation.progress
    shots = choose_shots(shop, evaluation.dataset_id, int(asked.get("few_shot", 0)))
    sat = sittings(students, greedy=bool(asked.get("greedy")), shots=shots)
    second = _second_target(shop, task, judges)
    progress = _Progress(shop, evaluation_id, dict(asked), len(exams) * (len(sat) + bool(second)))
    for student in students:
        own = [sitting for sitting in sat if sitting.student.id == student.id]
        _examine(shop, evaluation.dataset_id, own, exams, (judges, progress))
    if second is not None:
        _ask_teacher(shop, evaluation, exams, (second, judges, progress))
    return mark(shop, evaluation, exams, sat, judges)


def _load(shop: Workshop, evaluation_id: str) -> Any:
    with shop.store.read() as connection:
        row = connection.execute(select(evaluations).where(evaluations.c.id == evaluation_id)).one_or_none()
    if row is None:
        raise NotFoundError(f"no evaluation {evaluation_id!r}")
    return row


def _students(shop: Workshop, evaluation: Any) -> list[Student]:
    """The students asked for, and behind them their untuned bases where those were asked for."""
    found = [load_student(shop.store, student_id) for student_id in evaluation.students]
    if not evaluation.progress.get("with_base", True):
        return found
    seen = {student.id for student in found}
    for student in list(found):
        if student.kind == "local":
            base = ensure_base(shop.store, evaluation.task, student.base, student.view, shop.clock)
            found += [base] if base.id not in seen else []
            seen.add(base.id)
    return found


def _second_target(shop: Workshop, task: TaskSettings, judges: Sequence[Judge]) -> Target | None:
    """Where the teacher is asked again, if a grader needs its agreement with itself and the worker has a key for it."""
    if not any(judge.needs_second for judge in judges):
        return None
    return teacher_target(shop.settings, task.teacher.upstream, task.teacher.model)


def _examine(
    shop: Workshop,
    dataset_id: str,
    own: Sequence[Sitting],
    exams: Sequence[Exam],
    by: tuple[Sequence[Judge], "_Progress"],
) -> None:
    """All sittings of one student, whose server is asked for only when something is missing."""
    judges, progress = by
    missing = {sitting.key: _missing(shop, dataset_id, sitting.key, exams) for sitting in own}
    progress.add(sum(len(exams) - len(left) for left in missing.values()))
    if not any(missing.values()):
        return
    student = own[0].student
    server, wished = shop.served(student)
    target = student_target(shop.settings, student, server)
    try:
        for sitting in own:
            for exam, reply in _asked(shop, missing[sitting.key], _asking(shop, target, sitting)):
                _keep(shop, dataset_id, sitting.key, exam, (reply, judges))
                progress.add(1)
    finally:
        if wished:
            unwant_if_idle(shop.store, student.id)


def _asking(shop: Workshop, target: Target, sitting: Sitting) -> Callable[[Exam], Reply]:
    student = sitting.student
    return lambda exam: shop.client.ask(
        target, student_view(sitting.adapt(exam.request), student.view, tools=student.tools)
    )


def _ask_teacher(
    shop: Workshop, evaluation: Any, exams: Sequence[Exam], by: tuple[Target, Sequence[Judge], "_Progress"]
) -> None:
    """The teacher's second answers; its agreement with itself is the ceiling that students are compared with."""
    target, judges, progress = by
    missing = _missing(shop, evaluation.dataset_id, TEACHER, exams)
    progress.add(len(exams) - len(missing))
    caps = Caps(shop.store, shop.settings, shop.clock)
    for exam, reply in _asked(shop, missing, lambda exam: shop.client.ask(target, exam.request, attempts=3)):
        caps.write(evaluation.task, "evaluation", target.upstream, target.model, reply.answer)
        if reply.error is None:  # a teacher that is away is asked again by the next evaluation
            _keep(shop, evaluation.dataset_id, TEACHER, exam, (reply, judges))
        progress.add(1)


def _asked(shop: Workshop, exams: Sequence[Exam], ask: Callable[[Exam], Reply]) -> Iterator[tuple[Exam, Reply]]:
    """Answers as they come, AT_ONCE under way. Raises Stopping, after those under way, when the worker has to end."""
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="evaluation") as pool:
        for start in range(0, len(exams), AT_ONCE * 4):
            shop.check()
            asked = {pool.submit(ask, exam): exam for exam in exams[start : start + AT_ONCE * 4]}
            for future in as_completed(asked):
                yield asked[future], future.result()


def _missing(shop: Workshop, dataset_id: str, student_id: str, exams: Sequence[Exam]) -> list[Exam]:
    answered = select(evaluation_answers.c.exchange_id).where(
        evaluation_answers.c.dataset_id == dataset_id, evaluation_answers.c.student_id == student_id
    )
    with shop.store.read() as connection:
        known = set(connection.execute(answered).scalars())
    return [exam for exam in exams if exam.id not in known]


def _keep(shop: Workshop, dataset_id: str, student_id: str, exam: Exam, by: tuple[Reply, Sequence[Judge]]) -> None:
    reply, judges = by
    answer = reply.answer if reply.error is None else None
    found = compare(judges, Case(exam.request, exam.teacher, answer, truth=exam.truth))
    values = {
        "dataset_id": dataset_id,
        "exchange_id": exam.id,
        "student_id": student_id,
        "output": "" if answer is None else written(answer),
        "error": reply.error,
        "duration_ms": reply.duration_ms,
        "scores": found.student,
    }
    with shop.store.write() as connection:
        upsert(connection, evaluation_answers, [values], ["dataset_id", "exchange_id", "student_id"])


class _Progress:
    """Counts answers into the evaluation's row, a few times a second at most."""

    def __init__(self, shop: Workshop, evaluation_id: str, known: Mapping[str, Any], total: int) -> None:
        self._shop, self._id = shop, evaluation_id
        self._kept = {**known, "done": 0, "total": total}
        self._written_at = -1e9

    def add(self, count: int) -> None:
        self._kept["done"] += count
        if time.monotonic() - self._written_at < PROGRESS_EVERY_S and self._kept["done"] < self._kept["total"]:
            return
        self._written_at = time.monotonic()
        with self._shop.store.write() as connection:
            row = update(evaluations).where(evaluations.c.id == self._id)
            connection.execute(row.values(progress=dict(self._kept)))
