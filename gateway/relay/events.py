"""Reading a stream of server-sent events without re-serialising it: where it ends, and where its content begins."""

import re
from typing import Any

import msgspec

from gateway.relay.framing import ResponseHead

LARGEST_EVENT = 1024 * 1024  # bytes that are waited for until an event is whole
_KEPT_OF_A_LINE = 96  # enough to tell every terminal event by its line's beginning
_PLAIN = b'data: {"'  # how nearly every line begins: worth no closer look,
_SUSPECT = (b'data: {"error', b'data: {"type')  # unless it begins so
_TERMINAL_NAMES = frozenset({b"response.completed", b"response.failed", b"response.incomplete", b"error"})


class TerminalScanner:
    """Finds the terminal event of a Chat Completions or Responses stream in any split of its bytes.

    The record of an exchange must be on disk before a client can know that the stream is complete. `feed` tells how
    many leading bytes may leave at once; the rest is to be withheld until `ended` turns true or the message ends.
    `[DONE]` ends the stream as soon as its line is known; events that carry the whole response or an error end it
    with the blank line after them, so that they are part of the record.
    """

    __slots__ = ("_after_cr", "_holding", "_line", "ended")

    def __init__(self) -> None:
        self.ended = False
        self._line = b""  # the beginning of the line that is not complete yet
        self._holding = False
        self._after_cr = False

    def feed(self, data: bytes) -> int:
        if self._line or self._holding or self._after_cr or b"\r" in data:
            return self._walk(data)
        lines = data.split(b"\n")
        for line in lines:
            if line and (not line.startswith(_PLAIN) or line.startswith(_SUSPECT)):
                return self._walk(data)
        self._line = lines[-1][:_KEPT_OF_A_LINE]
        return len(data)

    def _walk(self, data: bytes) -> int:
        allowed = 0 if self._holding else len(data)
        position = 0
        if self._after_cr and data.startswith(b"\n"):
            position = 1  # the second half of a CRLF
        for raw in data[position:].splitlines(keepends=True):
            complete = raw.endswith((b"\n", b"\r"))
            line = (self._line + raw).rstrip(b"\r\n")
            self._line = b"" if complete else line[:_KEPT_OF_A_LINE]
            if self._line_ends_stream(line, complete):
                self.ended = True
                return len(data)
            if self._holding:
                allowed = min(allowed, position)
            position += len(raw)
        self._after_cr = data.endswith(b"\r") or (self._after_cr and not data)
        return allowed

    def _line_ends_stream(self, line: bytes, complete: bool) -> bool:
        if complete and not line:
            return self._holding
        if line.startswith(b"data:"):
            payload = line[5 : 5 + _KEPT_OF_A_LINE].lstrip(b" ")
            if payload.startswith(b"[DONE]"):
                return True
            self._holding = self._holding or _is_terminal_payload(payload)
        elif complete and line.startswith(b"event:"):
            self._holding = self._holding or line[6:].strip() in _TERMINAL_NAMES
        return False


def _is_terminal_payload(payload: bytes) -> bool:
    """`{"error": …}` (Chat) or `{"type": "response.completed", …}` and its like (Responses), told by the first key."""
    parts = payload.split(b'"', 4)
    if len(parts) < 3 or parts[0].strip() != b"{":
        return False
    if parts[1] == b"error":
        value = parts[2].lstrip(b" :")
        return value.startswith(b"{") or (not value and len(parts) > 3)
    return len(parts) == 5 and parts[1] == b"type" and parts[2].strip() == b":" and parts[3] in _TERMINAL_NAMES


def is_plain_stream(head: ResponseHead) -> bool:
    """An event stream without content coding."""
    return head.content_encoding in (b"", b"identity") and head.content_type[:17].lower() == b"text/event-stream"


def end_of_last_event(stream: bytes) -> int:
    """Where the last whole event ends, in bytes; 0 for none. One too large to be waited for counts as whole."""
    lf, crlf, cr = stream.rfind(b"\n\n"), stream.rfind(b"\r\n\r\n"), stream.rfind(b"\r\r")
    end = max(lf + 2 if lf >= 0 else 0, crlf + 4 if crlf >= 0 else 0, cr + 2 if cr >= 0 else 0)
    return end if len(stream) - end <= LARGEST_EVENT else len(stream)


def content_of(payload: bytes) -> str | None:
    """What one event's data tells of the answer: its text ("" for content without text), None without content.

    Raises StreamError for an error event or a payload that is no JSON object.
    """
    if not payload or payload == b"[DONE]":
        return None
    try:
        decoded = msgspec.json.decode(payload)
    except (msgspec.DecodeError, RecursionError):
        raise StreamError("not JSON") from None
    if not isinstance(decoded, dict):
        raise StreamError("not an object")
    if isinstance(decoded.get("choices"), list):
        return _chat_content(decoded)
    return _typed_content(decoded)


class StreamError(ValueError):
    """An event that is an error, or no event of a Chat Completions or Responses stream."""


_CONTENT = {
    "chat.completions": re.compile(
        rb'"(?:content|refusal|reasoning_content|reasoning)"\s*:\s*"[^"]'
        rb'|"(?:tool_calls|function_call|audio)"\s*:\s*[\[{]\s*["{]'
    ),
    "responses": re.compile(rb'"delta"\s*:\s*"[^"]'),
}


def content_pattern(route: str) -> re.Pattern[bytes] | None:
    """What finds content in a stream at a glance: of what is judged closely, `content_of` has the word."""
    return _CONTENT.get(route)


_CONTENT_KEYS = ("tool_calls", "function_call", "refusal", "reasoning_content", "reasoning", "audio")


def _chat_content(decoded: dict[str, Any]) -> str | None:
    for choice in decoded["choices"]:
        delta = (choice.get("delta") if isinstance(choice, dict) else None) or {}
        if not isinstance(delta, dict):
            raise StreamError("a delta that is no object")
        text = delta.get("content")
        if isinstance(text, str) and text:
            return text
        if any(delta.get(key) for key in _CONTENT_KEYS):
            return ""
    return None


def _typed_content(decoded: dict[str, Any]) -> str | None:
    kind = decoded.get("type")
    if "error" in decoded and not isinstance(kind, str):
        raise StreamError("an error event")
    if kind in ("error", "response.failed"):
        raise StreamError("an error event")
    if isinstance(kind, str) and kind.endswith(".delta"):
        delta = decoded.get("delta")
        return delta if kind == "response.output_text.delta" and isinstance(delta, str) else ""
    return None


def error_event(route: str, message: str, code: str) -> bytes:
    """An error after a stream began, in the route's own shape, after which the stream ends."""
    if route == "responses":
        typed = {"type": "error", "code": code, "message": message, "param": None}
        return b"event: error\ndata: " + msgspec.json.encode(typed) + b"\n\n"
    error = {"error": {"message": message, "type": "server_error", "param": None, "code": code}}
    return b"data: " + msgspec.json.encode(error) + b"\n\n"
