"""Owns evaluations: every student's answers to a sealed holdout, kept once each, compared with the teacher's."""

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import func, select, update

from capture.datasets import Row, load_card, rows
from capture.db import upsert
from capture.errors import NotFoundError, RefusedError
from capture.exchange import Answer
from capture.feedback import truths
from capture.graders.sample import text_of
from capture.prompts import hashed, variable_text
from capture.rows import label_of
from capture.settings import TaskSettings
from capture.tables import exchanges
from students.caps import Caps
from students.clients import Reply, Target, student_target, teacher_target
from students.comparison import Case, Judge, compare, judges_of
from students.pairs import read_output, written
from students.registry import Student, ensure_base, load_student, unwant_if_idle
from students.report import Answered, Arm, Report, Role, summarise
from students.slices import slices_of
from students.tables import evaluation_answers, evaluations
from students.view import student_view
from students.workshop import Workshop

TEACHER = "teacher"
"""The student_id under which the teacher's second answers are kept."""

AT_ONCE = 8
PROGRESS_EVERY_S = 0.3
BATCH = 200


@dataclass(frozen=True)
class Exam:
    """One row of the holdout with everything around it: the teacher's own answer, the truth (None: none is known)."""

    row: Row
    teacher: Answer
    truth: Any
    cost_usd: float | None
    duration_ms: float | None
    key_id: str | None

    @property
    def id(self) -> str:
        return str(self.row.exchange_id)

    @property
    def request(self) -> dict[str, Any]:
        """In Chat's shape, with the parameters of the live traffic."""
        return dict(self.row.request)


@dataclass(frozen=True)
class Kept:
    """One kept answer."""

    answer: Answer | None
    error: str | None
    duration_ms: float


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

    Raises RefusedError when the holdout overlaps a student's training rows, UpstreamAwayError when a student is not
    served, NotFoundError for what is not there.
    """
    evaluation = _load(shop, evaluation_id)
    task = shop.load_tasks().get(evaluation.task)
    if task is None:
        raise NotFoundError(f"task {evaluation.task!r} is gone")
    exams = list(_exams(shop, evaluation.dataset_id))
    if not exams:
        raise RefusedError(f"dataset {evaluation.dataset_id} has no holdout rows; capture more traffic and build anew")
    judges = judges_of(task)
    students = _students(shop, evaluation)
    for student in students:
        _check_overlap(shop, student, exams)
    second = _second_target(shop, task, judges)
    progress = _Progress(shop, evaluation_id, dict(evaluation.progress), len(exams) * (len(students) + bool(second)))
    for student in students:
        _answer_all(shop, evaluation.dataset_id, student, exams, (judges, progress))
    if second is not None:
        _ask_teacher(shop, evaluation, exams, (second, judges, progress))
    return _report(shop, evaluation, exams, students, judges)


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


def _exams(shop: Workshop, dataset_id: str) -> Iterator[Exam]:
    batch: list[Row] = []
    for row in rows(shop.store, dataset_id, "holdout"):
        batch.append(row)
        if len(batch) == BATCH:
            yield from _with_captured(shop, batch)
            batch = []
    if batch:
        yield from _with_captured(shop, batch)


def _with_captured(shop: Workshop, batch: Sequence[Row]) -> Iterator[Exam]:
    """A truth that has come since the dataset was built goes before the row's own."""
    ids = [row.exchange_id for row in batch]
    columns = (exchanges.c.id, exchanges.c.cost_usd, exchanges.c.duration_ms, exchanges.c.key_id)
    with shop.store.read() as connection:
        known = truths(connection, ids)
        found = {row.id: row for row in connection.execute(select(*columns).where(exchanges.c.id.in_(ids)))}
    for row in batch:
        captured = found.get(row.exchange_id)
        yield Exam(
            row=row,
            teacher=Answer(message=row.target),
            truth=known.get(row.exchange_id, row.truth),
            cost_usd=captured.cost_usd if captured else None,
            duration_ms=captured.duration_ms if captured else None,
            key_id=captured.key_id if captured else None,
        )


def _check_overlap(shop: Workshop, student: Student, exams: Sequence[Exam]) -> None:
    """Nobody is examined on what it was trained on: the same exchange, or the same variable text."""
    if student.dataset_id is None:
        return
    ids, texts = set(), set()
    for row in rows(shop.store, student.dataset_id, "train"):
        ids.add(row.exchange_id)
        texts.add(hashed("content", variable_text(row.request)))
    shared = sum(exam.id in ids or hashed("content", variable_text(exam.row.request)) in texts for exam in exams)
    if shared:
        raise RefusedError(
            f"{shared} holdout rows are among the training rows of {student.name}: choose another dataset"
        )


def _second_target(shop: Workshop, task: TaskSettings, judges: Sequence[Judge]) -> Target | None:
    """Where the teacher is asked again, if a grader needs its agreement with itself and the worker has a key for it."""
    if not any(judge.needs_second for judge in judges):
        return None
    return teacher_target(shop.settings, task.teacher.upstream, task.teacher.model)


def _answer_all(
    shop: Workshop, dataset_id: str, student: Student, exams: Sequence[Exam], by: tuple[Sequence[Judge], "_Progress"]
) -> None:
    judges, progress = by
    missing = _missing(shop, dataset_id, student.id, exams)
    progress.add(len(exams) - len(missing))
    if not missing:
        return
    server, wished = shop.served(student)
    target = student_target(shop.settings, student, server)

    def ask(exam: Exam) -> Reply:
        return shop.client.ask(target, student_view(exam.request, student.view, tools=student.tools))

    try:
        for exam, reply in _asked(shop, missing, ask):
            _keep(shop, dataset_id, student.id, exam, (reply, judges))
            progress.add(1)
    finally:
        if wished:
            unwant_if_idle(shop.store, student.id)


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


def _asked(shop: Workshop, exams: Sequence[Exam], ask: Any) -> Iterator[tuple[Exam, Reply]]:
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


def _report(
    shop: Workshop, evaluation: Any, exams: Sequence[Exam], students: Sequence[Student], judges: Sequence[Judge]
) -> Report:
    card = load_card(shop.store, evaluation.dataset_id)
    second = _kept(shop, evaluation.dataset_id, TEACHER)
    arms = [_teacher_arm(exams, second, judges, shop.load_tasks()[evaluation.task])]
    for student in students:
        answers = _kept(shop, evaluation.dataset_id, student.id)
        arms.append(_student_arm(student, exams, (answers, second), judges, shop.load_tasks()[evaluation.task]))
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
    student: Student,
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
    role: Role = "base" if student.kind == "base" else "student"
    return summarise(student.id, student.name, role, answered)


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
