"""Owns the rows that students are examined on, and the ways in which a student can sit the exam."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from capture.datasets import Row, rows
from capture.errors import RefusedError
from capture.exchange import Answer
from capture.feedback import truths
from capture.prompts import hashed, variable_text
from capture.tables import exchanges
from students.registry import Student
from students.report import Role
from students.workshop import Workshop

BATCH = 200
MOST_SHOTS = 8


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
class Sitting:
    """One student examined in one way. `key`: under what its answers are kept; `adapt` changes the request it gets."""

    key: str
    student: Student
    name: str
    role: Role
    adapt: Callable[[dict[str, Any]], dict[str, Any]]


def sittings(students: Sequence[Student], *, greedy: bool, shots: Sequence[Row]) -> list[Sitting]:
    """Every student at the live parameters first; then, where asked for, greedily, and bases with examples shown."""
    found = [_live(student) for student in students]
    if greedy:
        trained = [student for student in students if student.kind != "base"]
        found += [Sitting(f"{one.id}:greedy", one, f"{one.name}, greedy", "greedy", _greedy) for one in trained]
    if shots:
        bases = [student for student in students if student.kind == "base"]
        digest = hashed("shots", "".join(row.exchange_id for row in shots))
        found += [
            Sitting(
                key=f"{student.id}:shots:{digest}",
                student=student,
                name=f"{student.name}, {len(shots)} examples in the prompt",
                role="few_shot",
                adapt=lambda request: _with_examples(request, shots),
            )
            for student in bases
        ]
    return found


def _live(student: Student) -> Sitting:
    return Sitting(student.id, student, student.name, "base" if student.kind == "base" else "student", dict)


def _greedy(request: dict[str, Any]) -> dict[str, Any]:
    """The same request without chance: the likeliest token each time."""
    return {**{key: value for key, value in request.items() if key not in ("top_p", "seed")}, "temperature": 0}


def _with_examples(request: dict[str, Any], shots: Sequence[Row]) -> dict[str, Any]:
    """The request with other requests' last turns and answers between its system prompt and its own turns."""
    messages = list(request.get("messages", []))
    lead = [message for message in messages if message.get("role") in ("system", "developer")]
    examples = [turn for row in shots for turn in (_last_turn(row), {"role": "assistant", **row.target})]
    return {**request, "messages": [*lead, *examples, *messages[len(lead) :]]}


def _last_turn(row: Row) -> dict[str, Any]:
    turns = [message for message in row.request.get("messages", []) if message.get("role") == "user"]
    return dict(turns[-1]) if turns else {"role": "user", "content": ""}


def choose_shots(shop: Workshop, dataset_id: str, count: int) -> list[Row]:
    """The first training rows that show a label each not shown before; then the first of the others."""
    if not count:
        return []
    chosen: dict[str, Row] = {}
    spare: list[Row] = []
    for row in rows(shop.store, dataset_id, "train"):
        if row.label is not None and row.label not in chosen:
            chosen[row.label] = row
        elif len(spare) < count:
            spare.append(row)
        if len(chosen) >= count:
            break
    return [*chosen.values(), *spare][: min(count, MOST_SHOTS)]


def exams_of(shop: Workshop, dataset_id: str) -> Iterator[Exam]:
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


def check_overlap(shop: Workshop, student: Student, exams: Sequence[Exam]) -> None:
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
