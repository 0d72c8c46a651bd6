"""Owns what a student's traffic looks like: its sampling, and prompts to warm its server up and measure it with."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from capture import datasets
from capture.datasets import Row
from capture.db import Store
from students.registry import Student
from students.view import student_view

SAMPLE_ROWS = 16
CHARACTERS_PER_TOKEN = 3


@dataclass(frozen=True)
class Sample:
    """What a student's traffic looks like, from rows of a dataset: for the warm-up and to measure its capacity with."""

    prompts: tuple[tuple[dict[str, Any], ...], ...]
    temperature: float
    top_p: float
    max_tokens: int


def sample_of(store: Store, student: Student) -> Sample:
    """From the student's own dataset; a base's from the task's newest one. Without any: nothing, and greedy.

    The sampling is that of most rows, and greedy where they say nothing of it. The answer's length that capacity is
    measured with is that of the longest of these rows.
    """
    rows = _rows(store, student)
    views = [student_view(row.request, student.view, tools=student.tools) for row in rows]
    longest = max((len(row.text) for row in rows), default=0)
    tokens = longest // CHARACTERS_PER_TOKEN + 8 if longest else student.view.max_tokens
    return Sample(
        prompts=tuple(tuple(view["messages"]) for view in views),
        temperature=float(_usual([view.get("temperature") for view in views], 0.0)),
        top_p=float(_usual([view.get("top_p") for view in views], 1.0)),
        max_tokens=min(student.view.max_tokens, tokens),
    )


def _rows(store: Store, student: Student) -> list[Row]:
    dataset_id = student.dataset_id
    if dataset_id is None:
        ready = [card for card in datasets.list_datasets(store, student.task) if card.state == "ready"]
        dataset_id = ready[0].id if ready else None
    return [] if dataset_id is None else list(islice(datasets.rows(store, dataset_id, "train"), SAMPLE_ROWS))


def _usual(values: Sequence[float | None], otherwise: float) -> float:
    given = Counter(values).most_common(1)
    return otherwise if not given or given[0][0] is None else given[0][0]
