"""What a file of purpose fine-tune has to look like, line by line: OpenAI's supervised training lines."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

from capture.errors import RefusedError

LINE_BYTES = 8 * 1024 * 1024
MINIMUM_LINES = 10


class Message(msgspec.Struct):
    """One turn; `weight` 0: not learnt."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[dict[str, Any]] | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None
    weight: Literal[0, 1] | None = None


class Line(msgspec.Struct):
    """A whole line. What else it holds is left as it is."""

    messages: list[Message]
    tools: list[dict[str, Any]] | None = None


_PREFERENCE = "it is a preference line (DPO), and only supervised lines are learnt here"

_decoder = msgspec.json.Decoder(Line)


def examine(path: Path) -> int:
    """How many lines the file has. Raises RefusedError with the number of the first that is none."""
    count = 0
    for number, line in numbered(path):
        reason = _fault(line)
        if reason is not None:
            raise RefusedError(f"Line {number} of the file is no training line: {reason}.")
        count += 1
    if not count:
        raise RefusedError("The file has no lines.")
    return count


def numbered(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, each with its number from 1. Raises RefusedError for one beyond LINE_BYTES."""
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(LINE_BYTES + 1), b""), 1):
            if len(line) > LINE_BYTES:
                raise RefusedError(f"Line {number} of the file is longer than {LINE_BYTES} bytes.")
            if line.strip():
                yield number, line


def _fault(line: bytes) -> str | None:
    try:
        messages = _decoder.decode(line).messages
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return _PREFERENCE if b'"preferred_output"' in line else str(error)
    if not messages or messages[-1].role != "assistant":
        return "its last message is not the assistant's"
    taught = [one for one in messages if one.role == "assistant" and one.weight != 0]
    if not taught:
        return "every message of the assistant has weight 0"
    empty = any(not one.content and not one.tool_calls for one in taught)
    return "a message of the assistant has neither content nor tool_calls" if empty else None
