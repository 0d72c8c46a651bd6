"""What a grader is given: an output, what to compare it with, and the request; and how their parts are read."""

import json
import re
import unicodedata
from dataclasses import dataclass, field
from typing import Any

from capture.exchange import Answer

Json = Any
"""Any JSON value: null, boolean, number, string, list or object."""

MISSING = object()
"""Stands for a part that is not there, which is not the same as a null that is."""

_FENCE = re.compile(r"\A\s*```[\w-]*\s*\n(.*?)\n?\s*```\s*\Z", re.DOTALL)
_SPACES = re.compile(r"\s+")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One output to grade.

    `output`: an Answer, an assistant message in Chat shape, or a text. `reference`: the teacher's output in any of
    those shapes, or a truth, which is any JSON value; None: there is none. `request`: the request's body.
    """

    output: Answer | dict[str, Any] | str
    reference: Answer | Json = None
    request: dict[str, Any] = field(default_factory=dict)


def text_of(side: Answer | Json) -> str:
    """The text that a side says: a message's content, a string as it is, any other JSON value written out."""
    if isinstance(side, Answer):
        return side.text
    if is_message(side):
        return Answer(message=side).text
    return side if isinstance(side, str) else json.dumps(side, ensure_ascii=False, sort_keys=True)


def json_of(side: Answer | Json, *, fences: bool = False) -> Json:
    """The JSON that a side says, or MISSING where its text is none. What is no message and no text is itself."""
    if not isinstance(side, Answer | str) and not is_message(side):
        return side
    text = text_of(side)
    if fences and (fenced := _FENCE.match(text)):
        text = fenced.group(1)
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return MISSING


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def is_message(side: Json) -> bool:
    """Whether a JSON value is an assistant's message rather than a truth."""
    return isinstance(side, dict) and side.get("role") == "assistant" and ("content" in side or "tool_calls" in side)


def message_of(side: Answer | Json) -> dict[str, Any]:
    """A side as an assistant's message in Chat shape."""
    if isinstance(side, Answer):
        return side.message
    return side if is_message(side) else {"role": "assistant", "content": text_of(side)}


def part(value: Json, pointer: str) -> Json:
    """The part of a JSON value at a pointer (RFC 6901), or MISSING. A name without a slash is a pointer of one step."""
    steps = pointer.split("/")[1:] if pointer.startswith("/") else [pointer]
    for step in steps if pointer else []:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict) and name in value:
            value = value[name]
        elif isinstance(value, list) and name.isdecimal() and int(name) < len(value):
            value = value[int(name)]
        else:
            return MISSING
    return value


def normal(text: str) -> str:
    """A text with differences that nobody means folded away: Unicode form (NFKC), case, runs of white space."""
    return _SPACES.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip()


def same(left: Json, right: Json) -> bool:
    """Equality of JSON values: strings when normalised, numbers by value, booleans never as numbers."""
    if isinstance(left, str) and isinstance(right, str):
        return normal(left) == normal(right)
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[name], right[name]) for name in left)
    return bool(left == right)
