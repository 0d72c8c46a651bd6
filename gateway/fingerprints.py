"""The prompt fingerprint on the hot path: capture's own, remembered by the bytes that it is made of."""

from typing import Any

import msgspec

from capture.tasks import fingerprint
from gateway.head import BodyHead, MalformedBodyError, decode_leniently

_SYSTEM = ("system", "developer")
_REMEMBERED = 4096
_REMEMBERED_BYTES = 64 * 1024


class _Turn(msgspec.Struct):
    role: Any = None
    content: msgspec.Raw = msgspec.Raw()


_turns = msgspec.json.Decoder(list[_Turn])


class Fingerprints:
    """Answers from memory while a system prompt, its tools and schema stay the same; else computes it (once)."""

    def __init__(self) -> None:
        self._known: dict[tuple[bytes, ...], str] = {}

    def of(self, head: BodyHead, body: bytes) -> str | None:
        """The fingerprint of a request, None where its body's shape has none."""
        parts = _parts(head)
        found = self._known.get(parts) if parts is not None else None
        if found is not None:
            return found
        try:
            made = fingerprint(decode_leniently(body))
        except (MalformedBodyError, RecursionError):
            return None
        if parts is not None and sum(map(len, parts)) <= _REMEMBERED_BYTES:
            self._remember(parts, made)
        return made

    def _remember(self, parts: tuple[bytes, ...], made: str) -> None:
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[parts] = made


def _parts(head: BodyHead) -> tuple[bytes, ...] | None:
    """The bytes that the fingerprint depends on; None where they cannot be told apart at a glance."""
    turns = bytes(head.messages or head.input)
    try:
        read = _turns.decode(turns) if turns[:1] == b"[" else []
    except (msgspec.DecodeError, RecursionError):
        return None
    system = [bytes(turn.content) for turn in read if turn.role in _SYSTEM]
    fixed = [bytes(part) if part else b"" for part in (head.tools, head.functions, head.response_format, head.text)]
    instructions = head.instructions.encode("utf-8", "surrogatepass") if isinstance(head.instructions, str) else b""
    return (*fixed, instructions, *system)
