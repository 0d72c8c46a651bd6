"""A captured request as each teacher gets it: its address, its credentials, its model's name; and who is asked next."""

from collections.abc import Iterator, Sequence

import msgspec

from capture.settings import FallbackSettings
from gateway import stream_usage as usage
from gateway.breaker import Breakers
from gateway.headers import Headers, forwarded, without
from gateway.json_edit import JsonEditError, edit
from gateway.plan import Leg, Refusal
from gateway.reading import CapturedRequest, Envelope
from gateway.snapshot import Snapshot
from gateway.upstreams import Endpoint

_NO_BEARER = "Send the gateway's key as x-stillhouse-key here: Authorization is for the provider's."
_NOT_ONE_OBJECT = Refusal(400, "The JSON body of your request is not UTF-8 or not one object.")


class Teacher(msgspec.Struct, frozen=True, gc=False):
    """Who answers a request, by which name of its model, and who is asked when it fails."""

    endpoint: Endpoint
    model: str
    fallbacks: Sequence[FallbackSettings] = ()


def teacher_of(request: CapturedRequest, snapshot: Snapshot) -> Teacher | Refusal:
    """The task's teacher where the request names the task or its teacher's model, else whose model it is."""
    model = request.model
    student = snapshot.students.get(model)
    if student is not None and student.endpoint is not None:  # trained there for no task of ours
        return Teacher(student.endpoint, student.served_model)
    settings = snapshot.tasks.get(request.task) if request.task is not None else None
    if settings is not None and model in (request.task, settings.teacher.model):
        endpoint = snapshot.directory.named(settings.teacher.upstream)
        if endpoint is not None:
            return Teacher(endpoint, settings.teacher.model, settings.fallbacks or endpoint.fallbacks)
        model = settings.teacher.model
    endpoint = snapshot.directory.for_model(model)
    return unknown_model(model) if endpoint is None else Teacher(endpoint, model, endpoint.fallbacks)


def teacher_leg(request: CapturedRequest, endpoint: Endpoint, model: str, snapshot: Snapshot) -> Leg | Refusal:
    """The request as this upstream gets it: the client's bytes, but for the edits that DESIGN.md names."""
    headers = upstream_headers(request.envelope, endpoint, snapshot)
    if isinstance(headers, Refusal):
        return headers
    asks_usage = endpoint.asks_usage and usage.is_unasked(request.head, request.route)
    try:
        changed = _edited(request, model, asks_usage)
    except JsonEditError:
        return _NOT_ONE_OBJECT
    if asks_usage:
        headers = (*without(headers, b"accept-encoding"), (b"accept-encoding", b"identity"))
    if changed is not None and request.recoded:
        headers = without(headers, b"content-encoding")
    return Leg(
        endpoint.address,
        "POST",
        endpoint.target(request.envelope.path[3:], request.envelope.query, model),
        headers,
        request.sent if changed is None else changed,
        model,
        endpoint.name,
        asks_usage,
    )


def fallback_legs(request: CapturedRequest, teacher: Teacher, snapshot: Snapshot, breakers: Breakers) -> Iterator[Leg]:
    """The next teachers in their order, those left out whose circuit is open or whose key is missing.

    Made when they are needed. A client's own key never goes along: fallbacks have keys of their own.
    """
    for fallback in teacher.fallbacks:
        endpoint = snapshot.directory.named(fallback.upstream)
        if endpoint is None or endpoint.auth != "key" or not breakers.take(endpoint.name):
            continue
        leg = teacher_leg(request, endpoint, fallback.model or teacher.model, snapshot)
        if isinstance(leg, Leg):
            yield leg


def upstream_headers(envelope: Envelope, endpoint: Endpoint, snapshot: Snapshot) -> Headers | Refusal:
    """What the upstream gets: the client's own credentials, or the upstream's key in their place."""
    secret = snapshot.secrets.get(endpoint.name)
    known = envelope.forwarded
    if known is not None and known[0] is endpoint and known[1] == secret:
        return known[2]
    if endpoint.auth == "forward":
        if envelope.caller.by_bearer:
            return Refusal(401, _NO_BEARER, type="authentication_error", code="invalid_api_key")
        headers = forwarded(envelope.headers, credentials=True)
    elif not secret:
        message = f"The gateway has no key for the upstream {endpoint.name}: see its api_key_env or api_key_file."
        return Refusal(503, message, type="server_error", code="no_upstream_key")
    else:
        headers = forwarded(envelope.headers, endpoint.credentials(secret), credentials=False)
    envelope.forwarded = endpoint, secret, headers
    return headers


def unknown_model(model: str) -> Refusal:
    message = f"The model {model[:200]!r} does not exist or you do not have access to it."
    return Refusal(404, message, param="model", code="model_not_found")


def _edited(request: CapturedRequest, model: str, asks_usage: bool) -> bytes | None:
    """The body with the edits that it needs, or None when it goes as it came. Raises JsonEditError."""
    changes: dict[str, bytes | None] = {}
    if model != request.model:
        changes["model"] = msgspec.json.encode(model)
    if request.head.metadata is not None and request.head.store is not True and request.route == "chat.completions":
        changes["metadata"] = None
    options = usage.asking_options(request.head) if asks_usage else None
    if options is not None:
        changes["stream_options"] = options
    changed = edit(request.body, changes) if changes else None
    if not asks_usage or options is not None:
        return changed
    return usage.asking(request.body if changed is None else changed)
