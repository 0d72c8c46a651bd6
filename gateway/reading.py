"""A captured request as the router reads it: its head decoded once, its task, session and prompt version found."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

import msgspec

from capture.keys import Key
from gateway.auth import Caller
from gateway.fingerprints import Fingerprints
from gateway.head import BodyHead, MalformedBodyError, decompress, read_head
from gateway.headers import Headers
from gateway.plan import Refusal, RequestHead
from gateway.snapshot import Snapshot
from gateway.upstreams import Endpoint
from students.assignment import session_key

CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"
ROUTES = {CHAT: "chat.completions", RESPONSES: "responses"}
SESSION_CHARACTERS = 256

_NO_HEADERS: dict[str, str] = {}
_NO_TAGS: dict[str, Any] = {}
_UNREADABLE = Refusal(415, "This content-encoding of a request cannot be read here: use gzip or none.")
_NO_OBJECT = Refusal(400, "We could not parse the JSON body of your request: it must be one JSON object.")
_NO_SUCH_TASK = Refusal(400, "x-stillhouse-task names no task of this gateway.", code="task_not_found")
_NOT_FOR_THIS_KEY = Refusal(403, "This gateway key may not be used for this task.", code="task_not_allowed")


class Envelope(msgspec.Struct, gc=False):
    """What a request's head says, and who `caller` is by `keys`: worked out once for as long as a client repeats it."""

    headers: Headers
    named: dict[bytes, bytes]  # of repeated ones the first
    path: str  # without what is escaped, where it is a captured route's
    query: str
    caller: Caller
    keys: Mapping[str, Key]
    forwarded: tuple[Endpoint, str | None, Headers] | None = None  # to whom, with which key of its own, what

    @classmethod
    def of(cls, head: RequestHead, caller: Caller, keys: Mapping[str, Key]) -> "Envelope":
        path, _, query = head.target.partition("?")
        plain = path if path in ROUTES else unquote(path)
        return cls(head.headers, dict(reversed(head.headers)), plain if plain in ROUTES else path, query, caller, keys)


class CapturedRequest(msgspec.Struct, frozen=True, gc=False):
    """A request of a captured route, read as far as needed."""

    envelope: Envelope
    route: str
    sent: bytes  # the body as it came
    body: bytes  # without content coding
    head: BodyHead
    model: str  # as the client asked; empty where it is no text
    task: str | None
    fingerprint: str | None  # where a rule or a rollout asks for it; else the worker finds it
    session: str | None
    opted_out: bool

    @property
    def recoded(self) -> bool:
        """A content coding was taken off."""
        return self.body is not self.sent


class Reader:
    """Reads requests; remembers the fingerprints of the prompts that it saw."""

    def __init__(self, max_body_bytes: int) -> None:
        self._max_body_bytes = max_body_bytes
        self._fingerprints = Fingerprints()

    def read(self, envelope: Envelope, body: bytes, snapshot: Snapshot) -> CapturedRequest | Refusal:
        """The request, or why nobody here can answer it."""
        named = envelope.named
        try:
            coding = named.get(b"content-encoding")
            plain = decompress(body, coding, self._max_body_bytes) if coding else body
            if plain is None:
                return _UNREADABLE
            read = read_head(plain)
        except MalformedBodyError:
            return _NO_OBJECT
        model = read.model if isinstance(read.model, str) else ""
        seen = self._fingerprints.of(read, plain) if snapshot.matches_fingerprints else None
        task = _task_of(model, read, envelope, seen, snapshot)
        if isinstance(task, Refusal):
            return task
        return CapturedRequest(
            envelope=envelope,
            route=ROUTES[envelope.path],
            sent=body,
            body=plain,
            head=read,
            model=model,
            task=task,
            fingerprint=seen or (self._fingerprints.of(read, plain) if task in snapshot.rollouts else None),
            session=_session(read, named.get(b"x-stillhouse-session")),
            opted_out=named.get(b"x-stillhouse-capture", b"").lower() == b"off",
        )


def _task_of(
    model: str, read: BodyHead, envelope: Envelope, seen: str | None, snapshot: Snapshot
) -> str | Refusal | None:
    """A student's own task, else the one that the header names, else the first whose rule holds."""
    named, caller = envelope.named, envelope.caller
    wanted = named.get(b"x-stillhouse-task")
    task = wanted.decode("latin-1") if wanted else None
    if task is not None and task not in snapshot.tasks:
        return _NO_SUCH_TASK
    student = snapshot.students.get(model)
    if student is not None:
        task = student.task or None
    elif task is None:
        wanted_headers = snapshot.matched_headers
        looked_at = _texts(named, wanted_headers) if wanted_headers else _NO_HEADERS
        tags = read.metadata if isinstance(read.metadata, dict) else _NO_TAGS
        task = snapshot.matcher.match(model, tags, looked_at, caller.id, seen)
    return task if caller.may_use(task) else _NOT_FOR_THIS_KEY


def _session(read: BodyHead, header: bytes | None) -> str | None:
    tags, conversation = read.metadata, read.conversation
    if header is None and tags is None and conversation is None and read.user is None:
        found = _string(read.safety_identifier)  # nearly always: none of them
        return found[:SESSION_CHARACTERS] or None if found else None
    tags = tags if isinstance(tags, dict) else {}
    if isinstance(conversation, dict):
        conversation = conversation.get("id")
    found = session_key(
        header.decode("latin-1") if header else None,
        _string(tags.get("session")),
        _string(tags.get("conversation")) or _string(conversation),
        _string(read.user),
        _string(read.safety_identifier),
        "",
    )
    return found[:SESSION_CHARACTERS] or None


def _string(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _texts(named: dict[bytes, bytes], wanted: frozenset[bytes]) -> dict[str, str]:
    return {name.decode("latin-1"): named[name].decode("latin-1") for name in wanted if name in named}
