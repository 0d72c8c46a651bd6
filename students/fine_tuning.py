"""Owns the steps of a fine-tune: its rows as the student will see them, the training, the student that comes out."""

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import insert, select, update

from capture.errors import NotFoundError, RefusedError
from capture.ids import new_id
from capture.settings import TrainingSettings, ViewSettings
from students.job_rows import VALIDATION, base_of, source_of
from students.job_terms import check_terms
from students.jobs import LOCAL, Asked
from students.registry import Training, register_local, want
from students.tables import fine_tune_events, fine_tunes
from students.training import Estimate, Trainer, TrainingPlan
from students.workshop import Workshop

PROGRESS_EVERY_S = 0.5
FINISHED = ("succeeded", "failed", "cancelled")


class Lesson(msgspec.Struct, frozen=True, kw_only=True):
    """What the file of rows was made of; it lies beside it and is written last."""

    rows: int
    view: dict[str, Any]  # capture.settings.ViewSettings
    fingerprints: list[str]
    tools: bool
    dataset_hash: str | None


def folder_of(shop: Workshop, fine_tune_id: str) -> Path:
    """Where a fine-tune keeps its rows, its checkpoints and its log."""
    return shop.data / "fine_tunes" / fine_tune_id


def write_rows(shop: Workshop, fine_tune_id: str) -> None:
    """What is learnt as JSONL, each row's request through `student_view`, its target as the last message.

    The rows are the dataset's train split, or those of the file that a client of the API named. Repeatable: the same
    rows and view, the same bytes. Raises RefusedError for a dataset that is not ready.
    """
    job = _load(shop, fine_tune_id)
    if job.state in FINISHED:
        return
    if job.cancel_asked:
        _cancelled(shop, fine_tune_id)
        return
    change(shop, fine_tune_id, {"state": "running", "started_at": job.started_at or shop.clock()})
    folder = folder_of(shop, fine_tune_id)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    source = source_of(shop, job, folder)
    if source.file is not None:
        check_terms(shop, source.file)
    if source.tools and job.trainer == LOCAL and not base_of(shop, job.base).tools:
        raise RefusedError(f"the rows have tools, and base {job.base} knows none: choose another base or other rows")
    fingerprints: set[str] = set()
    count = 0
    with (folder / "rows.jsonl.new").open("wb") as lines:
        for line, fingerprint in source.lines:
            lines.write(msgspec.json.encode(line, order="sorted") + b"\n")
            fingerprints |= {fingerprint} if fingerprint else set()
            count += 1
        lines.flush()
        os.fsync(lines.fileno())
    (folder / "rows.jsonl.new").rename(folder / "rows.jsonl")
    lesson = Lesson(
        rows=count,
        view=source.view.model_dump(mode="json"),
        fingerprints=sorted(fingerprints),
        tools=source.tools,
        dataset_hash=source.hash,
    )
    (folder / "lesson.json.new").write_bytes(msgspec.json.encode(lesson))
    (folder / "lesson.json.new").rename(folder / "lesson.json")
    note(shop, fine_tune_id, "info", f"{count} training rows from {source.name}", {"rows": count})


def train(shop: Workshop, fine_tune_id: str) -> None:
    """Start the training, or take it up where the last worker left it, and follow it to its end.

    Raises what ended the training; RefusedError for a trainer that the worker does not have.
    """
    job = _load(shop, fine_tune_id)
    if job.state in FINISHED or (folder_of(shop, fine_tune_id) / "result.json").exists():
        return
    if job.cancel_asked:
        _cancelled(shop, fine_tune_id)
        return
    trainer = shop.trainers.get(job.trainer)
    if trainer is None:
        raise RefusedError(f"no trainer {job.trainer!r}; there are: {', '.join(shop.trainers) or 'none'}")
    plan = plan_of(shop, job)
    if job.trainer != LOCAL:
        _note_estimate(shop, fine_tune_id, trainer.estimate(plan))
    run = trainer.start(plan)
    _follow(shop, fine_tune_id, trainer, run)
    shop.check()  # a run that the worker's own stop has ended is neither done nor cancelled
    artefact = trainer.artefact(run)
    if artefact is None:
        _cancelled(shop, fine_tune_id)
        return
    for reason, count in artefact.dropped.items():
        note(shop, fine_tune_id, "warn", f"{count} rows left out: {reason}", {"reason": reason, "rows": count})
    done = f"trained on {artefact.rows} rows in {artefact.steps} steps, loss {artefact.loss:.3f}"
    if artefact.model is not None:
        done = f"{job.trainer} trained {artefact.model}"
    note(shop, fine_tune_id, "info", done, msgspec.to_builtins(artefact))
    folder = str(Path(artefact.folder).resolve().relative_to(shop.data.resolve())) if artefact.folder else None
    result = Result(
        folder=folder,
        weights_hash=artefact.weights_hash or None,
        tokens=artefact.trained_tokens,
        model=artefact.model,
        cost_usd=artefact.cost_usd,
    )
    save_result(shop, fine_tune_id, result)


def _note_estimate(shop: Workshop, fine_tune_id: str, estimate: Estimate) -> None:
    cost = "at a price that is not known" if estimate.cost_usd is None else f"about {estimate.cost_usd:.2f} USD"
    message = f"about {estimate.tokens} tokens to train on, {cost}"
    note(shop, fine_tune_id, "info", message, msgspec.to_builtins(estimate))


def plan_of(shop: Workshop, job: Any) -> TrainingPlan:
    """What is asked of the trainer; the same for every attempt at this fine-tune."""
    settings = TrainingSettings.model_validate(job.settings)
    folder = folder_of(shop, job.id)
    lesson = load_lesson(shop, job.id)
    asked = None if job.asked is None else msgspec.convert(job.asked, Asked)
    held = folder / VALIDATION
    return TrainingPlan(
        base=str(shop.models(job.base)) if job.trainer == LOCAL else job.base,
        base_name=job.base,
        rows=(str(folder / "rows.jsonl"),),
        folder=str(shop.data / "students" / job.id),
        run_folder=str(folder / "run"),
        method=settings.method,
        epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        rank=settings.rank,
        layers=settings.layers,
        batch_size=settings.batch_size,
        max_tokens=_most_tokens(shop, job, settings),
        validation=settings.validation,
        patience=settings.patience if settings.validation else 0,
        adapter=settings.adapter,
        checkpoint_every_s=settings.checkpoint_every_s,
        seed=settings.seed,
        card=_card(job, lesson),
        name=job.id,
        suffix=(asked.suffix or "") if asked else "",
        validation_rows=(str(held),) if held.exists() else (),
        hyperparameters=msgspec.to_builtins(asked.wishes) if asked else {"n_epochs": max(1, round(settings.epochs))},
    )


def _most_tokens(shop: Workshop, job: Any, settings: TrainingSettings) -> int:
    """Of a row: what the settings allow, and never more than the base has context for."""
    context = base_of(shop, job.base).context_tokens if job.trainer == LOCAL else 0
    return min(settings.max_tokens, context or settings.max_tokens)


def _card(job: Any, lesson: Lesson) -> dict[str, str]:
    if job.dataset_id is None:
        return {"task": job.task, "file": msgspec.convert(job.asked, Asked).training_file, "run": job.id}
    return {"task": job.task, "dataset": job.dataset_id, "dataset_hash": lesson.dataset_hash or "", "run": job.id}


def _follow(shop: Workshop, fine_tune_id: str, trainer: Trainer, run: str) -> None:
    """Write the progress into the row, a few times a second at most; pass a person's wish to cancel on."""
    written_at, noted = -1e9, -1
    for progress in trainer.watch(run):
        shop.check()
        if progress.said is not None:
            note(shop, fine_tune_id, "info", progress.said, {})
        if time.monotonic() - written_at < PROGRESS_EVERY_S and progress.step < progress.total_steps:
            continue
        written_at = time.monotonic()
        change(shop, fine_tune_id, {"progress": msgspec.to_builtins(progress)})
        tenth = 10 * progress.step // max(1, progress.total_steps)
        if tenth > noted and progress.loss is not None:
            noted = tenth
            message = f"step {progress.step} of {progress.total_steps}, loss {progress.loss:.3f}"
            note(shop, fine_tune_id, "info", message, msgspec.to_builtins(progress))
        if _load(shop, fine_tune_id).cancel_asked:
            trainer.cancel(run)


def register(shop: Workshop, fine_tune_id: str) -> None:
    """The student of a trained fine-tune, wanted served; and the fine-tune's end."""
    job = _load(shop, fine_tune_id)
    if job.state in FINISHED:
        return
    lesson = load_lesson(shop, fine_tune_id)
    result = load_result(shop, fine_tune_id)
    asked = None if job.asked is None else msgspec.convert(job.asked, Asked)
    made = Training(
        fine_tune_id=fine_tune_id,
        task=job.task,
        base=job.base,
        dataset_id=job.dataset_id,
        folder=result.folder,
        weights_hash=result.weights_hash,
        view=ViewSettings.model_validate(lesson.view),
        fingerprints=lesson.fingerprints,
        tools=lesson.tools,
        upstream=job.trainer if result.model else None,
        upstream_model=result.model,
        suffix=None if asked is None else asked.ending,
        key_id=job.key_id,
    )
    student = register_local(shop.store, made, shop.clock)
    want(shop.store, student.id, shop.clock)
    note(shop, fine_tune_id, "info", f"student {student.name} is registered", {"student": student.id})
    ended = {"state": "succeeded", "student_id": student.id, "trained_tokens": result.tokens, "ended_at": shop.clock()}
    change(shop, fine_tune_id, {**ended, "cost_usd": result.cost_usd})


def load_lesson(shop: Workshop, fine_tune_id: str) -> Lesson:
    return msgspec.json.decode((folder_of(shop, fine_tune_id) / "lesson.json").read_bytes(), type=Lesson)


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What a training left: the model's folder (relative to the data folder) and its weights' hash, or its name."""

    folder: str | None
    weights_hash: str | None
    tokens: int
    model: str | None = None  # at the upstream that trained it
    cost_usd: float | None = None


def save_result(shop: Workshop, fine_tune_id: str, result: Result) -> None:
    path = folder_of(shop, fine_tune_id) / "result.json"
    path.with_suffix(".new").write_bytes(msgspec.json.encode(result))
    path.with_suffix(".new").rename(path)


def load_result(shop: Workshop, fine_tune_id: str) -> Result:
    return msgspec.json.decode((folder_of(shop, fine_tune_id) / "result.json").read_bytes(), type=Result)


def _load(shop: Workshop, fine_tune_id: str) -> Any:
    with shop.store.read() as connection:
        job = connection.execute(select(fine_tunes).where(fine_tunes.c.id == fine_tune_id)).one_or_none()
    if job is None:
        raise NotFoundError(f"no fine-tune {fine_tune_id!r}")
    return job


def _cancelled(shop: Workshop, fine_tune_id: str) -> None:
    note(shop, fine_tune_id, "info", "cancelled", {})
    change(shop, fine_tune_id, {"state": "cancelled", "ended_at": shop.clock()})


def change(shop: Workshop, fine_tune_id: str, values: Mapping[str, Any]) -> None:
    with shop.store.write() as connection:
        connection.execute(update(fine_tunes).where(fine_tunes.c.id == fine_tune_id).values(dict(values)))


def note(shop: Workshop, fine_tune_id: str, level: str, message: str, data: Mapping[str, Any]) -> None:
    """One event of a fine-tune, as console, command and the OpenAI surface show it."""
    row = {"id": new_id("ftevent-"), "fine_tune_id": fine_tune_id, "at": shop.clock(), "level": level}
    with shop.store.write() as connection:
        connection.execute(insert(fine_tune_events).values(**row, message=message, data=dict(data)))


STEPS: Mapping[str, Callable[[Workshop, str], None]] = {"rows": write_rows, "train": train, "register": register}
"""In this order; each can be repeated."""
