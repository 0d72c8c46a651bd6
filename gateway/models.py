"""`/v1/models`: what the upstreams list, beside the tasks' names and the students that answer."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import httpx2
import structlog
from fastapi import APIRouter, Request, Response

from gateway.answers import RefusalError, answer, caller_of
from gateway.auth import Caller
from gateway.headers import Headers, forwarded
from gateway.plan import Refusal
from gateway.snapshot import Snapshot
from gateway.upstreams import Endpoint

REMEMBERED_S = 60.0
TIMEOUT_S = 10.0
LISTS_AT_MOST = 256  # different credentials that lists are remembered for

_log = structlog.get_logger("stillhouse.gateway")

Model = dict[str, Any]

router = APIRouter()


class UpstreamModels:
    """Asks upstreams for their lists, and remembers them for a minute, for each set of credentials by itself."""

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self._client = client
        self._lists: dict[tuple[str, int], tuple[float, list[Model]]] = {}

    async def of(self, endpoint: Endpoint, headers: Headers) -> list[Model]:
        """The upstream's list; empty when it gives none (away, or these credentials are not good)."""
        credentials = tuple(pair for pair in headers if pair[0] in (b"authorization", b"api-key"))
        key = (endpoint.name, hash(credentials))
        known = self._lists.get(key)
        if known is not None and time.monotonic() - known[0] < REMEMBERED_S:
            return known[1]
        found = await self._ask(endpoint, credentials)
        if found:
            if len(self._lists) >= LISTS_AT_MOST:
                self._lists.clear()
            self._lists[key] = (time.monotonic(), found)
        return found

    async def _ask(self, endpoint: Endpoint, credentials: Headers) -> list[Model]:
        address = endpoint.address
        host = f"[{address.host}]" if ":" in address.host else address.host
        scheme = "https" if address.tls else "http"
        url = f"{scheme}://{host}:{address.port}{endpoint.target('/models', '', '')}"
        try:
            reply = await self._client.get(url, headers=list(credentials), timeout=TIMEOUT_S)
            data = reply.json().get("data") if reply.status_code == 200 else None
        except (httpx2.HTTPError, ValueError, AttributeError, RecursionError) as error:
            _log.warning("models_not_listed", upstream=endpoint.name, error=type(error).__name__)
            return []
        return [model for model in data or () if isinstance(model, dict) and isinstance(model.get("id"), str)]


@router.get("/v1/models")
async def list_models(request: Request) -> Response:
    """All model names that this gateway takes."""
    merged = await _merged(request, caller_of(request))
    return answer({"object": "list", "data": list(merged.values())})


@router.get("/v1/models/{model:path}")
async def retrieve_model(request: Request, model: str) -> Response:
    """One of them."""
    found = (await _merged(request, caller_of(request))).get(model)
    if found is None:
        message = f"The model {model[:200]!r} does not exist or you do not have access to it."
        raise RefusalError(Refusal(404, message, param="model", code="model_not_found"))
    return answer(found)


async def _merged(request: Request, caller: Caller) -> dict[str, Model]:
    snapshot: Snapshot = request.app.state.snapshots.current
    upstreams: UpstreamModels = request.app.state.upstream_models
    headers = tuple(request.scope["headers"])
    asked = [(one, _credentials(one, headers, caller, snapshot.secrets)) for one in snapshot.endpoints.values()]
    lists = await asyncio.gather(*(upstreams.of(one, sent) for one, sent in asked if sent is not None))
    merged = {model["id"]: model for listed in lists for model in listed}
    return merged | _own(snapshot, caller)


def _credentials(endpoint: Endpoint, headers: Headers, caller: Caller, secrets: Mapping[str, str]) -> Headers | None:
    """What to show an upstream; None: it is not asked."""
    if endpoint.auth == "key":
        return endpoint.credentials(secrets[endpoint.name]) if endpoint.name in secrets else None
    return () if caller.by_bearer else forwarded(headers, credentials=True)


def _own(snapshot: Snapshot, caller: Caller) -> dict[str, Model]:
    tasks = {name: _model(name) for name in snapshot.tasks if caller.may_use(name)}
    students = {
        name: _model(name)
        for name, student in snapshot.students.items()
        if student.endpoint is not None and caller.may_use(student.task) and caller.owns(student.key_id)
    }
    return tasks | students


def _model(name: str) -> Model:
    return {"id": name, "object": "model", "created": 0, "owned_by": "stillhouse"}
