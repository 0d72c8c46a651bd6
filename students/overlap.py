"""Owns whether somebody is examined on what it was trained on: the same exchange, or nearly the same text."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from capture.datasets import load_card, rows
from capture.datasets.duplicates import NearIndex, signatures
from capture.errors import RefusedError
from capture.prompts import hashed, variable_text
from students.exams import Exam
from students.registry import Student
from students.workshop import Workshop

BATCH = 500


@dataclass
class Learnt:
    """What is remembered of the rows that a student was trained on. `newest`: Unix seconds of the last of them.

    `near`: None where likeness is not asked for, since to sign a whole training split takes its time.
    """

    near: NearIndex | None
    ids: set[str] = field(default_factory=set)
    conversations: set[str] = field(default_factory=set)
    texts: set[str] = field(default_factory=set)
    newest: float = 0.0


def learnt(shop: Workshop, student: Student, near_duplicate: float, *, near: bool = True) -> Learnt | None:
    """None for a student that was trained on none of our datasets. `near_duplicate`: used where its card has none.

    `near` is false for the holdout of the very dataset that it was trained on: its build has compared conversations and
    likeness already.
    """
    if student.dataset_id is None:
        return None
    card = load_card(shop.store, student.dataset_id)
    found = Learnt(NearIndex(card.near_duplicate or near_duplicate) if near else None)
    batch: list[str] = []
    for row in rows(shop.store, student.dataset_id, "train"):
        text = variable_text(row.request)
        found.ids.add(row.exchange_id)
        found.conversations.add(row.conversation)
        found.texts.add(hashed("content", text))
        found.newest = max(found.newest, row.started_at)
        batch.append(text)
        if len(batch) == BATCH:
            _index(found.near, batch)
            batch = []
    _index(found.near, batch)
    return found


def overlapping(known: Learnt, exams: Sequence[Exam]) -> set[str]:
    """Ids of the exams that share exchange or text with the training rows.

    Where `known.near` is there, also of those that share a conversation with them or are nearly the same.
    """
    found = set()
    for start in range(0, len(exams), BATCH):
        batch = exams[start : start + BATCH]
        texts = [variable_text(exam.row.request) for exam in batch]
        found |= {exam.id for exam, text in zip(batch, texts, strict=True) if _is_known(known, exam, text)}
        if known.near is not None:
            found |= {exam.id for exam in batch if exam.row.conversation in known.conversations}
            signed = zip(batch, signatures(texts), strict=True)
            found |= {exam.id for exam, signature in signed if known.near.has_near(signature)}
    return found


def refuse(student: Student, shared: int) -> None:
    """Raises RefusedError when any row is shared."""
    if shared:
        raise RefusedError(
            f"{shared} holdout rows are among the training rows of {student.name}, or nearly the same: choose another "
            "dataset, or leave them out (--leave-out)"
        )


def _index(near: NearIndex | None, texts: Sequence[str]) -> None:
    if near is not None and texts:
        for signature in signatures(texts):
            near.add(signature)


def _is_known(known: Learnt, exam: Exam, text: str) -> bool:
    return exam.id in known.ids or hashed("content", text) in known.texts
