"""What a request says, apart from its wrapping: its system prompt, prompt version, variable text and conversation.

Both APIs' shapes: Chat Completions (`messages`) and Responses (`instructions`, `input`). Pure.
"""

import hashlib
import re
from functools import lru_cache
from typing import Any

import msgspec

from capture.exchange import Exchange

Json = dict[str, Any]

_NAMES = {
    "<month>": "jan january feb february mar march apr april may jun june jul july aug august sep sept september oct "
    "october nov november dec december",
    "<day>": "mon monday tue tues tuesday wed wednesday thu thur thurs thursday fri friday sat saturday sun sunday",
}
_CALENDAR = {name: kind for kind, names in _NAMES.items() for name in names.split()}
_VARIES = re.compile(r"[\d@]")
_MASKS = (  # within one word, in this order
    (re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"), "<email>"),
    (re.compile(r"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b"), "<id>"),
    (re.compile(r"\b\d{4}-\d\d-\d\d(?:T\d\d:\d\d(?::\d\d(?:\.\d+)?)?)?(?:Z|[+-]\d\d:?\d\d)?"), "<date>"),
    (re.compile(r"\b\d{1,2}:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?(?![\w:])"), "<time>"),
    (re.compile(r"\b(?=[\w-]*\d)(?=[\w-]*[A-Za-z])[A-Za-z0-9_-]{12,}\b"), "<id>"),
    (re.compile(r"\b(?=[0-9a-fA-F]*\d)[0-9a-fA-F]{8,}\b"), "<id>"),
    (re.compile(r"\d+(?:[.,:/]\d+)*(?:(?:st|nd|rd|th)\b)?"), "#"),
)
_DATED = re.compile(r"#[.,;:)]*")  # a number that may be a day or a year
_REMEMBERED_CHARACTERS = 32_768
_REACH = 2  # words between a month or weekday and its number


def system_prompt(request: Json) -> str:
    """The text of `instructions` and of all system and developer messages, in order, joined by blank lines."""
    parts = [request["instructions"]] if isinstance(request.get("instructions"), str) else []
    parts += [text_of(item.get("content")) for item in turns(request) if item.get("role") in ("system", "developer")]
    return "\n\n".join(parts)


def fingerprint(request: Json) -> str:
    """The request's prompt version; the same as `fingerprint_parts` of the bytes it came in."""
    return fingerprint_parts(system_prompt(request), _encoded(request.get("tools")), _encoded(schema_of(request)))


def schema_of(request: Json) -> Any:
    """What stands under `response_format` (Chat) or `text.format` (Responses); None without either."""
    if "response_format" in request:
        return request["response_format"]
    text = request.get("text")
    return text.get("format") if isinstance(text, dict) else None


def fingerprint_parts(system: str, tools: bytes | None, schema: bytes | None) -> str:
    """16 hexadecimal digits over the masked system prompt, the tools and the schema (JSON as it came, or None).

    JSON is brought to one form first, so spacing and key order do not matter. Remembered by the exact parts unless they
    are large, so that on the hot path a known prompt costs one look-up.
    """
    if len(system) + len(tools or b"") + len(schema or b"") <= _REMEMBERED_CHARACTERS:
        return _remembered_fingerprint(system, tools, schema)
    return _fingerprint(system, tools, schema)


def _fingerprint(system: str, tools: bytes | None, schema: bytes | None) -> str:
    digest = hashlib.blake2b(digest_size=8, person=b"fingerprint")
    for part in (masked(system).encode("utf-8", "surrogatepass"), _canonical(tools), _canonical(schema)):
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


_remembered_fingerprint = lru_cache(maxsize=1024)(_fingerprint)


def masked(text: str) -> str:
    """`text` with e-mails, ids, dates, times and numbers replaced by their kind, and spaces evened out.

    Word by word, since it is done on the request's way when a prompt is new: words without digits cost next to nothing.
    """
    words = text.split()
    numbers: list[int] = []
    for index, word in enumerate(words):
        if word.isalpha() or not _VARIES.search(word):
            continue
        for pattern, kind in _MASKS:
            word = pattern.sub(kind, word)
        words[index] = word
        if word[0] == "#" and _DATED.fullmatch(word):
            numbers.append(index)
    for index in numbers:
        _mask_calendar(words, index)
    return " ".join(words).replace("<date> <time>", "<date>")


def _mask_calendar(words: list[str], index: int) -> None:
    """Masks the names of months and weekdays around a number; without one they are words like any other."""
    for near in range(max(0, index - _REACH), min(len(words), index + _REACH + 1)):
        kind = _CALENDAR.get(words[near].strip(".,;:()").lower())
        if kind:
            words[near] = kind


def variable_text(request: Json) -> str:
    """What varies from request to request: the text of the last run of user turns, casefolded, spaces evened out.

    Images, audio and files stand in it as `[image]`, `[audio]`, `[file]` with a hash of their content.
    """
    return evened(last_user_text(request))


def evened(text: str) -> str:
    """`text` casefolded, each run of white space one space."""
    return " ".join(text.split()).casefold()


def last_user_text(request: Json) -> str:
    """The last run of user turns as they were written; for a bare prompt, all of it."""
    if isinstance(request.get("input"), str):
        return str(request["input"])
    run: list[str] = []
    for item in reversed(turns(request)):
        if item.get("role") == "user":
            run.append(text_of(item.get("content")))
        elif run:
            break
    return "\n".join(reversed(run))


def first_user_text(request: Json) -> str:
    """The first user turn as it was written; for a bare prompt, all of it."""
    if isinstance(request.get("input"), str):
        return str(request["input"])
    return next((text_of(item.get("content")) for item in turns(request) if item.get("role") == "user"), "")


def conversation_key(exchange: Exchange, request: Json, variable: str | None = None) -> str:
    """What the holdout and clusters go by: 16 hexadecimal digits of the conversation, else of the variable text.

    A conversation is named by `metadata.session`, `conversation`, or the session that the gateway noted, unless that is
    only the user: a user's conversations must not all fall on one side. `variable`: the variable text, where it is
    known already.
    """
    named = _conversation(request) or exchange.session
    if named and named not in (request.get("user"), request.get("safety_identifier")):
        return hashed("session", named)
    return hashed("text", variable_text(request) if variable is None else variable)


def hashed(kind: str, text: str) -> str:
    """16 hexadecimal digits of `text`, in a space of its own for each kind."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8, person=kind.encode()).hexdigest()


def user_of(request: Json) -> str | None:
    """Who the app says asked: `safety_identifier`, or the older `user`."""
    for key in ("safety_identifier", "user"):
        if isinstance(request.get(key), str) and request[key]:
            return str(request[key])
    return None


def metadata_of(request: Json) -> dict[str, str]:
    """The request's metadata, as far as it is text."""
    found = request.get("metadata")
    if not isinstance(found, dict):
        return {}
    return {key: value for key, value in found.items() if isinstance(value, str)}


def turns(request: Json) -> list[Json]:
    """The messages of Chat, or the input items of Responses, that are objects."""
    for key in ("messages", "input"):
        if isinstance(request.get(key), list):
            return [item for item in request[key] if isinstance(item, dict)]
    return []


def text_of(content: Any) -> str:
    """A message's content as text; what is not text as a marker."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return "\n".join(_part_text(part) for part in content if isinstance(part, dict))


def _part_text(part: Json) -> str:
    for key in ("text", "refusal"):
        if isinstance(part.get(key), str):
            return str(part[key])
    kind = str(part.get("type", "part")).removeprefix("input_").removesuffix("_url")
    content = hashlib.blake2b(msgspec.json.encode(part, order="sorted"), digest_size=8).hexdigest()
    return f"[{kind} {content}]"


def _conversation(request: Json) -> str | None:
    named = metadata_of(request).get("session")
    if named:
        return named
    conversation = request.get("conversation")
    if isinstance(conversation, dict):
        conversation = conversation.get("id")
    return conversation if isinstance(conversation, str) and conversation else None


def _encoded(value: Any) -> bytes | None:
    return None if value is None else msgspec.json.encode(value)


def _canonical(value: bytes | None) -> bytes:
    if value is None:
        return b""
    try:
        decoded = msgspec.json.decode(value)
        return b"" if decoded is None else msgspec.json.encode(decoded, order="sorted")
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return value
