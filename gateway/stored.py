"""Stored chat completions, as OpenAI serves them: what a client asked to keep, out of our store, each key its own."""

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response

from capture.stored_completions import Filters, Found, delete, find, load, set_metadata
from gateway.answers import RefusalError, answer, body_of, caller_of
from gateway.paging import limit_of
from gateway.plan import Refusal

BODY_BYTES = 64 * 1024
PAIRS, KEY_CHARACTERS, VALUE_CHARACTERS = 16, 64, 512
LIMIT_AT_MOST, LIMIT_USUAL = 100, 20

router = APIRouter(prefix="/v1/chat/completions")

_ECHOED = [
    "temperature",
    "top_p",
    "seed",
    "tools",
    "tool_choice",
    "presence_penalty",
    "frequency_penalty",
    "service_tier",
]

Json = dict[str, Any]


@router.get("")
async def list_stored(request: Request) -> Response:
    """`model`, `metadata[k]=v`, `after`, `limit` (20), `order` (`asc`)."""
    caller = caller_of(request)
    filters = _filters(request.query_params, caller.id)
    found = await asyncio.to_thread(find, request.app.state.store, filters)
    return answer(_page([_object(one) for one in found], filters.limit))


@router.get("/{completion_id}")
async def retrieve_stored(request: Request, completion_id: str) -> Response:
    return answer(_object(await _own(request, completion_id)))


@router.post("/{completion_id}")
async def update_stored(request: Request, completion_id: str) -> Response:
    """Takes `metadata` alone, and puts it, redacted as its exchange is, in the old one's place."""
    found = await _own(request, completion_id)
    given = {"metadata": _metadata(await body_of(request, BODY_BYTES))}
    state = request.app.state
    redacted = await asyncio.to_thread(state.redact, found.exchange_id, given)
    await asyncio.to_thread(set_metadata, state.store, found.exchange_id, redacted["metadata"])
    return answer(_object(await _own(request, completion_id)))


@router.delete("/{completion_id}")
async def delete_stored(request: Request, completion_id: str) -> Response:
    """It is listed no longer; the captured exchange behind it stays, as any other."""
    found = await _own(request, completion_id)
    await asyncio.to_thread(delete, request.app.state.store, found.exchange_id)
    return answer({"object": "chat.completion.deleted", "id": completion_id, "deleted": True})


@router.get("/{completion_id}/messages")
async def list_messages(request: Request, completion_id: str) -> Response:
    """The request's messages, each with an id; `after`, `limit`, `order`."""
    found = await _own(request, completion_id)
    filters = _filters(request.query_params, None)
    listed = [
        {"id": f"{completion_id}-{position}", **message}
        for position, message in enumerate(found.request.get("messages") or ())
        if isinstance(message, dict)
    ]
    if filters.newest_first:
        listed.reverse()
    start = next((at + 1 for at, message in enumerate(listed) if message["id"] == filters.after), 0)
    return answer(_page(listed[start : start + filters.limit + 1], filters.limit))


async def _own(request: Request, completion_id: str) -> Found:
    caller = caller_of(request)
    found = await asyncio.to_thread(load, request.app.state.store, completion_id, caller.id)
    if found is None:
        message = f"Chat completion {completion_id[:200]!r} was not found among those stored for you."
        raise RefusalError(Refusal(404, message, param="completion_id", code="not_found"))
    return found


def _filters(query: Mapping[str, str], key_id: str | None) -> Filters:
    tags = {name[9:-1]: value for name, value in query.items() if name.startswith("metadata[") and name.endswith("]")}
    order = query.get("order", "asc")
    if order not in ("asc", "desc"):
        raise RefusalError(Refusal(400, "order is asc or desc.", param="order"))
    limit = limit_of(query.get("limit"), LIMIT_USUAL, LIMIT_AT_MOST)
    return Filters(key_id, query.get("model"), tags, query.get("after"), limit, order == "desc")


def _page(found: list[Json], limit: int) -> Json:
    """`found` has one more than `limit` when there is more."""
    data = found[:limit]
    ends = {"first_id": data[0]["id"] if data else None, "last_id": data[-1]["id"] if data else None}
    return {"object": "list", "data": data, **ends, "has_more": len(found) > limit}


def _object(found: Found) -> Json:
    """The completion with what OpenAI echoes of its request."""
    echoed = {name: found.request.get(name) for name in _ECHOED}
    return {
        **found.completion,
        **{name: value for name, value in echoed.items() if name not in found.completion},
        "id": found.completion_id,
        "object": "chat.completion",
        "request_id": found.exchange_id,
        "input_user": found.request.get("user"),
        "metadata": found.metadata,
    }


def _metadata(body: bytes) -> dict[str, str]:
    try:
        given = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise RefusalError(Refusal(400, "We could not parse the JSON body of your request.")) from error
    if not isinstance(given, dict) or set(given) != {"metadata"} or not _is_metadata(given["metadata"]):
        sizes = f"{PAIRS} pairs of texts, of {KEY_CHARACTERS} and {VALUE_CHARACTERS} characters"
        message = f"Only metadata can be updated: {sizes}, without NUL characters."
        raise RefusalError(Refusal(400, message, param="metadata"))
    return dict(given["metadata"] or {})


def _is_metadata(value: Any) -> bool:
    if value is None:
        return True
    if not isinstance(value, dict) or len(value) > PAIRS:
        return False
    return all(isinstance(one, str) and _fits(name, one) for name, one in value.items())


def _fits(name: str, value: str) -> bool:
    return len(name) <= KEY_CHARACTERS and len(value) <= VALUE_CHARACTERS and "\0" not in name + value
