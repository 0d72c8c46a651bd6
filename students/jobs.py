"""Owns fine-tuning jobs as clients of `/v1/fine_tuning/jobs` ask for them: offered, queued, listed, cancelled."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

import msgspec
from sqlalchemy import Row, Select, insert, select, update

from capture.db import Store
from capture.errors import NotFoundError, RefusedError
from capture.ids import new_id
from capture.settings import Settings, TaskSettings, TrainingSettings
from students.job_files import load_file
from students.job_lines import MINIMUM_LINES
from students.queueing import FineTune, queue_fine_tune
from students.tables import fine_tune_events, fine_tunes, students

LOCAL = "local"
TASK = "task"
"""The metadata key by which a job may say which task its model is for."""

Auto = Literal["auto"]


class Hyperparameters(msgspec.Struct, frozen=True):
    n_epochs: Annotated[int, msgspec.Meta(ge=1, le=50)] | Auto = "auto"
    batch_size: Annotated[int, msgspec.Meta(ge=1, le=256)] | Auto = "auto"
    learning_rate_multiplier: Annotated[float, msgspec.Meta(gt=0)] | Auto = "auto"


class Supervised(msgspec.Struct, frozen=True):
    hyperparameters: Hyperparameters | None = None


class Method(msgspec.Struct, frozen=True):
    type: Literal["supervised", "dpo", "reinforcement"]
    supervised: Supervised | None = None


class Asked(msgspec.Struct, frozen=True):
    """A job as it was asked for. `hyperparameters` is the older place of what `method` holds."""

    model: str
    training_file: str
    validation_file: str | None = None
    suffix: Annotated[str, msgspec.Meta(max_length=64)] | None = None
    seed: Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    method: Method | None = None
    hyperparameters: Hyperparameters | None = None
    metadata: dict[str, str] | None = None
    integrations: list[Any] | None = None

    @property
    def ending(self) -> str:
        """The suffix as it stands in a model's name, which goes into headers and addresses."""
        return re.sub(r"[^A-Za-z0-9._-]+", "-", self.suffix or "")

    @property
    def wishes(self) -> Hyperparameters:
        named = self.method.supervised.hyperparameters if self.method and self.method.supervised else None
        return named or self.hyperparameters or Hyperparameters()


@dataclass(frozen=True)
class Job:
    """A job, with the name that its model answers under once it has succeeded."""

    id: str
    task: str
    trainer: str
    state: str
    cancel_asked: bool
    asked: Asked
    progress: dict[str, Any]
    error: str | None
    model: str | None
    trained_tokens: int | None
    created_at: float
    started_at: float | None
    ended_at: float | None


@dataclass(frozen=True)
class JobEvent:
    id: str
    at: float
    level: str
    message: str
    data: dict[str, Any]


@dataclass(frozen=True)
class Client:
    """Who asks: the gateway key (None: keys are off) and the tasks that it may be used for (empty: all)."""

    key_id: str | None = None
    tasks: tuple[str, ...] = ()


def trainer_of(settings: Settings, model: str) -> str:
    """`local`, or the upstream that trains this model. Raises NotFoundError, and RefusedError where terms forbid."""
    if model in settings.fine_tuning.bases:
        return LOCAL
    for name, upstream in settings.upstreams.items():
        if any(fnmatchcase(model, glob) for glob in upstream.fine_tuning):
            if not upstream.training_allowed:
                raise RefusedError(f"upstreams.{name} has training_allowed = false: nothing is trained there.")
            return name
    offered = [*settings.fine_tuning.bases, *(glob for one in settings.upstreams.values() for glob in one.fine_tuning)]
    raise NotFoundError(f"The model {model[:200]!r} cannot be fine-tuned here; these can: {', '.join(offered)}.")


def create_job(
    store: Store,
    settings: Settings,
    tasks: Mapping[str, TaskSettings],
    asked: Asked,
    client: Client,
    clock: Callable[[], float],
) -> str:
    """Queues a job and returns its id; the worker does it.

    Raises NotFoundError for a model or a file that is not there; RefusedError for what is not supported, for too few
    lines, for a task that this key may not use, and where terms forbid training.
    """
    trainer = trainer_of(settings, asked.model)
    _check(asked)
    for file_id in filter(None, (asked.training_file, asked.validation_file)):
        _check_file(store, file_id, client.key_id, clock(), training=file_id == asked.training_file)
    task = _task(asked, tasks, settings, client)
    base = tasks[task].training if task else TrainingSettings()
    asked = msgspec.structs.replace(asked, seed=base.seed if asked.seed is None else asked.seed)
    wanted = FineTune(
        id=new_id("ftjob-"),
        task=task,
        dataset_id=None,
        base=asked.model,
        trainer=trainer,
        settings=_training(asked, base),
        key_id=client.key_id,
        asked=msgspec.to_builtins(asked),
    )
    with store.write() as connection:
        queue_fine_tune(connection, wanted, clock())
        connection.execute(insert(fine_tune_events).values(_event(wanted.id, f"Created job {wanted.id}", clock())))
    return wanted.id


def _check(asked: Asked) -> None:
    if asked.method is not None and asked.method.type != "supervised":
        raise RefusedError(f"method.type {asked.method.type!r} is not supported here: use supervised.")
    if asked.integrations:
        raise RefusedError("integrations are not supported here.")


def _check_file(store: Store, file_id: str, key_id: str | None, now: float, *, training: bool) -> None:
    file = load_file(store, file_id, key_id, now)
    if training and file.lines < MINIMUM_LINES:
        raise RefusedError(
            f"Training file has {file.lines} example(s), but must have at least {MINIMUM_LINES} examples."
        )


def _task(asked: Asked, tasks: Mapping[str, TaskSettings], settings: Settings, client: Client) -> str:
    """The task that the job's metadata names, if there is one; a key for certain tasks has to name one of them."""
    named = (asked.metadata or {}).get(TASK, "")
    task = named if named in tasks else ""
    if client.tasks and task not in client.tasks:
        raise RefusedError(f"This key is for certain tasks: name one of {', '.join(client.tasks)} in metadata.task.")
    if task:
        upstream = settings.upstreams.get(tasks[task].teacher.upstream)
        if upstream is None or not upstream.training_allowed:
            raise RefusedError(f"The terms of task {task}'s teacher do not allow training: see training_allowed.")
    return task


def _training(asked: Asked, base: TrainingSettings) -> TrainingSettings:
    """The wishes over the task's settings; "auto" leaves these as they are."""
    wishes = asked.wishes
    changes: dict[str, Any] = {"base": asked.model, "seed": asked.seed}
    if wishes.n_epochs != "auto":
        changes["epochs"] = wishes.n_epochs
    if wishes.batch_size != "auto":
        changes["batch_size"] = wishes.batch_size
    if wishes.learning_rate_multiplier != "auto":
        changes["learning_rate"] = base.learning_rate * wishes.learning_rate_multiplier
    return base.model_copy(update=changes)


def load_job(store: Store, job_id: str, key_id: str | None) -> Job:
    """Raises NotFoundError for a job that is not there, or another key's."""
    with store.read() as connection:
        row = connection.execute(_jobs(key_id).where(fine_tunes.c.id == job_id)).one_or_none()
    if row is None:
        raise NotFoundError(f"Could not find fine tune: {job_id}")
    return _job(row)


def list_jobs(store: Store, key_id: str | None, *, after: str | None, limit: int, tags: Mapping[str, str]) -> list[Job]:
    """At most `limit` of a key's jobs, newest first, those behind `after`; `tags` must all be in their metadata."""
    query = _jobs(key_id).order_by(fine_tunes.c.id.desc())
    if after is not None:
        query = query.where(fine_tunes.c.id < after)
    found: list[Job] = []
    with store.read() as connection:
        for row in connection.execute(query if tags else query.limit(limit)):
            job = _job(row)
            if tags.items() <= (job.asked.metadata or {}).items():
                found.append(job)
            if len(found) == limit:
                break
    return found


def cancel_job(store: Store, job_id: str, key_id: str | None, clock: Callable[[], float]) -> Job:
    """One that waits is cancelled at once, one that runs at its next step. Raises NotFoundError, RefusedError."""
    job = load_job(store, job_id, key_id)
    row = fine_tunes.c.id == job_id
    with store.write() as connection:
        waits = update(fine_tunes).where(row, fine_tunes.c.state == "queued")
        ended = {"state": "cancelled", "cancel_asked": True, "ended_at": clock()}
        if connection.execute(waits.values(ended)).rowcount:
            connection.execute(insert(fine_tune_events).values(_event(job_id, "cancelled", clock())))
        else:
            runs = update(fine_tunes).where(row, fine_tunes.c.state == "running")
            if not connection.execute(runs.values(cancel_asked=True)).rowcount:
                raise RefusedError(f"Job {job_id} has already {job.state}: it cannot be cancelled.")
    return load_job(store, job_id, key_id)


def list_events(store: Store, job_id: str, *, after: str | None, limit: int) -> list[JobEvent]:
    """At most `limit` events, newest first, those behind `after`."""
    columns = (fine_tune_events.c.id, fine_tune_events.c.at, fine_tune_events.c.level)
    query = select(*columns, fine_tune_events.c.message, fine_tune_events.c.data)
    query = query.where(fine_tune_events.c.fine_tune_id == job_id).order_by(fine_tune_events.c.id.desc()).limit(limit)
    if after is not None:
        query = query.where(fine_tune_events.c.id < after)
    with store.read() as connection:
        return [JobEvent(*row) for row in connection.execute(query)]


def _event(job_id: str, message: str, now: float) -> dict[str, Any]:
    return {
        "id": new_id("ftevent-"),
        "fine_tune_id": job_id,
        "at": now,
        "level": "info",
        "message": message,
        "data": {},
    }


def _jobs(key_id: str | None) -> Select[Any]:
    """Without a key (keys are off) all fine-tunes are the asker's, those that were started otherwise too."""
    named = select(fine_tunes, students.c.name.label("model"))
    query = named.outerjoin(students, students.c.id == fine_tunes.c.student_id)
    return query if key_id is None else query.where(fine_tunes.c.key_id == key_id)


def _job(row: Row[Any]) -> Job:
    return Job(
        id=row.id,
        task=row.task,
        trainer=row.trainer,
        state=row.state,
        cancel_asked=row.cancel_asked,
        asked=_asked(row),
        progress=row.progress or {},
        error=row.error,
        model=row.model,
        trained_tokens=row.trained_tokens,
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
    )


def _asked(row: Row[Any]) -> Asked:
    """What was asked for; a fine-tune that was started otherwise, in the same terms."""
    if row.asked is not None:
        return msgspec.convert(row.asked, Asked)
    settings = TrainingSettings.model_validate(row.settings)
    wishes = Hyperparameters(n_epochs=max(1, round(settings.epochs)), batch_size=settings.batch_size)
    return Asked(row.base, row.dataset_id or "", seed=settings.seed, hyperparameters=wishes)
