"""Answers of the app's own routes: JSON, and errors in OpenAI's shape whatever went wrong."""

from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from capture.errors import NotFoundError, RefusedError, StillhouseError, StoreAwayError
from gateway import errors
from gateway.auth import Caller
from gateway.plan import Refusal
from gateway.routing import Router


class RefusalError(Exception):
    """Carries a refusal out of a route."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


def answer(value: Any, status: int = 200) -> Response:
    """`value` as JSON."""
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def refused(refusal: Refusal) -> Response:
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in refusal.headers}
    return Response(errors.body(refusal), refusal.status, headers, media_type="application/json")


def caller_of(request: Request) -> Caller:
    """Who asks. Raises RefusalError: 401 when keys are required and none is good, 400 for a URL that no store takes."""
    router: Router = request.app.state.router
    admitted = router.admit(tuple(request.scope["headers"]))
    if isinstance(admitted, Refusal):
        raise RefusalError(admitted)
    if "\0" in request.scope["path"] or b"%00" in request.scope["query_string"]:
        raise RefusalError(Refusal(400, "The URL holds a NUL character."))
    return admitted


async def body_of(request: Request, limit_bytes: int) -> bytes:
    """The whole body; raises RefusalError (413) once it is longer than `limit_bytes`."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > limit_bytes:
            raise RefusalError(Refusal(413, f"The body may have {limit_bytes} bytes here.", code="body_too_large"))
        parts.append(part)
    return b"".join(parts)


def install(app: FastAPI) -> None:
    """Every error of the app in OpenAI's shape, unhandled routes included."""

    @app.exception_handler(RefusalError)
    async def _(_request: Request, error: RefusalError) -> Response:
        return refused(error.refusal)

    @app.exception_handler(HTTPException)
    async def _(request: Request, error: HTTPException) -> Response:
        if error.status_code == 404:
            return refused(Refusal(404, f"Invalid URL ({request.method} {request.url.path})"))
        allowed = tuple((name.lower().encode(), value.encode()) for name, value in (error.headers or {}).items())
        return refused(Refusal(error.status_code, str(error.detail), headers=allowed))

    @app.exception_handler(StillhouseError)
    async def _(_request: Request, error: StillhouseError) -> Response:
        return refused(_mapped(error))

    @app.exception_handler(Exception)
    async def _(_request: Request, _error: Exception) -> Response:
        return refused(Refusal(500, "The gateway failed on this request.", type="server_error", code="internal"))


def _mapped(error: StillhouseError) -> Refusal:
    if isinstance(error, NotFoundError):
        return Refusal(404, str(error), code="not_found")
    if isinstance(error, RefusedError):
        return Refusal(400, str(error), code="refused")
    if isinstance(error, StoreAwayError):
        headers = ((b"retry-after", b"2"),)
        return Refusal(503, "The store is away; try again soon.", "server_error", code="store_away", headers=headers)
    return Refusal(500, "The gateway failed on this request.", type="server_error", code="internal")
