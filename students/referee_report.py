"""Owns what a report says of the head-to-head judge: wins, ties, losses, and how often the place decided."""

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import select

from capture.db import Store
from students.answering import Papers
from students.asking import Asked, kept_under
from students.head_to_head import GRADER, Bout, bouts_of, is_contradiction
from students.report import HeadToHead, mean_figure
from students.sittings import Sitting
from students.tables import evaluation_answers


def standings(store: Store, evaluation: Any, asked: Asked, sat: Sequence[Sitting], papers: Papers) -> list[HeadToHead]:
    """One for each arm that was judged; nothing where no referee was asked for."""
    names = {sitting.key: sitting.name for sitting in sat}
    return [
        _standing(store, kept_under(evaluation), bout, names[bout.arm]) for bout in bouts_of(asked.referee, sat, papers)
    ]


def _standing(store: Store, dataset_id: str, bout: Bout, name: str) -> HeadToHead:
    kept = evaluation_answers.c
    query = select(evaluation_answers).where(kept.dataset_id == dataset_id, kept.student_id == bout.key)
    with store.read() as connection:
        found = {row.exchange_id: row for row in connection.execute(query)}
    spoken = [(found[exam.id], exam.row.conversation) for exam in bout.exams if exam.id in found]
    judged = [(row.scores[GRADER], cluster) for row, cluster in spoken if not row.error]
    values = [value for value, _ in judged]
    words = [json.loads(row.output) for row, _ in spoken if not row.error]
    return HeadToHead(
        student_id=bout.arm,
        name=name,
        referee=f"{bout.referee.upstream}/{bout.referee.model}",
        wins=values.count(1.0),
        ties=values.count(0.5),
        losses=values.count(0.0),
        contradictions=sum(len(pair) == 2 and is_contradiction(*pair) for pair in words),
        unclear=sum(row.error is not None for row, _ in spoken),
        rate=mean_figure(values, [cluster for _, cluster in judged]) if values else None,
    )
