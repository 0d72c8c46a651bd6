"""Owns the hearing of judges: all of them on one row after another, several rows at once, before anything is marked."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from capture.errors import JudgeAwayError
from capture.exchange import Answer
from capture.graders.sample import Sample
from students.answering import TEACHER, Papers, Room, asked
from students.asking import kept_under
from students.comparison import Case, Judge, compare
from students.exams import Exam
from students.pairs import read_output
from students.panel import Panel
from students.tables import evaluation_answers
from students.workshop import Workshop


@dataclass(frozen=True)
class Kept:
    """One kept answer."""

    answer: Answer | None
    error: str | None
    duration_ms: float
    cost_usd: float | None


Answers = Mapping[str, Mapping[str, Kept]]
"""Sitting key (or TEACHER, for its second answers) → exchange id → what was answered."""


def answers_to(shop: Workshop, evaluation: Any, papers: Papers) -> Answers:
    """Everybody's kept answers."""
    return {key: _kept(shop, evaluation, key) for key in (TEACHER, *papers)}


def _kept(shop: Workshop, evaluation: Any, key: str) -> dict[str, Kept]:
    own = evaluation_answers.c
    query = select(evaluation_answers).where(own.dataset_id == kept_under(evaluation), own.student_id == key)
    with shop.store.read() as connection:
        return {
            one.exchange_id: Kept(
                None if one.error else read_output(one.output), one.error, one.duration_ms, one.cost_usd
            )
            for one in connection.execute(query)
        }


def case_of(exam: Exam, own: Kept | None, answers: Answers) -> Case:
    """One arm's answer with all that is known of its row; `own` None: the teacher alone is looked at."""
    twice = answers[TEACHER].get(exam.id)
    return Case(exam.request, exam.teacher, own.answer if own else None, twice.answer if twice else None, exam.truth)


def agreement(judge: Judge, exam: Exam, answers: Answers) -> float | None:
    """What a grader makes of the teacher's second answer beside its first; None without one."""
    twice = answers[TEACHER].get(exam.id)
    if twice is None or twice.answer is None:
        return None
    return judge.grader.score(Sample(output=twice.answer, reference=exam.teacher, request=exam.request))


def hear(room: Room, panel: Panel, papers: Papers, answers: Answers) -> tuple[Panel, list[str]]:
    """The panel with the rows that its judges have spoken on, and a sentence where they have not on all.

    Once a judge is away, the rows that are left are not asked about. Raises Stopping.
    """
    exams = papers[TEACHER]
    if not panel.asking:
        return panel, []
    heard: set[str] = set()
    sitting = {key: {exam.id for exam in sat} for key, sat in papers.items() if key != TEACHER}

    def speak(exam: Exam) -> None:
        own = [answers[key].get(exam.id) for key, ids in sitting.items() if exam.id in ids]
        _speak(panel.askers, exam, [one for one in own if one is not None], answers)

    try:
        for exam, _ in asked(room, exams, speak):
            heard.add(exam.id)
            room.count(1)
    except JudgeAwayError as error:
        names = ", ".join(sorted(panel.asking))
        why = f"{len(heard)} of {len(exams)} rows were judged by {names}: {error}. The next evaluation goes on there."
        return panel.having_heard(heard), [why]
    return panel.having_heard(heard), []


def _speak(judges: Sequence[Judge], exam: Exam, own: Sequence[Kept], answers: Answers) -> None:
    for case in _cases(exam, own, answers):
        compare(judges, case)
    for judge in judges:
        if judge.grader.needs_reference:
            agreement(judge, exam, answers)


def _cases(exam: Exam, own: Sequence[Kept], answers: Answers) -> Iterator[Case]:
    yield case_of(exam, None, answers)
    for kept in own:
        yield case_of(exam, kept, answers)
