"""The noun that everything passes on: one request and what came back."""

from enum import StrEnum
from typing import Any

import msgspec


class Arm(StrEnum):
    """Who answered."""

    TEACHER = "teacher"
    STUDENT = "student"
    FALLBACK = "fallback"


class Assignment(StrEnum):
    """What an eligible request was hashed to; what counts in every comparison, whatever answered in the end."""

    TEACHER = "teacher"
    STUDENT = "student"
    CONTROL = "control"


class Exchange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One finished exchange as the gateway saw it: raw bytes, not yet parsed, redacted or sampled.

    `request` and `response` are bodies as they were on the wire (chunked framing removed, content encoding kept and
    named in `request_encoding` / `response_encoding`). `request` is what the client sent, before any edit of ours.
    Times are Unix seconds, durations milliseconds. `complete` is false when the client left or the upstream broke
    off; `cause` then says why.
    """

    id: str
    started_at: float
    route: str  # "chat.completions" or "responses"
    task: str | None = None
    key_id: str | None = None
    session: str | None = None
    fingerprint: str | None = None  # the prompt version: of system prompt, tools, schema; where routing asks for it
    rollout: str | None = None
    student: str | None = None
    assignment: Assignment | None = None
    arm: Arm = Arm.TEACHER
    reason: str | None = None  # why ineligible, or why it fell back
    upstream: str
    model: str = ""  # as the client asked
    served_model: str = ""  # as it was sent on
    status: int
    stream: bool = False
    store: bool = False  # the client asked for a stored completion
    complete: bool = True
    cause: str | None = None
    first_ms: float | None = None  # to a plain stream's first content, else to the body's first byte
    duration_ms: float
    request: bytes
    request_encoding: str = ""
    response: bytes = b""
    response_type: str = ""
    response_encoding: str = ""


class Usage(msgspec.Struct, frozen=True):
    """Tokens, as the provider counted them, or as we estimated them."""

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    estimated: bool = False


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What came back, whole: the first choice in plain sight, everything else beside it.

    `message` is the assistant's message in Chat Completions shape (for Responses: converted). `choices` holds every
    choice as OpenAI's unary response would, `raw` the whole reassembled response object.
    """

    message: dict[str, Any]
    finish_reason: str | None = None
    usage: Usage | None = None
    completion_id: str | None = None
    model: str | None = None
    choices: list[dict[str, Any]] = []
    error: dict[str, Any] | None = None
    raw: dict[str, Any] = {}

    @property
    def text(self) -> str:
        """The message's text; empty where there is none (tool calls, refusals)."""
        content = self.message.get("content")
        if isinstance(content, str):
            return content
        if isinstance(content, list):
            return "".join(part.get("text", "") for part in content if isinstance(part, dict))
        return ""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Exchange)


def encode(exchange: Exchange) -> bytes:
    """MessagePack with field names: fields may be added later, and old segments stay readable."""
    return _encoder.encode(exchange)


def decode(record: bytes) -> Exchange:
    """Raises `msgspec.DecodeError` (or its child ValidationError) for anything that `encode` did not write."""
    return _decoder.decode(record)
