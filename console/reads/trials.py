"""Owns what a task's rule and graders would do to real traffic, before the task is saved."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from capture import feedback
from capture.bodies import unpack_answer, unpack_request
from capture.db import Store
from capture.exchange import Answer
from capture.graders import TaskGraders, graders_of
from capture.licences import Licence, licence_of, reviewed
from capture.loading import is_large, stream_bodies
from capture.settings import TaskSettings
from capture.tables import exchanges
from capture.tasks import Matcher
from students.pairs import read_output
from students.tables import pairs, rollouts

LOOKED_AT = 2_000
TRIED = 12
REVIEWED = 2_000


@dataclass(frozen=True)
class Matched:
    """Of the newest `looked` exchanges: how many the rule takes, and from which tasks ("": of no task).

    `headers`: it also asks for headers, which are not kept, so that it may take fewer.
    """

    looked: int
    taken: int
    from_tasks: Mapping[str, int]
    headers: bool
    examples: tuple[str, ...]


@dataclass(frozen=True)
class Trial:
    """One exchange as the graders see it. `scores`: by grader; those with nothing to compare with are not there."""

    exchange_id: str
    asked: str
    answered: str
    against: str
    scores: Mapping[str, float]


@dataclass(frozen=True)
class Agreement:
    """A grader against people, as its licence has it, and beyond chance. `judge`: it needs that licence to gate."""

    licence: Licence
    judge: bool
    kappa: float | None


def matched(store: Store, task: TaskSettings) -> Matched:
    """What the task's rule takes of the newest exchanges, as gateways would match them."""
    with store.read() as connection:
        looked, rows = _taken(connection, task)
    taken: dict[str, int] = {}
    for row in rows:
        taken[row.task or ""] = taken.get(row.task or "", 0) + 1
    return Matched(looked, len(rows), taken, bool(task.match.headers), tuple(row.id for row in rows[:3]))


def _taken(connection: Connection, task: TaskSettings) -> tuple[int, list[Any]]:
    """How many of the newest exchanges were looked at, and those that the rule takes."""
    rule = task.match.model_copy(update={"headers": {}})
    matcher = Matcher({"this": task.model_copy(update={"match": rule})})
    names = ("id", "task", "model", "metadata", "key_id", "fingerprint", "status", "preview")
    newest = select(*(exchanges.c[name] for name in names)).order_by(exchanges.c.id.desc()).limit(LOOKED_AT)
    rows = connection.execute(newest).all()
    return len(rows), [
        row for row in rows if matcher.match(row.model, row.metadata, {}, row.key_id, row.fingerprint) is not None
    ]


def tried(store: Store, name: str, task: TaskSettings) -> list[Trial]:
    """The graders on real exchanges: on those with a truth, and on pairs of a rollout. Raises ConfigError.

    A task that has no exchange yet is tried on what its rule takes. Graders that compare with nothing are also tried on
    answers of which nobody has said anything.
    """
    graders = graders_of(task)
    with store.read() as connection:
        shown = _answered(connection, name, task)
        truths = feedback.truths(connection, list(shown))
        chosen = list(truths)[:TRIED]
        if not all(one.needs_reference for one in graders.graders.values()):
            chosen += [one for one in shown if one not in truths][: TRIED - len(chosen)]
        cases = [*_cases(connection, {one: shown[one] for one in chosen}, truths), *_pairs(connection, name)]
    return [Trial(one.exchange_id, one.asked, one.output.text, one.against, _scores(graders, one)) for one in cases]


def _answered(connection: Connection, name: str, task: TaskSettings) -> dict[str, str]:
    """The previews of the newest answered exchanges of the task, or else of those that its rule takes, by id."""
    newest = select(exchanges.c.id, exchanges.c.preview).where(exchanges.c.task == name, exchanges.c.status == 200)
    own = connection.execute(newest.order_by(exchanges.c.id.desc()).limit(LOOKED_AT)).all()
    rows = own or [row for row in _taken(connection, task)[1] if row.status == 200]
    return {row.id: row.preview for row in rows}


@dataclass(frozen=True)
class _Case:
    """An output to grade, and the one thing that it is compared with."""

    exchange_id: str
    asked: str
    output: Answer
    against: str
    request: dict[str, Any]
    truth: Any = None
    teacher: Answer | None = None


def _scores(graders: TaskGraders, one: _Case) -> dict[str, float]:
    return graders.score(one.output, request=one.request, truth=one.truth, teacher=one.teacher)


def _cases(connection: Connection, shown: Mapping[str, str], truths: Mapping[str, Any]) -> Iterator[_Case]:
    for identity, request, answer in stream_bodies(connection, list(shown)):
        if is_large(request) or is_large(answer):
            continue
        asked, truth = shown[identity].partition("\n")[0], truths.get(identity)
        against = truth if isinstance(truth, str) else json.dumps(truth, ensure_ascii=False) if truth else ""
        yield _Case(identity, asked, unpack_answer(answer), against, unpack_request(request), truth)


def _pairs(connection: Connection, task: str) -> Iterator[_Case]:
    columns = (pairs.c.exchange_id, pairs.c.student_output, pairs.c.teacher_output, exchanges.c.preview)
    chosen = select(*columns).join(exchanges, exchanges.c.id == pairs.c.exchange_id)
    chosen = chosen.join(rollouts, rollouts.c.id == pairs.c.rollout_id).where(rollouts.c.task == task)
    newest = chosen.where(pairs.c.student_output.is_not(None)).order_by(pairs.c.id.desc()).limit(TRIED)
    for identity, student, said, preview in connection.execute(newest):
        teacher = read_output(said)
        asked = preview.partition("\n")[0]
        yield _Case(identity, asked, read_output(student), teacher.text, {}, teacher=teacher)


def agreement(store: Store, name: str, task: TaskSettings) -> list[Agreement]:
    """Each grader of the task against people: judges as their licences have it, others by the newest reviews.

    Raises ConfigError.
    """
    found = graders_of(task)
    versions = {grader: one.version for grader, one in found.graders.items()}
    plain = {grader: version for grader, version in versions.items() if grader not in found.judges}
    judges = {grader: version for grader, version in versions.items() if grader in found.judges}
    told = reviewed(store, name, plain, REVIEWED) | (reviewed(store, name, judges) if judges else {})
    return [
        Agreement(
            licence_of(grader, told[grader], task.judges, reads=found.graders[grader].needs_reference),
            grader in found.judges,
            kappa(told[grader]),
        )
        for grader in versions
        if told[grader]
    ]


def kappa(told: Sequence[tuple[bool, bool]]) -> float | None:
    """Agreement beyond chance, (observed − expected) / (1 − expected) (Cohen 1960); None where it can be nothing else.

    `told`: what each of the two sides said, case by case.
    """
    count, agreed = len(told), sum(person == score for person, score in told)
    people, scored = sum(person for person, _ in told) / count, sum(score for _, score in told) / count
    expected = people * scored + (1 - people) * (1 - scored)
    return None if expected == 1 else (agreed / count - expected) / (1 - expected)
