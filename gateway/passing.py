"""Requests that the app itself hands on to the provider: those of shared routes that turn out not to be ours."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import structlog
from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from gateway.answers import RefusalError
from gateway.breaker import BROKEN
from gateway.headers import HOP_BY_HOP
from gateway.plan import Leg, Plan, Refusal, RequestHead

LIST_TIMEOUT_S = 10.0

_log = structlog.get_logger("stillhouse.gateway")

Content = bytes | AsyncIterator[bytes]


async def pass_on(request: Request, content: Content = b"", size: int | None = None) -> Response:
    """The provider's answer to this request, unchanged; `size` is the length of a streamed body.

    Raises RefusalError where no upstream takes it, and where the upstream does not answer.
    """
    plan = _planned(request, request.scope["query_string"].decode("latin-1"))
    try:
        found = await _sent(request, plan, content, size)
    except BaseException:
        _release(plan)
        raise
    return _Relayed(found, plan)


async def list_beyond(request: Request, query: str) -> dict[str, Any] | None:
    """The provider's list behind ours; None where it has none for this client, or does not answer.

    Only an upstream that gets the client's own credentials is asked: what lies under the gateway's belongs to many.
    """
    endpoint = request.app.state.snapshots.current.directory.default
    if endpoint is None or endpoint.auth != "forward":
        return None
    try:
        plan = _planned(request, query)
    except RefusalError:
        return None
    try:
        found = await _sent(request, plan, b"", None, LIST_TIMEOUT_S)
        body = await found.aread()
        await found.aclose()
        listed = found.json() if found.status_code == 200 and body else None
    except (RefusalError, httpx2.HTTPError, ValueError, RecursionError) as error:
        _log.warning("list_not_read", upstream=endpoint.name, error=type(error).__name__)
        return None
    finally:
        _release(plan)
    return listed if isinstance(listed, dict) and isinstance(listed.get("data"), list) else None


def _planned(request: Request, query: str) -> Plan:
    path = request.scope["raw_path"].decode("latin-1")
    target = f"{path}?{query}" if query else path
    head = RequestHead(request.method, target, tuple(request.scope["headers"]))
    plan = request.app.state.router.plan(head, None)
    if isinstance(plan, Refusal):
        raise RefusalError(plan)
    return plan  # type: ignore[no-any-return]


async def _sent(
    request: Request, plan: Plan, content: Content, size: int | None, timeout_s: float | None = None
) -> httpx2.Response:
    leg = plan.leg
    address = leg.address
    headers = [*leg.headers, *(((b"content-length", str(size).encode()),) if size is not None else ())]
    timeout = httpx2.Timeout(timeout_s or address.first_byte_timeout_s, connect=address.connect_timeout_s)
    sent = httpx2.Request(
        leg.method, _url(leg), headers=headers, content=content or None, extensions={"timeout": timeout.as_dict()}
    )
    client: httpx2.AsyncClient = request.app.state.client
    try:
        found = await client.send(sent, stream=True)
    except httpx2.HTTPError as error:
        _observe(plan, False)
        _log.warning("not_passed_on", upstream=address.upstream, error=type(error).__name__)
        message = f"The upstream {address.upstream!r} does not answer."
        raise RefusalError(Refusal(502, message, type="server_error", code="unreachable")) from error
    _observe(plan, found.status_code not in BROKEN)
    return found


def _observe(plan: Plan, answered: bool) -> None:
    if plan.observe is not None:
        plan.observe(plan.leg.circuit, answered)


def _url(leg: Leg) -> str:
    host = f"[{leg.address.host}]" if ":" in leg.address.host else leg.address.host
    return f"{'https' if leg.address.tls else 'http'}://{host}:{leg.address.port}{leg.target}"


class _Relayed(StreamingResponse):
    """The provider's answer as it comes. Its connection and what the plan took end with it, even if nothing left."""

    def __init__(self, found: httpx2.Response, plan: Plan) -> None:
        super().__init__(found.aiter_raw(), found.status_code)
        kept = HOP_BY_HOP - {b"content-length"}
        self.raw_headers = [(name.lower(), value) for name, value in found.headers.raw if name.lower() not in kept]
        self._found, self._plan = found, plan

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            _release(self._plan)
            await self._found.aclose()


def _release(plan: Plan) -> None:
    for release in plan.release:
        release()
