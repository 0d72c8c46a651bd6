"""Response bytes → the whole answer: unary JSON or event stream, Chat Completions or Responses. Pure.

Nothing here raises on what a server may have sent: what cannot be understood is kept as text under `RAW_KEY`, and
`Answer.error` says so. Everything of an Answer derives from the reassembled object `raw` and the error (`answer_from`),
so that whoever edits `raw` (redaction) gets a consistent answer again.
"""

import re
from typing import Any

import msgspec

from capture import chat_stream, responses_stream
from capture.content import decoded
from capture.events import parse
from capture.exchange import Answer, Exchange, Usage

RAW_KEY = "stillhouse_raw"
MAXIMUM_DEPTH = 100

_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")

Json = dict[str, Any]


def assemble(exchange: Exchange) -> Answer:
    """The answer of an exchange; `Answer.error` when the server sent one, or what came is no answer."""
    content = decoded(exchange.response, exchange.response_encoding)
    if not content.data:
        return answer_from({}, _problem("empty", content.problem) if content.problem else None)
    if is_event_stream(exchange, content.data):
        raw, error = _from_events(exchange.route, content.data)
    else:
        raw, error = _from_json(content.data)
    if content.problem and error is None:
        error = _problem("content", content.problem)
    return answer_from(raw, error)


def request_json(exchange: Exchange) -> Json | None:
    """The request's JSON object, or None when it is none."""
    return json_object(decoded(exchange.request, exchange.request_encoding).data)


def request_or_raw(exchange: Exchange) -> tuple[Json, bool]:
    """The request's JSON object and True; or its text under `RAW_KEY` and False."""
    content = decoded(exchange.request, exchange.request_encoding)
    value = json_object(content.data)
    return (value, True) if value is not None else ({RAW_KEY: content.data.decode("utf-8", "replace")}, False)


def is_event_stream(exchange: Exchange, data: bytes) -> bool:
    """By its content type; where that is missing, by its first bytes."""
    kind = exchange.response_type.partition(";")[0].strip().lower()
    if kind:
        return kind == "text/event-stream"
    return data.lstrip()[:5] in (b"data:", b"event") or data.startswith(b":")


def answer_from(raw: Json, error: Json | None = None) -> Answer:
    """An Answer over a response object in either API's shape."""
    error = error or _error_of(raw)
    if raw.get("object") == "response" or isinstance(raw.get("output"), list):
        return _responses_answer(raw, error)
    return _chat_answer(raw, error)


def _from_json(data: bytes) -> tuple[Json, Json | None]:
    value = json_object(data)
    if value is not None:
        return value, None
    return {RAW_KEY: data.decode("utf-8", "replace")}, _problem("not_json", "the answer is not a JSON object")


def _from_events(route: str, data: bytes) -> tuple[Json, Json | None]:
    payloads: list[Json] = []
    broken = 0
    for event in parse(data):
        if event.data.strip() == b"[DONE]":
            continue
        value = json_object(event.data)
        if value is None:
            broken += 1
        else:
            payloads.append(value)
    join = responses_stream.joined if route == "responses" else chat_stream.joined
    raw, error = join(payloads)
    if broken and error is None:
        error = _problem("not_json", f"{broken} events of the stream are not JSON objects")
    return raw, error


def json_object(data: bytes | str) -> Json | None:
    """The JSON object that `data` is; None when it is none, or nested deeper than `MAXIMUM_DEPTH`."""
    value = json_nest(data)
    return value if isinstance(value, dict) else None


def json_nest(data: bytes | str) -> Json | list[Any] | None:
    """The same of an object or an array."""
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return None
    return value if isinstance(value, dict | list) and not is_too_deep(value, len(data)) else None


def is_too_deep(value: Any, size: int) -> bool:
    """Deeper than what recursive code can walk. A short one (`size`, bytes of JSON) cannot be, and is not looked at."""
    level = [value]
    for _ in range(MAXIMUM_DEPTH if size > 2 * MAXIMUM_DEPTH else 0):
        deeper: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                deeper += [child for child in item.values() if isinstance(child, dict | list)]
            elif isinstance(item, list):
                deeper += [child for child in item if isinstance(child, dict | list)]
        if not deeper:
            return False
        level = deeper
    return size > 2 * MAXIMUM_DEPTH


def holds_nul(data: bytes) -> bool:
    """Whether a text of this JSON holds NUL; an escaped backslash with u0000 behind it is none."""
    return _NUL.search(data) is not None


def _problem(code: str, message: str | None) -> Json:
    return {"message": message or code, "type": "stillhouse_assembly", "param": None, "code": code}


def _error_of(raw: Json) -> Json | None:
    error = raw.get("error")
    if isinstance(error, dict):
        return error
    return {"message": error, "type": None, "param": None, "code": None} if isinstance(error, str) else None


def _chat_answer(raw: Json, error: Json | None) -> Answer:
    found = raw.get("choices")
    choices = [choice for choice in found if isinstance(choice, dict)] if isinstance(found, list) else []
    first = min(choices, key=_index, default={})
    message = first.get("message")
    return Answer(
        message=message if isinstance(message, dict) else {},
        finish_reason=_text(first.get("finish_reason")),
        usage=_usage(raw.get("usage")),
        completion_id=_text(raw.get("id")),
        model=_text(raw.get("model")),
        choices=choices,
        error=error,
        raw=raw,
    )


def _index(choice: Json) -> int:
    index = choice.get("index")
    return index if isinstance(index, int) else 0


def _responses_answer(raw: Json, error: Json | None) -> Answer:
    message = responses_stream.message_of(raw)
    finish_reason = responses_stream.finish_reason_of(raw)
    return Answer(
        message=message,
        finish_reason=finish_reason,
        usage=_usage(raw.get("usage")),
        completion_id=_text(raw.get("id")),
        model=_text(raw.get("model")),
        choices=[{"index": 0, "message": message, "finish_reason": finish_reason}] if message else [],
        error=error,
        raw=raw,
    )


def _usage(value: Any) -> Usage | None:
    """Either API's usage object."""
    if not isinstance(value, dict):
        return None
    incoming = value.get("prompt_tokens", value.get("input_tokens"))
    outgoing = value.get("completion_tokens", value.get("output_tokens"))
    if not isinstance(incoming, int) or not isinstance(outgoing, int):
        return None
    details = value.get("prompt_tokens_details") or value.get("input_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else 0
    return Usage(input_tokens=incoming, output_tokens=outgoing, cached_tokens=cached if isinstance(cached, int) else 0)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
