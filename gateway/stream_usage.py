"""`stream_usage = "ask"`: a chat stream's usage is asked for where the client did not ask, and hidden from it again."""

from typing import Any

import msgspec

from gateway.head import BodyHead
from gateway.json_edit import JsonEditError, edit

_ASKED = b'"stream_options":{"include_usage":true}'


def is_unasked(head: BodyHead, route: str) -> bool:
    """A chat stream whose client did not ask for its usage, and put nothing odd in that place."""
    if route != "chat.completions" or head.stream is not True:
        return False
    options = _options(head)
    return options is not None and not options.get("include_usage")


def asking(body: bytes, head: BodyHead) -> bytes:
    """The body with `include_usage`; its other options, and all else, stay. Raises JsonEditError."""
    if bytes(head.stream_options):
        return edit(body, {"stream_options": msgspec.json.encode({**(_options(head) or {}), "include_usage": True})})
    at = body.find(b"{") + 1
    if at == 0:
        raise JsonEditError("not an object")
    return body[:at] + _ASKED + b"," + body[at:]  # a stream's body has members: "stream" at least


def _options(head: BodyHead) -> dict[str, Any] | None:
    """What the client said; None for what is no object."""
    written = bytes(head.stream_options)
    if not written:
        return {}
    value = msgspec.json.decode(written)
    return value if isinstance(value, dict) else {} if value is None else None
