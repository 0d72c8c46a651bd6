"""Owns who sits an exam, and in which way: students and bases through the one view, models at upstreams as they are."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from capture.datasets import Row, rows
from capture.prompts import hashed
from students.asking import Contender
from students.registry import Student
from students.report import Role
from students.view import student_view
from students.workshop import Workshop

MOST_SHOTS = 8
Body = dict[str, Any]


@dataclass(frozen=True)
class Sitting:
    """One arm's way of sitting the exam. Its answers are kept under `key`; `body` is what it gets of a request."""

    key: str
    name: str
    role: Role
    seat: Student | Contender
    body: Callable[[Mapping[str, Any]], Body]

    @property
    def is_base(self) -> bool:
        return self.role in ("base", "few_shot")


def sittings(
    students: Sequence[Student], models: Sequence[Contender], *, greedy: bool, shots: Sequence[Row]
) -> list[Sitting]:
    """Every student at the live parameters first; then greedily, bases with examples shown, and models."""
    found = [_live(student) for student in students]
    if greedy:
        found += [_greedily(student) for student in students if student.kind != "base"]
    if shots:
        found += [_shown(student, shots) for student in students if student.kind == "base"]
    return found + [_model(contender) for contender in models]


def _live(student: Student) -> Sitting:
    role: Role = "base" if student.kind == "base" else "student"
    return Sitting(student.id, student.name, role, student, lambda request: _seen(student, request))


def _greedily(student: Student) -> Sitting:
    key, name = f"{student.id}:greedy", f"{student.name}, greedy"
    return Sitting(key, name, "greedy", student, lambda request: _seen(student, _greedy(request)))


def _shown(student: Student, shots: Sequence[Row]) -> Sitting:
    digest = hashed("shots", "".join(row.exchange_id for row in shots))
    name = f"{student.name}, {len(shots)} examples in the prompt"
    return Sitting(
        f"{student.id}:shots:{digest}",
        name,
        "few_shot",
        student,
        lambda request: _seen(student, _with_examples(request, shots)),
    )


def _model(contender: Contender) -> Sitting:
    return Sitting(
        contender.key, contender.name, "model", contender, lambda request: with_system(request, contender.system)
    )


def _seen(student: Student, request: Mapping[str, Any]) -> Body:
    return student_view(request, student.view, tools=student.tools)


def _greedy(request: Mapping[str, Any]) -> Body:
    """The same request without chance: the likeliest token each time."""
    return {**{key: value for key, value in request.items() if key not in ("top_p", "seed")}, "temperature": 0}


def with_system(request: Mapping[str, Any], system: str | None) -> Body:
    """The request with another system prompt in place of its own; as it is for None."""
    if system is None:
        return dict(request)
    turns = [turn for turn in request.get("messages", []) if turn.get("role") not in ("system", "developer")]
    return {**request, "messages": [{"role": "system", "content": system}, *turns]}


def _with_examples(request: Mapping[str, Any], shots: Sequence[Row]) -> Body:
    """The request with other requests' last turns and answers between its system prompt and its own turns."""
    messages = list(request.get("messages", []))
    lead = [message for message in messages if message.get("role") in ("system", "developer")]
    examples = [turn for row in shots for turn in (_last_turn(row), {"role": "assistant", **row.target})]
    return {**request, "messages": [*lead, *examples, *messages[len(lead) :]]}


def _last_turn(row: Row) -> Body:
    turns = [message for message in row.request.get("messages", []) if message.get("role") == "user"]
    return dict(turns[-1]) if turns else {"role": "user", "content": ""}


def choose_shots(shop: Workshop, dataset_id: str | None, count: int) -> list[Row]:
    """The first training rows that show a label each not shown before; then the first of the others."""
    if not count or dataset_id is None:
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
