"""What the router must know of a request's body: one partial decode, which judges nothing that an upstream should."""

import json
import zlib
from typing import Any

import msgspec


class MalformedBodyError(ValueError):
    """The body is no JSON object that anybody could answer."""


class BodyHead(msgspec.Struct, frozen=True):
    """The members that routing looks at, of whatever type the client sent; the rest stays bytes."""

    model: Any = None
    stream: Any = None
    store: Any = None
    metadata: Any = None
    user: Any = None
    safety_identifier: Any = None
    conversation: Any = None
    instructions: Any = None
    messages: msgspec.Raw = msgspec.Raw()
    input: msgspec.Raw = msgspec.Raw()
    tools: msgspec.Raw = msgspec.Raw()
    functions: msgspec.Raw = msgspec.Raw()
    response_format: msgspec.Raw = msgspec.Raw()
    text: msgspec.Raw = msgspec.Raw()
    stream_options: msgspec.Raw = msgspec.Raw()

    @property
    def model_name(self) -> str:
        return self.model if isinstance(self.model, str) else ""

    @property
    def tags(self) -> dict[str, Any]:
        """`metadata`, when it is an object."""
        return self.metadata if isinstance(self.metadata, dict) else {}


_decoder = msgspec.json.Decoder(BodyHead)
_RAW = ("messages", "input", "tools", "functions", "response_format", "text", "stream_options")


def read_head(body: bytes) -> BodyHead:
    """The head of a JSON body (about 1 µs per kB). Raises MalformedBodyError.

    What msgspec refuses but Python reads (lone surrogates, NaN) is left for the upstream to judge.
    """
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return _read_leniently(body)


def decode_whole(body: bytes) -> dict[str, Any]:
    """The whole body as an object, for who looks closely (eligibility, views).

    Raises MalformedBodyError, also for what only lenient readers take.
    """
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise MalformedBodyError(str(error)) from error
    return _object(value)


def decode_leniently(body: bytes) -> dict[str, Any]:
    """The same, lone surrogates and NaN let through. Raises MalformedBodyError."""
    try:
        return _object(json.loads(body))
    except (ValueError, RecursionError) as error:
        raise MalformedBodyError(str(error)) from error


def _read_leniently(body: bytes) -> BodyHead:
    value = decode_leniently(body)
    try:
        return _head_of(value)
    except RecursionError as error:
        raise MalformedBodyError(str(error)) from error


def _head_of(value: dict[str, Any]) -> BodyHead:
    known = {name: _clean(value[name]) for name in BodyHead.__struct_fields__ if name in value and name not in _RAW}
    raw = {name: msgspec.Raw(json.dumps(value[name]).encode()) for name in _RAW if name in value}
    return BodyHead(**known, **raw)


def _clean(value: Any) -> Any:
    """Lone surrogates replaced: what is noted of a request must be text that can be written."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_clean(name): _clean(one) for name, one in value.items()}
    return value


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise MalformedBodyError("not a JSON object")
    return value


def decompress(body: bytes, encoding: bytes, limit_bytes: int) -> bytes | None:
    """The body without its gzip or deflate coding; None for other codings and for what would exceed the limit.

    Raises MalformedBodyError for bytes that are not what they are called.
    """
    coding = encoding.strip().lower()
    if coding in (b"", b"identity"):
        return body
    if coding not in (b"gzip", b"x-gzip", b"deflate"):
        return None
    stream = zlib.decompressobj(wbits=zlib.MAX_WBITS | (0 if coding == b"deflate" else 16))
    try:
        plain = stream.decompress(body, limit_bytes)
    except zlib.error as error:
        raise MalformedBodyError(str(error)) from error
    return plain if stream.eof else None
