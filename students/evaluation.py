"""Owns evaluations: everybody's answers to the same rows, kept once each, compared with the teacher's."""

import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec
from sqlalchemy import select, update

from capture.errors import NotFoundError
from capture.judges import TaskJudges
from capture.settings import TaskSettings, secret
from students.answering import TEACHER, Room, ask_teacher, lanes_of, side_by_side
from students.asking import Asked, asked_of, kept_under
from students.comparison import Judge
from students.exams import drawn
from students.hall import enter
from students.head_to_head import bouts_of, fight
from students.hearing import answers_to, hear
from students.marking import Marking, mark
from students.panel import Panel, panel_of
from students.registry import Student, ensure_base, load_student
from students.report import Report
from students.sittings import choose_shots, sittings
from students.tables import evaluations
from students.workshop import Workshop

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

    Raises RefusedError when the holdout overlaps a student's training rows, UpstreamAwayError when a student is not
    served, an upstream is away or the referee is at the task's spend cap, NotFoundError for what is not there. A judge
    that is away is no error: the report says on how many rows it spoke.
    """
    evaluation = _load(shop, evaluation_id)
    task = shop.load_tasks().get(evaluation.task)
    if task is None:
        raise NotFoundError(f"task {evaluation.task!r} is gone")
    with TaskJudges(shop.store, shop.settings, (evaluation.task, task), shop.caps, shop.clock) as models:
        return _examined(shop, evaluation, task, panel_of(shop, evaluation.task, task, models))


def _examined(shop: Workshop, evaluation: Any, task: TaskSettings, panel: Panel) -> Report:
    asked = asked_of(evaluation)
    students = _students(shop, evaluation, asked, task)
    hall = enter(shop, evaluation, asked, task, students)
    few_shot = task.evaluation.few_shot if asked.few_shot is None else asked.few_shot
    shots = choose_shots(shop, evaluation.dataset_id, few_shot)
    sat = sittings(students, asked.models, greedy=asked.greedy, shots=shots)
    most = asked.base_rows or task.evaluation.base_rows
    papers = {one.key: drawn(hall.exams, most) if one.is_base else hall.exams for one in sat}
    bouts = bouts_of(asked.referee, sat, papers)
    twice = _is_asked_twice(shop, task, panel.judges, asked)
    of_all = len(hall.exams) * (twice + bool(panel.asking))
    total = sum(map(len, papers.values())) + sum(len(bout.exams) for bout in bouts) + of_all
    room = Room(
        shop=shop,
        task=evaluation.task,
        kept_under=kept_under(evaluation),
        judges=panel.plain,
        graded=frozenset(student.id for student in students),
        count=_Progress(shop, evaluation.id, total).add,
    )
    teacher = (task.teacher.upstream, task.teacher.model)
    lanes = lanes_of(room, sat, papers)
    side_by_side([*lanes, *([partial(ask_teacher, room, hall.exams, teacher)] if twice else [])])
    referees = replace(room, purpose="judge", cap_usd=task.rollout.spend_cap_usd)
    for bout in bouts:
        fight(referees, bout)
    papers[TEACHER] = hall.exams
    answers = answers_to(shop, evaluation, papers)
    panel, said = hear(room, panel, papers, answers)
    marking = Marking(shop, evaluation, asked, task, panel, answers)
    return mark(marking, replace(hall, notes=hall.notes + said), sat, papers)


def _load(shop: Workshop, evaluation_id: str) -> Any:
    with shop.store.read() as connection:
        row = connection.execute(select(evaluations).where(evaluations.c.id == evaluation_id)).one_or_none()
    if row is None:
        raise NotFoundError(f"no evaluation {evaluation_id!r}")
    return row


def _students(shop: Workshop, evaluation: Any, asked: Asked, task: TaskSettings) -> list[Student]:
    """The students asked for, and behind them the untuned bases that were."""
    found = [load_student(shop.store, student_id) for student_id in evaluation.students]
    wanted = [(student.base, student.view) for student in found if student.kind == "local" and asked.with_base]
    wanted += [(base, task.view) for base in asked.bases]
    seen = {student.id for student in found}
    for name, view in wanted:
        base = ensure_base(shop.store, evaluation.task, name, view, shop.clock)
        found += [base] if base.id not in seen else []
        seen.add(base.id)
    return found


def _is_asked_twice(shop: Workshop, task: TaskSettings, judges: Sequence[Judge], asked: Asked) -> bool:
    """The teacher is, where that is wanted or a grader needs it, and the worker has a key for it."""
    wanted = asked.twice or any(judge.needs_second for judge in judges)
    return wanted and secret(shop.settings.upstreams[task.teacher.upstream], worker=True) is not None


class _Progress:
    """Counts answers into the evaluation's row, a few times a second at most. Thread-safe."""

    def __init__(self, shop: Workshop, evaluation_id: str, total: int) -> None:
        self._shop, self._id = shop, evaluation_id
        self._kept = {"done": 0, "total": total}
        self._written_at = -1e9
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        with self._lock:
            self._kept["done"] += count
            if time.monotonic() - self._written_at < PROGRESS_EVERY_S and self._kept["done"] < self._kept["total"]:
                return
            self._written_at = time.monotonic()
            with self._shop.store.write() as connection:
                row = update(evaluations).where(evaluations.c.id == self._id)
                connection.execute(row.values(progress=dict(self._kept)))
