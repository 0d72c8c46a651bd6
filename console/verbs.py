"""What page and command both call: each verb checks the role, inserts or changes rows, and leaves a line in the audit.

The rows and the line are one transaction, but for what takes long: each row of an erasure says who did it, and files
that go out or come in are told of afterwards.
Verbs do nothing slow: the worker acts on the rows. Unknown names raise NotFoundError, forbidden things RefusedError.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from sqlalchemy import update

from capture import datasets, keys, lineage, reviews
from capture import tasks as task_store
from capture.db import Store
from capture.errors import NotFoundError, RefusedError
from capture.ids import new_id
from capture.redact import Redactor, load_secret
from capture.settings import RedactionSettings, RolloutSettings, TaskSettings, TrainingSettings
from console.access import Desk, Role
from console.evaluating import evaluate as evaluate
from students import bases, registry, rollout_start, rollouts, steering
from students.erasure import Erased, purge, with_taught
from students.jobs import LOCAL
from students.queueing import FineTune, queue_fine_tune
from students.tables import fine_tunes


def save_task(desk: Desk, name: str, settings: dict[str, Any], new: bool = False) -> None:
    """Makes or changes a task of the console's own; those in stillhouse.toml are read-only here.

    `new`: it is to be made; refused where there is one of that name.
    """
    desk.demand(Role.OPERATOR, "changing a task")
    task = checked_task(settings)
    if task.teacher.upstream not in desk.settings.upstreams:
        raise RefusedError(f"teacher.upstream {task.teacher.upstream!r} is not an upstream of stillhouse.toml")
    with desk.whole() as own:
        task_store.save_task(own.store, name, task, own.clock, new)
        own.record("tasks.save", name, settings=settings)


def checked_task(settings: dict[str, Any]) -> TaskSettings:
    """Settings as somebody wrote them. Raises RefusedError that names the key which cannot stay so."""
    try:
        return TaskSettings.model_validate(settings)
    except ValidationError as error:
        first = error.errors()[0]
        raise RefusedError(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from error


def review(desk: Desk, exchange_id: str, verdict: reviews.Verdict, output: str | None = None) -> None:
    """A person's verdict on an exchange: accept, reject, or correct with the corrected output."""
    desk.demand(Role.REVIEWER, "reviewing")
    with desk.whole() as own:
        reviews.review(own.store, exchange_id, verdict, output, own.actor.name, own.clock)
        own.record("reviews.add", exchange_id, verdict=verdict)


def build_dataset(desk: Desk, task: str, filters: datasets.Filters | None = None) -> str:
    """Queues a build; the worker does it. Returns the dataset's id."""
    desk.demand(Role.OPERATOR, "building a dataset")
    desk.task(task)
    with desk.whole() as own:
        dataset_id = datasets.queue_build(own.store, task, filters or datasets.Filters(), own.clock)
        own.record("datasets.build", dataset_id, task=task)
    return dataset_id


def export_dataset(desk: Desk, dataset: str, form: str, path: Path) -> int:
    """Writes a dataset's rows to a file; returns how many."""
    desk.demand(Role.OPERATOR, "exporting a dataset")
    dataset_id = datasets.resolve(desk.store, dataset)
    count = datasets.export(desk.store, dataset_id, form, path, desk.settings)
    desk.record("datasets.export", dataset_id, form=form, rows=count)
    return count


def import_dataset(desk: Desk, task: str, form: str, path: Path) -> datasets.Card:
    """Makes the task's next dataset of a file's rows. Whether their terms allow training, the importer must know."""
    desk.demand(Role.OPERATOR, "importing a dataset")
    card = datasets.import_rows(desk.store, task, form, path, desk.task(task), desk.clock)
    desk.record("datasets.import", card.id, task=task, form=form, rows=sum(card.rows.values()))
    return card


def train(
    desk: Desk, dataset: str, base: str | None = None, changes: dict[str, Any] | None = None, at: str | None = None
) -> str:
    """Queues a fine-tune on a ready dataset; `changes` go over the task's training settings. Returns its id.

    `at` is an upstream that trains its model `base`, with the worker's key there; None: this machine.
    """
    desk.demand(Role.OPERATOR, "starting a fine-tune")
    card = datasets.load_card(desk.store, datasets.resolve(desk.store, dataset))
    if card.state != "ready":
        raise RefusedError(f"dataset {dataset} is {card.state}; it must be ready before anything is trained on it")
    task = desk.task(card.task)
    upstream = desk.settings.upstreams.get(task.teacher.upstream)
    if upstream is None or not upstream.training_allowed:
        raise RefusedError(f"upstreams.{task.teacher.upstream} has training_allowed = false; its answers may not train")
    _check_trainer(desk, at, base)
    wanted = {**task.training.model_dump(), **(changes or {}), **({"base": base} if base else {})}
    try:
        settings = TrainingSettings.model_validate(wanted)
    except ValidationError as error:
        raise RefusedError(f"training.{error.errors()[0]['loc'][0]}: {error.errors()[0]['msg']}") from error
    fine_tune = FineTune(
        id=new_id("ftjob-"),
        task=card.task,
        dataset_id=card.id,
        base=settings.base,
        trainer=at or LOCAL,
        settings=settings,
    )
    with desk.whole() as own, own.store.write() as connection:
        queue_fine_tune(connection, fine_tune, own.clock())
        own.record("students.train", fine_tune.id, dataset=card.id, base=settings.base, trainer=fine_tune.trainer)
    return fine_tune.id


def _check_trainer(desk: Desk, at: str | None, base: str | None) -> None:
    if at is None:
        return
    upstream = desk.settings.upstreams.get(at)
    if upstream is None:
        raise RefusedError(f"no upstream {at!r} in stillhouse.toml; there are: {', '.join(desk.settings.upstreams)}")
    if not upstream.training_allowed or not upstream.worker_key_env:
        raise RefusedError(f"upstreams.{at} trains nothing without training_allowed = true and worker_key_env")
    if base is None:
        raise RefusedError(f"name the model of {at} that is to be fine-tuned as the base")


def cancel_fine_tune(desk: Desk, fine_tune_id: str) -> None:
    """Asks a running or queued fine-tune to stop; what it has learnt so far is thrown away."""
    desk.demand(Role.OPERATOR, "cancelling a fine-tune")
    asked = update(fine_tunes).where(fine_tunes.c.id == fine_tune_id, fine_tunes.c.state.in_(("queued", "running")))
    with desk.whole() as own, own.store.write() as connection:
        if not connection.execute(asked.values(cancel_asked=True)).rowcount:
            raise RefusedError(f"{fine_tune_id} is not running, so there is nothing to cancel")
        own.record("students.cancel", fine_tune_id)


def serve(desk: Desk, student: str, wanted: bool = True) -> None:
    """Asks the student server to keep a local student up, or no longer to."""
    desk.demand(Role.OPERATOR, "serving a student")
    with desk.whole() as own:
        found = registry.load_student(own.store, student)
        if wanted:
            registry.want(own.store, found.id, own.clock)
        else:
            registry.unwant(own.store, found.id)
        own.record("students.serve" if wanted else "students.unserve", found.id)


def pull_base(desk: Desk, name: str) -> Path:
    """The folder of a base model, fetched where it does not lie here yet: then there is a line in the audit."""
    desk.demand(Role.OPERATOR, "fetching a base model")
    own = desk.settings
    base = bases.find(name, allow_hub=own.students.allow_hub)
    was_here = bases.is_pulled(base, own.models_folder)
    place = bases.pull(name, own.models_folder, allow_hub=own.students.allow_hub)
    if not was_here:
        desk.record("models.pull", base.name, source=base.source)
    return place


def start_rollout(desk: Desk, start: rollout_start.Start) -> rollouts.Rollout:
    """Starts a student's rollout at shadow, by `start.policy` or its task's; `start.who` is the desk's actor."""
    desk.demand(Role.OPERATOR, "starting a rollout")
    asked = replace(start, who=desk.actor.name)
    task = desk.task(start.task)
    python, noted = desk.settings.python_graders.allowed, {"dry_run": start.dry_run, "reason": start.reason}
    with desk.whole() as own:
        rollout = rollout_start.start(own.store, asked, task, own.clock, python=python)
        own.record("rollouts.start", rollout.id, student=rollout.student_id, **noted)
    return rollout


def policy_of(desk: Desk, task: str, changes: dict[str, Any]) -> RolloutSettings:
    """A task's rollout policy with some of it changed. Raises RefusedError that names the key which cannot stay so."""
    wanted = {**desk.task(task).rollout.model_dump(), **changes}
    try:
        return RolloutSettings.model_validate(wanted)
    except ValidationError as error:
        first = error.errors()[0]
        raise RefusedError(f"rollout.{'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from error


def steer(desk: Desk, verb: str, rollout_id: str, reason: str = "", seen: int | None = None) -> rollouts.Rollout:
    """`verb` is pause, resume, promote or abort; promote and abort need a reason.

    `seen`: the stage that the person was shown: of two who promote at once, one is told to look again.
    """
    desk.demand(Role.OPERATOR, f"to {verb} a rollout")
    if verb in ("promote", "abort") and not reason.strip():
        raise RefusedError(f"to {verb} a rollout needs a reason: it stands in its history")
    with desk.whole() as own:
        rollout = _steer(own, verb, rollout_id, reason, seen)
        own.record(f"rollouts.{verb}", rollout_id, reason=reason)
    return rollout


def _steer(desk: Desk, verb: str, rollout_id: str, reason: str, seen: int | None) -> rollouts.Rollout:
    store, who, clock = desk.store, desk.actor.name, desk.clock
    match verb:
        case "pause":
            return steering.pause(store, rollout_id, who, clock, reason)
        case "resume":
            return steering.resume(store, rollout_id, who, clock, seen, reason)
        case "promote":
            return steering.promote(store, rollout_id, who, reason, clock, seen)
        case "abort":
            return steering.abort(store, rollout_id, who, reason, clock)
    raise RefusedError(f"{verb!r} is none of pause, resume, promote, abort")


def create_key(
    desk: Desk,
    name: str,
    tasks: Sequence[str] = (),
    expires_at: float | None = None,
    limits: keys.KeyLimits | None = None,
) -> str:
    """A new gateway key; returned here, and never shown again."""
    desk.demand(Role.OPERATOR, "creating a key")
    bounds = limits or keys.KeyLimits()
    chosen = {limit: value for limit, value in asdict(bounds).items() if value is not None}
    with desk.whole() as own:
        secret, key = keys.create(own.store, own.settings.data, name, tasks, expires_at, own.clock, bounds)
        own.record("keys.create", key.id, name=name, tasks=list(tasks), limits=chosen)
    return secret


def revoke_key(desk: Desk, key_id: str) -> None:
    desk.demand(Role.OPERATOR, "revoking a key")
    with desk.whole() as own:
        keys.revoke(own.store, key_id, own.clock)
        own.record("keys.revoke", key_id)


def erase(desk: Desk, exchange_ids: Sequence[str] = (), user: str | None = None) -> Erased:
    """Deletes exchanges, or all of a user's, and says which datasets and students they had gone into.

    A user is found by the name that apps send, also where redaction stored it as a keyed hash.
    """
    desk.demand(Role.OPERATOR, "erasing")
    names = [None] if user is None else [name for name in _names(desk, user) if lineage.known(desk.store, name)]
    if not names:
        raise NotFoundError("no exchange of that user is stored: there is nothing to erase")
    reports = [lineage.erase(desk.store, exchange_ids, name, desk.actor.name, desk.clock, [purge]) for name in names]
    whole = together(desk.store, reports)
    touched = {"datasets": list(whole.datasets), "students": list(whole.students)}
    desk.record("traffic.erase", names[0] or ",".join(exchange_ids), **touched)
    return whole


def together(store: Store, reports: Sequence[lineage.ErasureReport]) -> Erased:
    """What several erasures did, and who had learnt from it; the datasets oldest first, as their ids have it."""
    touched = {dataset for report in reports for dataset in report.datasets}
    whole = lineage.ErasureReport(
        sum(report.erased for report in reports), tuple(sorted(touched)), sum(report.rows for report in reports)
    )
    return with_taught(store, whole)


def _names(desk: Desk, user: str) -> list[str]:
    """How the store may know a user: by each redaction that has been in force, and as the app said it."""
    secret = load_secret(desk.settings.data)
    rules = [RedactionSettings(), *(task.redaction for task in task_store.load_tasks(desk.store).values())]
    return list(dict.fromkeys([user, *(Redactor(rule, secret).pseudonym(user) for rule in rules)]))
