"""Owns the students table and the wish that a student be served: who exists, under which name, and where it answers."""

import contextlib
import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, Table, null, select, update
from sqlalchemy.exc import IntegrityError

from capture.db import Store, insert_once
from capture.errors import ConfigError, NotFoundError, RefusedError
from capture.settings import UpstreamSettings, ViewSettings
from students.tables import fine_tunes, rollouts, student_servers, students

Clock = Callable[[], float]

LIVE_STATES = ("running", "paused", "full")
"""Rollouts in these states need their student served."""


@dataclass(frozen=True)
class Student:
    """One row of students, as the rest of the room passes it on. `folder` is relative to the data folder."""

    id: str
    name: str
    task: str
    kind: str
    base: str
    fine_tune_id: str | None
    dataset_id: str | None
    folder: str | None
    weights_hash: str | None
    upstream: str | None
    upstream_model: str | None
    view: ViewSettings
    fingerprints: frozenset[str]
    tools: bool
    created_at: float
    key_id: str | None = None  # the gateway key that alone may call it
    erased: int = 0  # rows that it learnt from, erased since


@dataclass(frozen=True)
class Server:
    """Where a student answers now: `url` ends in /v1, `served_model` is what its requests must name."""

    student_id: str
    state: str
    url: str | None
    served_model: str | None
    capacity_per_s: float | None
    detail: str | None
    seen_at: float

    @property
    def ready(self) -> bool:
        return self.state == "ready" and self.url is not None


@dataclass(frozen=True)
class Training:
    """What a finished fine-tune tells about the student that came out of it.

    `folder` and `weights_hash` are a local one's; `upstream` and `upstream_model` those of one trained at an upstream.
    `suffix` is what its owner wants to find in its name, `key_id` the gateway key that alone may call it.
    """

    fine_tune_id: str
    task: str
    base: str
    dataset_id: str | None
    folder: str | None
    weights_hash: str | None
    view: ViewSettings
    fingerprints: Sequence[str]
    tools: bool
    upstream: str | None = None
    upstream_model: str | None = None
    suffix: str | None = None
    key_id: str | None = None


@dataclass(frozen=True)
class Learnt:
    """What somebody says that a model at an upstream was trained on."""

    dataset_id: str | None
    fingerprints: Sequence[str]
    tools: bool


def register_local(store: Store, training: Training, clock: Clock) -> Student:
    """The student of a fine-tune, made once: asking again for the same fine-tune returns the same student.

    It answers under `ft:BASE:TASK:` and eight digits, as OpenAI names its own fine-tuned models; where a client asked
    for the fine-tune, under `ft:BASE:TASK:SUFFIX:` and the digits. One that was trained at an upstream keeps the name
    that it got there. Raises RefusedError where another student has the name.
    """
    digits = _digest(training.fine_tune_id)
    suffix = "" if training.suffix is None else f"{training.suffix}:"
    values = {
        "id": f"st_{digits}",
        "name": training.upstream_model or f"ft:{training.base}:{training.task}:{suffix}{digits[:8]}",
        "task": training.task,
        "kind": "registered" if training.upstream else "local",
        "upstream": training.upstream,
        "upstream_model": training.upstream_model,
        "key_id": training.key_id,
        "base": training.base,
        "fine_tune_id": training.fine_tune_id,
        "dataset_id": training.dataset_id,
        "folder": training.folder,
        "weights_hash": training.weights_hash,
        "view": training.view.model_dump(mode="json"),
        "fingerprints": sorted(set(training.fingerprints)),
        "tools": training.tools,
        "created_at": clock(),
    }
    return _insert_once(store, values)


def ensure_base(store: Store, task: str, base: str, view: ViewSettings, clock: Clock) -> Student:
    """The untuned base as a student of this task, for comparison; made once for each task and base.

    It has no folder: the student server looks its base up by name.
    """
    values = {
        "id": f"st_{_digest('base', task, base)}",
        "name": f"base:{base}:{task}",
        "task": task,
        "kind": "base",
        "base": base,
        "view": view.model_dump(mode="json"),
        "fingerprints": [],
        "tools": False,
        "created_at": clock(),
    }
    return _insert_once(store, values)


def register_upstream(
    store: Store,
    task: str,
    model: str,
    upstream: tuple[str, Mapping[str, UpstreamSettings]],
    view: ViewSettings,
    clock: Clock,
    *,
    learnt: Learnt | None = None,
) -> Student:
    """A model at an upstream of the file as a student; `upstream` is its name and the file's upstreams.

    Without `learnt` nobody knows which prompt versions it may answer: shadow has to prove each.

    Raises ConfigError when the file has no such upstream.
    """
    name, known = upstream
    if name not in known:
        raise ConfigError(
            f"no upstream {name!r} in stillhouse.toml; students are registered against upstreams of the file only"
        )
    values = {
        "id": f"st_{_digest('registered', task, name, model)}",
        "name": f"{name}/{model}:{task}",
        "task": task,
        "kind": "registered",
        "base": model,
        "upstream": name,
        "upstream_model": model,
        "dataset_id": learnt.dataset_id if learnt else None,
        "view": view.model_dump(mode="json"),
        "fingerprints": sorted(set(learnt.fingerprints)) if learnt else [],
        "tools": learnt.tools if learnt else False,
        "created_at": clock(),
    }
    return _insert_once(store, values)


def load_student(store: Store, id_or_name: str) -> Student:
    """By id or by the name it answers under. Raises NotFoundError."""
    with store.read() as connection:
        row = connection.execute(
            select(students).where((students.c.id == id_or_name) | (students.c.name == id_or_name))
        ).one_or_none()
    if row is None:
        raise NotFoundError(f"no student {id_or_name!r}; `stillhouse students list` shows them")
    return _student(row)


def list_students(store: Store, task: str | None = None) -> list[Student]:
    """Newest first; of one task or of all."""
    query = select(students).order_by(students.c.created_at.desc(), students.c.id)
    if task is not None:
        query = query.where(students.c.task == task)
    with store.read() as connection:
        return [_student(row) for row in connection.execute(query)]


def want(store: Store, student_id: str, clock: Clock) -> bool:
    """Ask for a student to be served until `unwant`; False when it was wanted already, or needs no server of ours."""
    student = load_student(store, student_id)
    if student.kind == "registered":
        return False
    now = clock()
    with store.write() as connection:
        row = connection.execute(
            select(student_servers).where(student_servers.c.student_id == student.id)
        ).one_or_none()
        if row is None:
            values = {"student_id": student.id, "wanted_at": now, "state": "stopped", "seen_at": 0.0}
            connection.execute(student_servers.insert().values(values))
            return True
        if row.wanted_at is not None:
            return False
        connection.execute(_of(student_servers, student.id).values(wanted_at=now))
        return True


def want_again(store: Store, student_ids: Collection[str], clock: Clock) -> None:
    """Somebody asked for these a moment ago: their idle time begins anew, and one that sleeps is woken."""
    if student_ids:
        with store.write() as connection:
            asked = update(student_servers).where(student_servers.c.student_id.in_(student_ids))
            connection.execute(asked.values(wanted_at=clock()))


def let_sleep(store: Store, idle_s: float, clock: Clock) -> int:
    """Students that clients of the API made are served on demand: no longer once nobody asked for `idle_s`.

    One with a live rollout stays. Returns how many went.
    """
    theirs = select(students.c.id).join(fine_tunes, fine_tunes.c.id == students.c.fine_tune_id)
    theirs = theirs.where(fine_tunes.c.asked.is_not(null()))
    live = select(rollouts.c.student_id).where(rollouts.c.state.in_(LIVE_STATES))
    idle = student_servers.c.wanted_at <= clock() - idle_s
    chosen = update(student_servers).where(idle, student_servers.c.student_id.in_(theirs))
    with store.write() as connection:
        done = connection.execute(chosen.where(student_servers.c.student_id.not_in(live)).values(wanted_at=None))
    return done.rowcount


def unwant(store: Store, student_id: str) -> None:
    """Nobody needs this student served any longer. Raises RefusedError while it has a live rollout."""
    live = select(rollouts.c.id).where(rollouts.c.student_id == student_id, rollouts.c.state.in_(LIVE_STATES))
    with store.write() as connection:
        rollout = connection.execute(live.limit(1)).scalar()
        if rollout is not None:
            raise RefusedError(f"student {student_id} has rollout {rollout}; abort that before its server is stopped")
        connection.execute(_of(student_servers, student_id).values(wanted_at=None))


def unwant_if_idle(store: Store, student_id: str) -> None:
    """As `unwant`, but a student with a live rollout is left as it is."""
    with contextlib.suppress(RefusedError):
        unwant(store, student_id)


def server_of(store: Store, student_id: str) -> Server | None:
    """What its server last wrote about itself, or None when nobody ever asked for one."""
    with store.read() as connection:
        row = connection.execute(
            select(student_servers).where(student_servers.c.student_id == student_id)
        ).one_or_none()
    if row is None:
        return None
    return Server(row.student_id, row.state, row.url, row.served_model, row.capacity_per_s, row.detail, row.seen_at)


def _of(table: Table, student_id: str) -> Any:
    return update(table).where(table.c.student_id == student_id)


def _insert_once(store: Store, values: Mapping[str, Any]) -> Student:
    """Raises RefusedError where another student has the name."""
    try:
        with store.write() as connection:
            erased = select(fine_tunes.c.erased).where(fine_tunes.c.id == values.get("fine_tune_id"))
            marked = connection.scalar(erased.with_for_update()) or 0
            insert_once(connection, students, {**values, "erased": marked}, ["id"])
    except IntegrityError as error:
        raise RefusedError(f"another student answers under {values['name']!r}: choose another name for it") from error
    return load_student(store, values["id"])


def _student(row: Row[Any]) -> Student:
    values = dict(row._mapping)
    values["view"] = ViewSettings.model_validate(values["view"])
    values["fingerprints"] = frozenset(values["fingerprints"])
    return Student(**values)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
