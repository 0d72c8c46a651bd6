"""Owns the calls that the worker makes itself: one chat or responses request to a student, a teacher or a base."""

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2
import msgspec

from capture.assemble import assemble
from capture.errors import RefusedError, UpstreamAwayError
from capture.exchange import Answer, Exchange
from capture.ids import new_id
from capture.sdk import AZURE_VERSION, remaining
from capture.settings import Settings, UpstreamSettings, secret
from students.registry import Server, Student

PATHS = {"chat.completions": "/chat/completions", "responses": "/responses"}
RETRIED = (408, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Target:
    """Whom a request goes to. `url` ends where the route's path begins; `model` replaces the request's own."""

    url: str
    model: str
    upstream: str = "student"
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float = 120


@dataclass(frozen=True)
class Reply:
    """What came back. `error` says why it is no answer; `remaining` is the part of the rate limit left, where told."""

    answer: Answer
    status: int
    duration_ms: float
    error: str | None = None
    remaining: float | None = None


class Client:
    """A pool of connections for background calls. Thread-safe; follows no redirects, takes no proxies from outside."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, pause: Callable[[float], None] = time.sleep
    ) -> None:
        self._http = httpx2.Client(trust_env=False, follow_redirects=False)
        self._clock, self._pause = clock, pause

    def close(self) -> None:
        self._http.close()

    def ask(
        self, target: Target, request: Mapping[str, Any], route: str = "chat.completions", attempts: int = 1
    ) -> Reply:
        """One unary answer. `request` needs no `model`; `stream` is taken off it.

        Overload and server faults are tried `attempts` times with growing pauses. An error that the server answers, a
        time limit that runs out or a torn connection comes back as `Reply.error`. Raises UpstreamAwayError when no
        connection can be made.
        """
        body = msgspec.json.encode(unary(request, target.model, route))
        for attempt in range(1, attempts + 1):
            reply = self._once(target, body, route)
            if reply.status not in RETRIED or attempt == attempts:
                return reply
            self._pause(random.uniform(0.5, 1.0) * 2 ** (attempt - 1))  # noqa: S311 -- spread, not secrecy
        raise ValueError("attempts must be at least 1")

    def _once(self, target: Target, body: bytes, route: str) -> Reply:
        started = self._clock()
        try:
            response = self._http.post(
                target.url.rstrip("/") + PATHS[route],
                content=body,
                headers={"content-type": "application/json", **target.headers},
                params=dict(target.query),
                timeout=httpx2.Timeout(target.timeout_s, connect=5),
            )
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            raise UpstreamAwayError(f"{target.upstream} does not answer at {target.url}: {error}") from error
        except httpx2.TransportError as error:
            return _failed(f"{type(error).__name__} after {self._clock() - started:.1f} s", self._ms(started))
        return _reply(response, route, self._ms(started))

    def _ms(self, started: float) -> float:
        return (self._clock() - started) * 1000


def unary(request: Mapping[str, Any], model: str, route: str) -> dict[str, Any]:
    """The request as a background call sends it: this model, not streamed, not stored, no metadata.

    Chat Completions keep nothing unless asked to; Responses keep everything unless told not to.
    """
    dropped = ("stream", "stream_options", "store", "metadata")
    kept = {key: value for key, value in request.items() if key not in dropped}
    return {**kept, "model": model, **({"store": False} if route == "responses" else {})}


def _failed(reason: str, duration_ms: float) -> Reply:
    return Reply(Answer(message={}), 0, duration_ms, error=reason)


def _reply(response: httpx2.Response, route: str, duration_ms: float) -> Reply:
    exchange = Exchange(
        id=new_id(),
        started_at=0.0,
        route=route,
        upstream="",
        status=response.status_code,
        duration_ms=duration_ms,
        request=b"{}",
        response=response.content,
        response_type=response.headers.get("content-type", "application/json"),
    )
    answer = assemble(exchange)
    return Reply(answer, response.status_code, duration_ms, _error(response, answer), remaining(response.headers))


def _error(response: httpx2.Response, answer: Answer) -> str | None:
    if not response.is_success:
        return f"status {response.status_code}"
    if answer.error is not None:
        return str(answer.error.get("message", "not an answer"))
    return None if answer.message else "not an answer"


def teacher_target(settings: Settings, upstream: str, model: str) -> Target | None:
    """A teacher with the worker's own credential; None where none is set: background calls are off then."""
    known = settings.upstreams[upstream]
    key = secret(known, worker=True)
    return None if key is None else _target(known, upstream, model, key)


def student_target(settings: Settings, student: Student, server: Server | None) -> Target:
    """Where this student answers. Raises UpstreamAwayError while it is not served, RefusedError without credentials."""
    if student.kind == "registered":
        target = teacher_target(settings, str(student.upstream), str(student.upstream_model))
        if target is None:
            raise RefusedError(f"upstream {student.upstream} has no worker key; set worker_key_env in stillhouse.toml")
        return target
    if server is None or not server.ready:
        raise UpstreamAwayError(
            f"student {student.name} is not served now ({server.state if server else 'never asked for'})"
        )
    return Target(url=str(server.url), model=server.served_model or student.name)


def _target(known: UpstreamSettings, upstream: str, model: str, key: str) -> Target:
    if known.kind == "azure":
        return Target(
            url=f"{known.base_url.rstrip('/')}/deployments/{model}",
            model=model,
            upstream=upstream,
            headers={"api-key": key},
            query={"api-version": known.api_version or AZURE_VERSION},
            timeout_s=known.total_timeout_s,
        )
    headers = {"authorization": f"Bearer {key}"}
    return Target(known.base_url, model, upstream, headers, timeout_s=min(known.total_timeout_s, 300))
