"""Takes a stream's usage out of what the client sees: it was asked for by us. Whole events pass as they come."""

import re

import msgspec

from gateway.json_edit import JsonEditError, edit
from gateway.relay import events

_BETWEEN = re.compile(rb"(\r\n\r\n|\n\n|\r\r)")
_DATA = re.compile(rb"(?m)^data:[ ]?([^\r\n]*)")


class UsageHider:
    """Drops the chunk that has usage and no choices, and the member `usage` of all others; no other byte changes."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""  # of an event that is not whole yet

    def feed(self, data: bytes, end: bool) -> bytes:
        """What may leave now; with `end` all of it."""
        data = self._rest + data
        cut = len(data) if end else events.end_of_last_event(data)
        if cut < len(data) and data.endswith((b"\n", b"\r")) and b"data" not in data[cut:]:
            cut = len(data)  # a comment to keep the connection alive is not kept waiting
        whole, self._rest = data[:cut], data[cut:]
        if b'"usage"' not in whole:
            return whole
        parts = _BETWEEN.split(whole)
        ends = [*parts[1::2], b""]
        return b"".join(_seen(event, after) for event, after in zip(parts[::2], ends, strict=True))


def _seen(event: bytes, after: bytes) -> bytes:
    """The event as the client sees it, with the blank line after it; nothing where there is nothing to see."""
    lines = list(_DATA.finditer(event))
    if b'"usage"' not in event or len(lines) != 1:
        return event + after
    payload = lines[0].group(1)
    try:
        chunk = msgspec.json.decode(payload)
        if not isinstance(chunk, dict) or "usage" not in chunk:
            return event + after
        if chunk.get("choices") == [] and chunk["usage"]:
            return b""
        edited = edit(payload, {"usage": None})
    except (msgspec.DecodeError, JsonEditError, RecursionError):
        return event + after
    return event[: lines[0].start(1)] + edited + event[lines[0].end(1) :] + after
