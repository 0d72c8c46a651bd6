"""`/v1/files`: those of purpose fine-tune live here, each key's its own; all others are the provider's."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse

from capture.ids import new_id
from capture.settings import FineTuningSettings
from gateway.answers import RefusalError, answer, caller_of
from gateway.auth import Caller
from gateway.form import Form, MalformedFormError, read_form
from gateway.paging import limit_of, with_providers
from gateway.passing import pass_on
from gateway.plan import Refusal
from gateway.routing import OWN_TRAINING
from students.job_files import (
    FRESH,
    TrainingFile,
    Upload,
    delete_file,
    folder_of,
    keep,
    list_files,
    load_file,
    path_of,
)

PURPOSE = "fine-tune"
LIMIT_AT_MOST, LIMIT_USUAL = 10_000, 10_000
PASSED_BYTES = 1024 * 1024 * 1024
WRITE_BYTES = 1024 * 1024
ROOM_BYTES = 512 * 1024 * 1024
LIVES_S = (3600, 2_592_000)  # what OpenAI allows in expires_after

router = APIRouter(prefix="/v1/files")

Json = dict[str, Any]


@router.post("")
async def create_file(request: Request) -> Response:
    """Streamed to disk, then read: a file to train on is examined and kept, any other form goes on as it came."""
    caller = caller_of(request)
    folder = folder_of(request.app.state.settings.data)
    body, content = (folder / f"{new_id()}{kind}{FRESH}" for kind in (".body", ".file"))
    try:
        await _received(request, body)
        form = await asyncio.to_thread(_form, request, body, content)
        if form.fields.get("purpose") != PURPOSE:
            return await pass_on(request, _pieces(body), body.stat().st_size)
        body.unlink()
        file_id = await asyncio.to_thread(_kept, request, form, content, caller)
    except OSError as error:
        message = "The gateway has no room for this file."
        raise RefusalError(Refusal(507, message, type="server_error", code="disk_full")) from error
    finally:
        for path in (body, content):
            path.unlink(missing_ok=True)
    return answer(_object(await _own(request, file_id, caller)))


@router.get("")
async def list_own(request: Request) -> Response:
    """`purpose`, `limit`, `order` (`desc`), `after`: the client's files here, and behind them the provider's."""
    caller, query = caller_of(request), request.query_params
    after, order = query.get("after"), query.get("order", "desc")
    limit = limit_of(query.get("limit"), LIMIT_USUAL, LIMIT_AT_MOST)
    if query.get("purpose", PURPOSE) != PURPOSE or (after and not OWN_TRAINING.fullmatch(f"/v1/files/{after}")):
        return await pass_on(request)
    state = request.app.state
    found = await asyncio.to_thread(
        list_files, state.store, caller.id, state.clock(), after=after, limit=limit + 1, newest_first=order != "asc"
    )
    data, more = await with_providers(request, [_object(one) for one in found], limit)
    ends = {"first_id": data[0].get("id") if data else None, "last_id": data[-1].get("id") if data else None}
    return answer({"object": "list", "data": data, **ends, "has_more": more})


@router.get("/{file_id}")
async def retrieve_file(request: Request, file_id: str) -> Response:
    return answer(_object(await _own(request, file_id, caller_of(request))))


@router.get("/{file_id}/content")
async def file_content(request: Request, file_id: str) -> Response:
    """The bytes as they came."""
    found = await _own(request, file_id, caller_of(request))
    path = path_of(request.app.state.settings.data, found.id)
    if not path.exists():
        raise RefusalError(Refusal(404, f"The content of {file_id} is not here any more.", param="file_id"))
    return FileResponse(path, media_type="application/octet-stream")


@router.delete("/{file_id}")
async def remove_file(request: Request, file_id: str) -> Response:
    """A job that has begun keeps what it has read."""
    caller, state = caller_of(request), request.app.state
    await asyncio.to_thread(delete_file, state.store, state.settings.data, file_id, caller.id, state.clock())
    return answer({"id": file_id, "object": "file", "deleted": True})


async def _received(request: Request, body: Path) -> None:
    """The whole body on disk; memory holds a megabyte of it."""
    await asyncio.to_thread(body.parent.mkdir, 0o700, True, True)
    parts, size, total = [], 0, 0
    with open(os.open(body, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        async for part in request.stream():
            parts.append(part)
            size, total = size + len(part), total + len(part)
            if total > PASSED_BYTES:
                raise RefusalError(Refusal(413, f"The body may have {PASSED_BYTES} bytes here.", code="body_too_large"))
            if size >= WRITE_BYTES:
                await asyncio.to_thread(_written, file, parts)
                parts, size = [], 0
        await asyncio.to_thread(_written, file, parts)


def _written(file: BinaryIO, parts: Sequence[bytes]) -> None:
    _check_room(file.fileno())
    file.writelines(parts)


def _check_room(place: int | Path, coming_bytes: int = 0) -> None:
    """Leaves room on the disk for what must never fail: the spool and the store. Raises OSError."""
    if free_bytes(place) - coming_bytes < ROOM_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def free_bytes(place: int | Path) -> int:
    """What the disk of an open file or of a folder can take."""
    disk = os.statvfs(place)
    return disk.f_bavail * disk.f_frsize


def _form(request: Request, body: Path, content: Path) -> Form:
    limits: FineTuningSettings = request.app.state.settings.fine_tuning

    def keeps(fields: Mapping[str, str]) -> bool:
        if fields.get("purpose", PURPOSE) != PURPOSE:
            return False
        _check_room(content.parent, min(body.stat().st_size, limits.file_bytes))
        return True

    try:
        form = read_form(body, request.headers.get("content-type", ""), content, limits.file_bytes, keeps)
    except MalformedFormError as error:
        raise RefusalError(Refusal(400, str(error))) from error
    if form.fields.get("purpose") != PURPOSE:
        return form
    if form.filename is None:
        raise RefusalError(Refusal(400, "'file' is a required property.", param="file"))
    if form.file_bytes > limits.file_bytes:
        message = f"A file to train on may have {limits.file_bytes} bytes here."
        raise RefusalError(Refusal(413, message, param="file", code="file_too_large"))
    return form


def _kept(request: Request, form: Form, content: Path, caller: Caller) -> str:
    state = request.app.state
    upload = Upload(content, str(form.filename), caller.id, _lives_s(form))
    return keep(state.store, state.settings.data, upload, state.settings.fine_tuning, state.clock)


def _lives_s(form: Form) -> float | None:
    given = form.fields.get("expires_after[seconds]")
    if given is None:
        return None
    is_short_number = given.isascii() and given.isdigit() and len(given) <= 9
    if not is_short_number or not LIVES_S[0] <= int(given) <= LIVES_S[1]:
        message = f"expires_after[seconds] is a number from {LIVES_S[0]} to {LIVES_S[1]}."
        raise RefusalError(Refusal(400, message, param="expires_after"))
    return float(given)


async def _pieces(path: Path) -> AsyncIterator[bytes]:
    with await asyncio.to_thread(path.open, "rb") as file:
        while piece := await asyncio.to_thread(file.read, WRITE_BYTES):
            yield piece


async def _own(request: Request, file_id: str, caller: Caller) -> TrainingFile:
    state = request.app.state
    return await asyncio.to_thread(load_file, state.store, file_id, caller.id, state.clock())


def _object(file: TrainingFile) -> Json:
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.bytes,
        "created_at": int(file.created_at),
        "expires_at": None if file.expires_at is None else int(file.expires_at),
        "filename": file.filename,
        "purpose": PURPOSE,
        "status": "processed",
        "status_details": None,
    }
