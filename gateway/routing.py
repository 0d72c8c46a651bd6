"""The router: from the head and body of a request, and the snapshot, to a plan. It does no I/O and never waits."""

from collections.abc import Callable
from typing import Protocol
from urllib.parse import unquote

import msgspec

from capture.exchange import Arm
from gateway.arms import Arms, Asked, Choice, obstacle, student_leg
from gateway.auth import Caller, Gate
from gateway.fingerprints import Fingerprints
from gateway.head import BodyHead, MalformedBodyError, decode_whole, decompress, read_head
from gateway.headers import Headers, forwarded, without
from gateway.json_edit import JsonEditError, edit
from gateway.limits import Limiter
from gateway.plan import Leg, Plan, Refusal, RequestHead, Surface
from gateway.snapshot import LiveStudent, Snapshot
from gateway.upstreams import Endpoint
from students.assignment import session_key

CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"
ROUTES = {CHAT: "chat.completions", RESPONSES: "responses"}
SESSION_CHARACTERS = 256

Admitted = tuple[Callable[[], None], ...]


class Snapshots(Protocol):
    """Whoever keeps the snapshot fresh."""

    @property
    def current(self) -> Snapshot: ...


class _Request(msgspec.Struct, frozen=True):
    """A captured request, read as far as needed."""

    route: str
    path: str  # what follows /v1
    query: str
    headers: Headers
    body: bytes  # without content coding
    head: BodyHead
    caller: Caller
    task: str | None
    fingerprint: str | None
    session: str | None
    opted_out: bool
    recoded: bool  # a content coding was taken off

    @property
    def model(self) -> str:
        return self.head.model_name


class Router:
    """Decides what becomes of a request, for one gateway process."""

    def __init__(
        self,
        snapshots: Snapshots,
        gate: Gate,
        limiter: Limiter,
        arms: Arms,
        clock: Callable[[], float],
        max_body_bytes: int = 64 * 1024 * 1024,
    ) -> None:
        self._snapshots = snapshots
        self._gate = gate
        self._limiter = limiter
        self._arms = arms
        self._clock = clock
        self._max_body_bytes = max_body_bytes
        self._fingerprints = Fingerprints()

    def surface(self, method: str, path: str) -> Surface:
        """How a request is treated; `path` is decoded and without its query."""
        if method == "POST" and path in ROUTES:
            return Surface.CAPTURED
        if not path.startswith("/v1/"):
            return Surface.LOCAL
        listing = path == "/v1/models" or path.startswith("/v1/models/")
        stored = path == CHAT or path.startswith(CHAT + "/")
        if stored or (listing and method in ("GET", "HEAD")):
            return Surface.LOCAL
        return Surface.PASSED

    def admit(self, headers: Headers) -> Caller | Refusal:
        """The caller behind a request, for the routes that the app answers."""
        return self._gate.admit(headers, self._snapshots.current.keys, self._clock())

    def plan(self, head: RequestHead, body: bytes | None) -> Plan | Refusal:
        """What happens to a request; `body` is None on a passed route, whose body is streamed."""
        snapshot = self._snapshots.current
        caller = self._gate.admit(head.headers, snapshot.keys, self._clock())
        if isinstance(caller, Refusal):
            return caller
        path, _, query = head.target.partition("?")
        if body is None:
            return self._passed(head, caller, snapshot, (path, query))
        request = self._read(head, body, caller, snapshot)
        if isinstance(request, Refusal):
            return request
        student = snapshot.students.get(request.model)
        if student is not None:
            return self._to_student(request, student, snapshot)
        return self._to_upstream(request, body, snapshot)

    def _passed(self, head: RequestHead, caller: Caller, snapshot: Snapshot, target: tuple[str, str]) -> Plan | Refusal:
        path, query = target
        if not path.startswith("/v1/"):  # written with escapes: not what an upstream would be asked for
            return Refusal(404, f"Invalid URL ({head.method} {path})")
        endpoint = snapshot.directory.default
        if endpoint is None:
            return Refusal(404, "No upstream takes this route: set gateway.default_upstream.", code="no_upstream")
        if not caller.may_use(None):
            return Refusal(403, "This gateway key is for certain tasks only.", code="task_not_allowed")
        headers = _headers(head.headers, endpoint, caller, snapshot)
        if isinstance(headers, Refusal):
            return headers
        admitted = self._limiter.admit(caller.key, 0, snapshot.spent_usd)
        if isinstance(admitted, Refusal):
            return admitted
        leg = Leg(endpoint.address, head.method, endpoint.target(path[3:], query, ""), headers, None)
        return Plan(leg=leg, key_id=caller.id, release=(admitted,) if admitted else ())

    def _read(self, head: RequestHead, body: bytes, caller: Caller, snapshot: Snapshot) -> _Request | Refusal:
        try:
            plain = decompress(body, head.header(b"content-encoding") or b"", self._max_body_bytes)
            if plain is None:
                return Refusal(415, "This content-encoding of a request cannot be read here: use gzip or none.")
            read = read_head(plain)
        except MalformedBodyError:
            return Refusal(400, "We could not parse the JSON body of your request: it must be one JSON object.")
        path, _, query = head.target.partition("?")
        path = path if path in ROUTES else unquote(path)
        seen = self._fingerprints.of(read, plain) if snapshot.matches_fingerprints else None
        named = _text_of(head.header(b"x-stillhouse-task"))
        if named is not None and named not in snapshot.tasks:
            return Refusal(400, "x-stillhouse-task names no task of this gateway.", code="task_not_found")
        looked_at = _mapping(head.headers, snapshot.matched_headers)
        task = named or snapshot.matcher.match(read.model_name, read.tags, looked_at, caller.id, seen)
        student = snapshot.students.get(read.model_name)
        task = student.task if student is not None else task
        if not caller.may_use(task):
            return Refusal(403, "This gateway key may not be used for this task.", code="task_not_allowed")
        return _Request(
            route=ROUTES[path],
            path=path[3:],
            query=query,
            headers=head.headers,
            body=plain,
            head=read,
            caller=caller,
            task=task,
            fingerprint=seen or (self._fingerprints.of(read, plain) if task else None),
            session=_session(read, head),
            opted_out=(head.header(b"x-stillhouse-capture") or b"").lower() == b"off",
            recoded=plain is not body,
        )

    def _to_upstream(self, request: _Request, body: bytes, snapshot: Snapshot) -> Plan | Refusal:
        settings = snapshot.tasks.get(request.task or "")
        model, endpoint = request.model, None
        if settings is not None and model in (request.task, settings.teacher.model):
            model, endpoint = settings.teacher.model, snapshot.directory.named(settings.teacher.upstream)
        endpoint = endpoint or snapshot.directory.for_model(model)
        if endpoint is None:
            return _unknown_model(model)
        headers = _headers(request.headers, endpoint, request.caller, snapshot)
        if isinstance(headers, Refusal):
            return headers
        try:
            changed = _edited(request, model)
        except JsonEditError:
            return Refusal(400, "The JSON body of your request is not UTF-8 or not one object.")
        admitted = self._limiter.admit(request.caller.key, len(body), snapshot.spent_usd)
        if isinstance(admitted, Refusal):
            return admitted
        if changed is not None and request.recoded:
            headers = without(headers, b"content-encoding")
        target = endpoint.target(request.path, request.query, model)
        leg = Leg(endpoint.address, "POST", target, headers, body if changed is None else changed, model)
        return _planned(request, leg, self._choose(request, endpoint, snapshot), admitted)

    def _choose(self, request: _Request, endpoint: Endpoint, snapshot: Snapshot) -> Choice:
        if request.task is None or request.task not in snapshot.rollouts:
            return Choice()
        try:
            asked = _asked(request, request.task, endpoint.name)
        except MalformedBodyError:
            return Choice(reason="shape")
        return self._arms.choose(asked, snapshot, self._clock())

    def _to_student(self, request: _Request, student: LiveStudent, snapshot: Snapshot) -> Plan | Refusal:
        """A request that names the student itself: no teacher stands behind it."""
        try:
            asked = _asked(request, student.task, "")
        except MalformedBodyError:
            return _unknown_model(request.model)
        reason = obstacle(asked.request, asked.fingerprint, student)
        if reason not in (None, "unknown_prompt_version"):
            return Refusal(400, f"The model {student.name} cannot answer this request: {reason}.", code=reason)
        leg = student_leg(student, asked, snapshot)
        if leg is None:
            return Refusal(
                503, f"The model {student.name} is not being served.", type="server_error", code="student_away"
            )
        admitted = self._limiter.admit(request.caller.key, len(request.body), snapshot.spent_usd)
        if isinstance(admitted, Refusal):
            return admitted
        choice = Choice(student_name=student.name, arm=Arm.STUDENT)
        return _planned(request, leg, choice, admitted)


def _planned(request: _Request, leg: Leg, choice: Choice, admitted: Callable[[], None] | None) -> Plan:
    return Plan(
        leg=leg,
        student=choice.student,
        captured=True,
        opted_out=request.opted_out,
        route=request.route,
        task=request.task,
        key_id=request.caller.id,
        session=request.session,
        fingerprint=request.fingerprint,
        rollout=choice.rollout,
        student_name=choice.student_name,
        assignment=choice.assignment,
        arm=choice.arm,
        reason=choice.reason,
        model=request.model,
        stream=request.head.stream is True,
        store=request.head.store is True,
        release=(admitted,) if admitted else (),
    )


def _asked(request: _Request, task: str, upstream: str) -> Asked:
    return Asked(
        task=task,
        route=request.route,
        request=decode_whole(request.body),
        headers=request.headers,
        upstream=upstream,
        fingerprint=request.fingerprint,
        session=request.session,
        stream=request.head.stream is True,
    )


def _headers(headers: Headers, endpoint: Endpoint, caller: Caller, snapshot: Snapshot) -> Headers | Refusal:
    """What the upstream gets: the client's own credentials, or the upstream's key in their place."""
    if endpoint.auth == "forward":
        if caller.by_bearer:
            return Refusal(401, "Send the gateway's key as x-stillhouse-key here: Authorization is for the provider's.")
        return forwarded(headers, credentials=True)
    secret = snapshot.secrets.get(endpoint.name)
    if not secret:
        message = f"The gateway has no key for the upstream {endpoint.name}: see its api_key_env or api_key_file."
        return Refusal(503, message, type="server_error", code="no_upstream_key")
    return forwarded(headers, endpoint.credentials(secret), credentials=False)


def _edited(request: _Request, model: str) -> bytes | None:
    """The body with the edits that it needs, or None when it goes as it came. Raises JsonEditError."""
    changes: dict[str, bytes | None] = {}
    if model != request.model:
        changes["model"] = msgspec.json.encode(model)
    if request.route == "chat.completions" and request.head.metadata is not None and request.head.store is not True:
        changes["metadata"] = None
    return edit(request.body, changes) if changes else None


def _session(read: BodyHead, head: RequestHead) -> str | None:
    tags, conversation = read.tags, read.conversation
    if isinstance(conversation, dict):
        conversation = conversation.get("id")
    found = session_key(
        _text_of(head.header(b"x-stillhouse-session")),
        _string(tags.get("session")),
        _string(tags.get("conversation")) or _string(conversation),
        _string(read.user),
        _string(read.safety_identifier),
        "",
    )
    return found[:SESSION_CHARACTERS] or None


def _unknown_model(model: str) -> Refusal:
    message = f"The model {model[:200]!r} does not exist or you do not have access to it."
    return Refusal(404, message, param="model", code="model_not_found")


def _string(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _text_of(value: bytes | None) -> str | None:
    return value.decode("latin-1") if value else None


def _mapping(headers: Headers, wanted: frozenset[bytes]) -> dict[str, str]:
    if not wanted:
        return {}
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in headers if name in wanted}
