"""Owns the marking of kept answers: each compared with the teacher's by every grader, and all of it made a report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from capture.datasets import load_card
from capture.graders.registry import default_graders
from capture.graders.sample import text_of
from capture.rows import label_of
from capture.settings import TaskSettings
from students import referee_report
from students.answering import TEACHER, Papers
from students.asking import Asked
from students.bar import bar_of, sentences
from students.comparison import compare
from students.exams import Exam
from students.hall import Hall
from students.hearing import Answers, Kept, agreement, case_of
from students.looks import MOST, looks_at
from students.pairs import written
from students.panel import Panel
from students.report import Answered, Arm, Figure, Report, mean_figure, summarise, versus
from students.sittings import Sitting
from students.slices import slices_of, true_label
from students.workshop import Workshop

__all__ = ["TEACHER", "Marking", "mark"]


@dataclass(frozen=True)
class Marking:
    """One evaluation on its way to a report. `row` is its row of evaluations."""

    shop: Workshop
    row: Any
    asked: Asked
    task: TaskSettings
    panel: Panel
    answers: Answers


def mark(marking: Marking, hall: Hall, sat: Sequence[Sitting], papers: Papers) -> Report:
    """The report of all kept answers: of the teacher first, then in the order of the sittings."""
    shop, row, panel = marking.shop, marking.row, marking.panel
    rows = {TEACHER: _teacher_rows(marking, hall.exams)}
    for sitting in sat:
        rows[sitting.key] = _rows(marking, papers[sitting.key], sitting.key)
    arms = [summarise(TEACHER, marking.task.teacher.model, "teacher", rows[TEACHER])]
    arms += [_with_rivals(summarise(one.key, one.name, one.role, rows[one.key]), rows) for one in sat]
    gates = marking.task.rollout.gates or tuple(default_graders(marking.task))[:1]
    bar = bar_of(arms, gates, marking.task.rollout.margin, panel.unlicensed)
    looks = looks_at(shop.store, row)
    with_truth = sum(exam.truth is not None for exam in hall.exams)
    notes = [
        *sentences(arms, bar),
        *hall.notes,
        *_notes(marking, with_truth, looks),
    ]
    return Report(
        dataset_id=row.dataset_id,
        dataset_hash=load_card(shop.store, row.dataset_id).hash if row.dataset_id else None,
        rows=len(hall.exams),
        rows_with_truth=with_truth,
        graders={judge.name: judge.against if judge.grader.needs_reference else "nothing" for judge in panel.judges},
        arms=arms,
        looks=looks,
        notes=notes,
        agreement=_agreement(marking, hall.exams),
        bar=bar,
        head_to_head=referee_report.standings(shop.store, row, marking.asked, sat, papers),
    )


def _notes(marking: Marking, with_truth: int, looks: int) -> list[str]:
    panel = marking.panel
    notes = [f"There are no scores by {grader}: {why}." for grader, why in panel.silent.items()]
    notes += [f"Judge {judge} decides nothing here: {why}." for judge, why in panel.unlicensed.items()]
    if any(judge.needs_truth for judge in panel.judges) and not with_truth:
        notes.append("No row has a truth, so graders against truth say nothing.")
    wanted = marking.asked.twice or any(judge.needs_second for judge in panel.judges)
    if wanted and not marking.answers[TEACHER]:
        notes.append("The teacher was not asked twice (no worker key), so its agreement with itself is unknown.")
    if looks > MOST:
        notes.append(f"This holdout was looked at {looks} times: capture a fresh one before trusting small gains.")
    return notes


def _agreement(marking: Marking, exams: Sequence[Exam]) -> dict[str, Figure]:
    """By every grader that needs something to compare with: score(second answer, first answer)."""
    found: dict[str, list[tuple[float, str]]] = {}
    for exam in exams:
        marking.shop.check()
        for judge in marking.panel.of(exam.id):
            value = agreement(judge, exam, marking.answers) if judge.grader.needs_reference else None
            if value is not None:
                found.setdefault(judge.name, []).append((value, exam.row.conversation))
    return {name: mean_figure(*zip(*scored, strict=True)) for name, scored in found.items()}


def _with_rivals(arm: Arm, rows: Mapping[str, Sequence[Answered]]) -> Arm:
    others = {
        key: versus(rows[arm.student_id], other) for key, other in rows.items() if key not in (arm.student_id, TEACHER)
    }
    return msgspec.structs.replace(arm, versus={key: found for key, found in others.items() if found})


def _teacher_rows(marking: Marking, exams: Sequence[Exam]) -> list[Answered]:
    answered = []
    for exam in exams:
        marking.shop.check()
        scores = compare(marking.panel.of(exam.id), case_of(exam, None, marking.answers)).teacher
        kept = Kept(exam.teacher, None, 0.0, exam.cost_usd)
        row = _row(exam, marking.task, kept, scores)
        answered.append(msgspec.structs.replace(row, duration_ms=exam.duration_ms))
    return answered


def _rows(marking: Marking, exams: Sequence[Exam], key: str) -> list[Answered]:
    answered = []
    for exam in exams:
        marking.shop.check()
        kept = marking.answers[key].get(exam.id)
        if kept is None:
            continue
        found = compare(marking.panel.of(exam.id), case_of(exam, kept, marking.answers))
        row = _row(exam, marking.task, kept, found.student)
        answered.append(msgspec.structs.replace(row, differences=found.differences, error=kept.error))
    return answered


def _row(exam: Exam, task: TaskSettings, kept: Kept, scores: dict[str, float]) -> Answered:
    reference = None if exam.truth is None else text_of(exam.truth)
    label = true_label(exam.truth, task.label) or exam.row.label
    return Answered(
        exchange_id=exam.id,
        conversation=exam.row.conversation,
        slices=_slices(exam, task, label),
        scores=scores,
        differences={},
        duration_ms=kept.duration_ms,
        cost_usd=kept.cost_usd,
        output="" if kept.answer is None else written(kept.answer),
        teacher=written(exam.teacher),
        reference=reference,
        label=None if kept.answer is None else label_of(kept.answer, task.label),
        true_label=label,
    )


def _slices(exam: Exam, task: TaskSettings, label: str | None) -> dict[str, str]:
    """Those of live pairs, and whether redaction changed the request or its answer."""
    request = {**exam.request, "metadata": exam.row.metadata}
    found = slices_of(request, exam.row.fingerprint, label, exam.key_id, task.rollout.slices)
    return found if exam.redacted is None else {**found, "redacted": "yes" if exam.redacted else "no"}
