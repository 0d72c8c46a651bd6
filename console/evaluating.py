"""Verbs of evaluations: students, bases and models examined on a holdout, or on captured traffic replayed."""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import insert

from capture import datasets
from capture import tasks as task_store
from capture.errors import NotFoundError, RefusedError
from capture.ids import new_id
from capture.settings import EvaluationSettings, TaskSettings
from console.access import Desk, Role
from students import bases, registry
from students.asking import Asked
from students.tables import evaluations


def evaluate(
    desk: Desk, dataset: str, students: Sequence[str], with_base: bool = True, asked: Asked | None = None
) -> str:
    """Queues an evaluation on a dataset's holdout, of students and (by default) their untuned base. Returns its id.

    `asked` names others to examine beside them or in their place; without it, the task's settings say whether a base
    with examples in its prompt is among them.
    """
    card = datasets.load_card(desk.store, datasets.resolve(desk.store, dataset))
    task = _task(desk, card.task)
    wishes = asked or Asked(few_shot=task.evaluation.few_shot)
    return _queue(desk, (card.task, card.id), students, msgspec.structs.replace(wishes, with_base=with_base))


def rival(desk: Desk, dataset: str, base: str | None = None, examples: int = 4) -> str:
    """Queues an evaluation of an untrained base with examples in its prompt: what training has to beat, if anything."""
    card = datasets.load_card(desk.store, datasets.resolve(desk.store, dataset))
    task = _task(desk, card.task)
    wishes = Asked(bases=(base or task.training.base,), few_shot=examples)
    return _queue(desk, (card.task, card.id), (), wishes)


def replay(desk: Desk, task: str, students: Sequence[str], asked: Asked) -> str:
    """Queues an evaluation on captured traffic, as `asked.replay` chooses it."""
    _task(desk, task)
    if asked.replay is None or asked.few_shot:
        raise RefusedError("a replay needs filters, and has no training rows to show examples of")
    return _queue(desk, (task, None), students, asked)


def defaults(desk: Desk, dataset: str) -> EvaluationSettings:
    """What the dataset's task says of its evaluations."""
    return _task(desk, datasets.load_card(desk.store, datasets.resolve(desk.store, dataset)).task).evaluation


def _queue(desk: Desk, subject: tuple[str, str | None], students: Sequence[str], asked: Asked) -> str:
    desk.demand(Role.OPERATOR, "running an evaluation")
    task, dataset_id = subject
    found = [registry.load_student(desk.store, student) for student in students]
    if not found and not asked.bases and not asked.models:
        raise RefusedError("name at least one student, base or model to evaluate")
    strangers = [student.name for student in found if student.task != task]
    if strangers:
        raise RefusedError(f"{', '.join(strangers)} learnt another task than {task}")
    _check(desk, asked)
    row: dict[str, Any] = {
        "id": new_id("ev_"),
        "task": task,
        "dataset_id": dataset_id,
        "students": [student.id for student in found],
        "asked": msgspec.to_builtins(asked),
        "state": "queued",
        "progress": {},
        "report": {},
        "created_at": desk.clock(),
    }
    with desk.store.write() as connection:
        connection.execute(insert(evaluations).values(row))
    desk.record("evaluations.run", str(row["id"]), dataset=dataset_id, students=row["students"])
    return str(row["id"])


def _check(desk: Desk, asked: Asked) -> None:
    """Raises for what could only fail later: an upstream that the file lacks, an unknown base."""
    named = [one.upstream for one in asked.models] + ([asked.referee.upstream] if asked.referee else [])
    for upstream in named:
        if upstream not in desk.settings.upstreams:
            raise NotFoundError(f"no upstream {upstream!r} in stillhouse.toml")
    for base in asked.bases:
        bases.find(base, allow_hub=desk.settings.students.allow_hub)


def _task(desk: Desk, name: str) -> TaskSettings:
    tasks = task_store.load_tasks(desk.store)
    if name not in tasks:
        raise NotFoundError(f"no task {name!r}; there are: {', '.join(sorted(tasks)) or 'none yet'}")
    return tasks[name]
