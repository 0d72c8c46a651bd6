"""Verbs of evaluations: students, bases and models examined on a holdout, or on captured traffic replayed."""

from collections.abc import Sequence

import msgspec

from capture import datasets
from capture.errors import NotFoundError, RefusedError
from capture.ids import new_id
from console.access import Desk, Role
from students import bases, registry
from students.asking import Asked
from students.queueing import Evaluation, queue_evaluation

RUNNING = "running an evaluation"


def evaluate(
    desk: Desk, dataset: str, students: Sequence[str], with_base: bool = True, asked: Asked | None = None
) -> str:
    """Queues an evaluation on a dataset's holdout, of students and (by default) their untuned base. Returns its id.

    `asked` names others to examine beside them or in their place; where its `few_shot` is None, the task's settings
    say whether a base with examples in its prompt is among them.
    """
    desk.demand(Role.OPERATOR, RUNNING)
    card = datasets.load_card(desk.store, datasets.resolve(desk.store, dataset))
    desk.task(card.task)  # that is gone has no graders to examine by
    return _queue(desk, (card.task, card.id), students, msgspec.structs.replace(asked or Asked(), with_base=with_base))


def rival(desk: Desk, dataset: str, base: str | None = None, examples: int = 4) -> str:
    """Queues an evaluation of an untrained base with examples in its prompt: what training has to beat, if anything."""
    desk.demand(Role.OPERATOR, RUNNING)
    card = datasets.load_card(desk.store, datasets.resolve(desk.store, dataset))
    task = desk.task(card.task)
    wishes = Asked(bases=(base or task.training.base,), few_shot=examples)
    return _queue(desk, (card.task, card.id), (), wishes)


def replay(desk: Desk, task: str, students: Sequence[str], asked: Asked) -> str:
    """Queues an evaluation on captured traffic, as `asked.replay` chooses it."""
    desk.demand(Role.OPERATOR, RUNNING)
    desk.task(task)
    if asked.replay is None or asked.few_shot:
        raise RefusedError("a replay needs filters, and has no training rows to show examples of")
    return _queue(desk, (task, None), students, asked)


def _queue(desk: Desk, subject: tuple[str, str | None], students: Sequence[str], asked: Asked) -> str:
    task, dataset_id = subject
    found = [registry.load_student(desk.store, student) for student in students]
    if not found and not asked.bases and not asked.models:
        raise RefusedError("name at least one student, base or model to evaluate")
    strangers = [student.name for student in found if student.task != task]
    if strangers:
        raise RefusedError(f"{', '.join(strangers)} learnt another task than {task}")
    _check(desk, asked)
    wanted = Evaluation(
        id=new_id("ev_"),
        task=task,
        dataset_id=dataset_id,
        students=[student.id for student in found],
        asked=msgspec.to_builtins(asked),
    )
    with desk.whole() as own, own.store.write() as connection:
        queue_evaluation(connection, wanted, own.clock())
        own.record("evaluations.run", wanted.id, dataset=dataset_id, students=wanted.students)
    return wanted.id


def _check(desk: Desk, asked: Asked) -> None:
    """Raises for what could only fail later: an upstream that the file lacks, an unknown base."""
    named = [one.upstream for one in asked.models] + ([asked.referee.upstream] if asked.referee else [])
    for upstream in named:
        if upstream not in desk.settings.upstreams:
            raise NotFoundError(f"no upstream {upstream!r} in stillhouse.toml")
    for base in asked.bases:
        bases.find(base, allow_hub=desk.settings.students.allow_hub)
