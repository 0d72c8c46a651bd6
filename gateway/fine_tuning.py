"""`/v1/fine_tuning/jobs`: of the bases and models that the file offers, each key's its own; the worker does them.

Jobs with ids that are not ours are the provider's, and so is a new one that names a model and a file of the provider.
"""

import asyncio
import re
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response

from capture.assemble import holds_nul
from capture.errors import NotFoundError
from gateway.answers import RefusalError, answer, body_of, caller_of
from gateway.paging import limit_of, with_providers
from gateway.passing import pass_on
from gateway.plan import Refusal
from gateway.routing import OWN_TRAINING
from students.jobs import (
    Asked,
    Client,
    Job,
    JobEvent,
    cancel_job,
    create_job,
    list_events,
    list_jobs,
    load_job,
    trainer_of,
)

BODY_BYTES = 1024 * 1024
LIMIT_AT_MOST, LIMIT_USUAL = 100, 20
PAIRS, KEY_CHARACTERS, VALUE_CHARACTERS = 16, 64, 512

router = APIRouter(prefix="/v1/fine_tuning/jobs")

Json = dict[str, Any]

_decoder = msgspec.json.Decoder(Asked)


@router.post("")
async def create(request: Request) -> Response:
    """Queues a job, or hands it on where it names a model and a file of the provider."""
    caller, state = caller_of(request), request.app.state
    body = await body_of(request, BODY_BYTES)
    if _is_the_providers(request, body):
        return await pass_on(request, body, len(body))
    asked = _asked(body)
    client = Client(caller.id, tuple(caller.key.tasks) if caller.key else ())
    tasks = state.snapshots.current.tasks
    job_id = await asyncio.to_thread(create_job, state.store, state.settings, tasks, asked, client, state.clock)
    return answer(_object(await _own(request, job_id), state.clock()))


@router.get("")
async def list_own(request: Request) -> Response:
    """`after`, `limit` (20), `metadata[k]=v`: the client's jobs here, newest first, and behind them the provider's."""
    caller, query = caller_of(request), request.query_params
    after, limit = query.get("after"), limit_of(query.get("limit"), LIMIT_USUAL, LIMIT_AT_MOST)
    if after and not OWN_TRAINING.fullmatch(f"/v1/fine_tuning/jobs/{after}"):
        return await pass_on(request)
    tags = {name[9:-1]: value for name, value in query.items() if name.startswith("metadata[") and name.endswith("]")}
    state = request.app.state
    found = await asyncio.to_thread(list_jobs, state.store, caller.id, after=after, limit=limit + 1, tags=tags)
    data, more = await with_providers(request, [_object(one, state.clock()) for one in found], limit)
    return answer({"object": "list", "data": data, "has_more": more})


@router.get("/{job_id}")
async def retrieve(request: Request, job_id: str) -> Response:
    return answer(_object(await _own(request, job_id), request.app.state.clock()))


@router.post("/{job_id}/cancel")
async def cancel(request: Request, job_id: str) -> Response:
    caller, state = caller_of(request), request.app.state
    job = await asyncio.to_thread(cancel_job, state.store, job_id, caller.id, state.clock)
    return answer(_object(job, state.clock()))


@router.post("/{job_id}/pause")
@router.post("/{job_id}/resume")
async def pause(request: Request, job_id: str) -> Response:
    await _own(request, job_id)
    raise RefusalError(Refusal(400, "Jobs cannot be paused here: cancel it, or let it go on.", code="not_supported"))


@router.get("/{job_id}/events")
async def events(request: Request, job_id: str) -> Response:
    """`after`, `limit` (20), newest first."""
    job, query, store = await _own(request, job_id), request.query_params, request.app.state.store
    after, limit = query.get("after"), limit_of(query.get("limit"), LIMIT_USUAL, LIMIT_AT_MOST)
    found = await asyncio.to_thread(list_events, store, job.id, after=after, limit=limit + 1)
    data = [_event(one) for one in found[:limit]]
    return answer({"object": "list", "data": data, "has_more": len(found) > limit})


@router.get("/{job_id}/checkpoints")
async def checkpoints(request: Request, job_id: str) -> Response:
    """The finished model alone: checkpoints on the way are for going on after a crash, not for calling."""
    job = await _own(request, job_id)
    data = [] if job.model is None else [_checkpoint(job, job.model)]
    ends = {"first_id": data[0]["id"] if data else None, "last_id": data[-1]["id"] if data else None}
    return answer({"object": "list", "data": data, **ends, "has_more": False})


def _is_the_providers(request: Request, body: bytes) -> bool:
    try:
        given = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return False
    if not isinstance(given, dict) or not isinstance(given.get("model"), str):
        return False
    if OWN_TRAINING.fullmatch(f"/v1/files/{given.get('training_file')}"):
        return False
    try:
        trainer_of(request.app.state.settings, given["model"])
    except NotFoundError:
        return request.app.state.snapshots.current.directory.default is not None
    return False


def _asked(body: bytes) -> Asked:
    try:
        asked = _decoder.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        where = re.search(r"`\$\.?([^`]*)`$", str(error))
        raise RefusalError(Refusal(400, f"{error}.", param=(where[1] or None) if where else None)) from error
    if holds_nul(body):
        raise RefusalError(Refusal(400, "A text with U+0000 cannot be kept."))
    tags = asked.metadata or {}
    fits = all(len(name) <= KEY_CHARACTERS and len(value) <= VALUE_CHARACTERS for name, value in tags.items())
    if len(tags) > PAIRS or not fits:
        sizes = f"{PAIRS} pairs of texts, of {KEY_CHARACTERS} and {VALUE_CHARACTERS} characters"
        raise RefusalError(Refusal(400, f"metadata has at most {sizes}.", param="metadata"))
    return asked


async def _own(request: Request, job_id: str) -> Job:
    caller = caller_of(request)
    return await asyncio.to_thread(load_job, request.app.state.store, job_id, caller.id)


def _object(job: Job, now: float) -> Json:
    asked, wishes = job.asked, msgspec.to_builtins(job.asked.wishes)
    error = {"code": "training_failed", "message": job.error, "param": None} if job.state == "failed" else None
    return {
        "id": job.id,
        "object": "fine_tuning.job",
        "created_at": int(job.created_at),
        "finished_at": None if job.ended_at is None else int(job.ended_at),
        "estimated_finish": _estimated_finish(job, now),
        "fine_tuned_model": job.model,
        "model": asked.model,
        "organization_id": "stillhouse",
        "status": job.state,
        "trained_tokens": job.trained_tokens,
        "training_file": asked.training_file,
        "validation_file": asked.validation_file,
        "result_files": [],
        "hyperparameters": wishes,
        "method": {"type": "supervised", "supervised": {"hyperparameters": wishes}},
        "seed": asked.seed,
        "error": error,
        "integrations": [],
        "metadata": asked.metadata or {},
        "user_provided_suffix": asked.suffix,
    }


def _estimated_finish(job: Job, now: float) -> int | None:
    left = job.progress.get("seconds_left")
    return None if job.state != "running" or left is None else int(now + left)


def _event(event: JobEvent) -> Json:
    data = event.data
    is_metrics = data.get("step") is not None and data.get("loss") is not None
    metrics = {"step": data.get("step"), "total_steps": data.get("total_steps"), "train_loss": data.get("loss")}
    if data.get("validation_loss") is not None:
        metrics["full_valid_loss"] = data["validation_loss"]
    return {
        "id": event.id,
        "object": "fine_tuning.job.event",
        "created_at": int(event.at),
        "level": event.level,
        "message": event.message,
        "type": "metrics" if is_metrics else "message",
        "data": metrics if is_metrics else {},
    }


def _checkpoint(job: Job, model: str) -> Json:
    progress = job.progress
    metrics = {
        "step": progress.get("step"),
        "train_loss": progress.get("loss"),
        "full_valid_loss": progress.get("validation_loss"),
    }
    return {
        "id": f"ftckpt-{job.id.removeprefix('ftjob-')}",
        "object": "fine_tuning.job.checkpoint",
        "created_at": int(job.ended_at or job.created_at),
        "fine_tuned_model_checkpoint": model,
        "fine_tuning_job_id": job.id,
        "metrics": {name: value for name, value in metrics.items() if value is not None},
        "step_number": progress.get("step") or 0,
    }
