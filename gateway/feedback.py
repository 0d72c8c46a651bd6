"""`POST /feedback`: what an app learns later about an answer, redacted like everything else, and kept once."""

import asyncio
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response
from sqlalchemy import select

from capture.db import Store
from capture.feedback import LARGEST_VALUE_BYTES, Feedback, Redact, record
from capture.redact import Redactor
from capture.settings import RedactionSettings, TaskSettings
from capture.tables import exchanges
from gateway.answers import RefusalError, answer, body_of, caller_of
from gateway.plan import Refusal
from gateway.snapshot import Snapshot

BODY_BYTES = LARGEST_VALUE_BYTES + 4096

router = APIRouter()

_decoder = msgspec.json.Decoder(Feedback)


@router.post("/feedback")
async def give_feedback(request: Request) -> Response:
    """200 with the feedback's id; the same feedback (or idempotency key) again is the same id."""
    caller = caller_of(request)
    body = await body_of(request, BODY_BYTES)
    try:
        given = _decoder.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise RefusalError(Refusal(400, f"Not a feedback: {error}.", code="invalid_feedback")) from error
    state = request.app.state
    made = await asyncio.to_thread(record, state.store, given, caller.id, state.clock, state.redact)
    return answer({"id": made, "object": "feedback"})


def redaction(store: Store, snapshot: Callable[[], Snapshot], secret: bytes) -> Redact:
    """Redacts a value by the settings of its exchange's task.

    Where the exchange is not in the store yet, by what all tasks share, else by the default.
    """

    @lru_cache(maxsize=256)
    def redactor(written: str) -> Redactor:
        return Redactor(RedactionSettings.model_validate_json(written), secret)

    def redact(exchange_id: str, value: Any) -> Any:
        with store.read() as connection:
            task = connection.scalar(select(exchanges.c.task).where(exchanges.c.id == exchange_id))
        settings = _settings_of(task, snapshot().tasks)
        return redactor(settings.model_dump_json()).redact_value(exchange_id, value)

    return redact


def _settings_of(task: str | None, tasks: Mapping[str, TaskSettings]) -> RedactionSettings:
    if task is not None and task in tasks:
        return tasks[task].redaction
    shared = [one.redaction for one in tasks.values()]
    return shared[0] if shared and all(one == shared[0] for one in shared) else RedactionSettings()
