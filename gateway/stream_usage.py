"""`stream_usage = "ask"`: a chat stream's usage is asked for where the client did not ask, and hidden from it again."""

from typing import Any

import msgspec

from gateway.head import BodyHead
from gateway.json_edit import JsonEditError

_ASKED = b'"stream_options":{"include_usage":true}'


def is_unasked(head: BodyHead, route: str) -> bool:
    """A chat stream whose client did not ask for its usage, and put nothing odd in that place."""
    if route != "chat.completions" or head.stream is not True:
        return False
    options = _options(head)
    return options is not None and not options.get("include_usage")


def asking_options(head: BodyHead) -> bytes | None:
    """The client's own options with `include_usage`, to stand in their place; None where it sent none."""
    if not bytes(head.stream_options):
        return None
    return msgspec.json.encode({**(_options(head) or {}), "include_usage": True})


def asking(body: bytes) -> bytes:
    """A body without options, with those that ask; all else stays. Raises JsonEditError."""
    at = body.find(b"{") + 1
    if at == 0:
        raise JsonEditError("not an object")
    return body[:at] + _ASKED + b"," + body[at:]  # a stream's body has members: "stream" at least


def _options(head: BodyHead) -> dict[str, Any] | None:
    """What the client said; None for what is no object, or none that we can read."""
    written = bytes(head.stream_options)
    if not written:
        return {}
    try:
        value = msgspec.json.decode(written)
    except (msgspec.DecodeError, RecursionError):  # only skipped over until now
        return None
    return value if isinstance(value, dict) else {} if value is None else None
