"""Exchanges as the gateway appends them: raw bytes of both bodies."""

from itertools import count
from typing import Any

import msgspec

from capture.exchange import Exchange
from capture.ids import new_id

_number = count(1)


def json_bytes(value: Any) -> bytes:
    return msgspec.json.encode(value)


def completion(content: str = '{"category": "billing"}', **overrides: Any) -> dict[str, Any]:
    """A unary chat completion's body."""
    number = next(_number)
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 20, "completion_tokens": 8, "total_tokens": 28}
    known = {"id": f"chatcmpl-{number}", "object": "chat.completion", "created": 1, "model": "gpt-4.1-2025-04-14"}
    return {**known, "choices": [choice], "usage": usage, **overrides}


def chat_request(text: str = "Where is my order?", **overrides: Any) -> dict[str, Any]:
    messages = [{"role": "system", "content": "Sort the ticket."}, {"role": "user", "content": text}]
    return {"model": "gpt-4.1", "messages": messages, **overrides}


def stream_of(chunks: list[dict[str, Any]], done: bool = True) -> bytes:
    """An event stream of these chunks."""
    lines = [b"data: " + json_bytes(chunk) + b"\n\n" for chunk in chunks]
    return b"".join(lines) + (b"data: [DONE]\n\n" if done else b"")


def new_exchange(
    request: dict[str, Any] | None = None, answer: dict[str, Any] | None = None, **overrides: Any
) -> Exchange:
    """A teacher's complete unary answer in task `triage`; overrides are fields of Exchange."""
    known: dict[str, Any] = {
        "id": new_id(),
        "started_at": 1_780_000_000.0,
        "route": "chat.completions",
        "task": "triage",
        "upstream": "teacher",
        "model": "gpt-4.1",
        "served_model": "gpt-4.1",
        "status": 200,
        "duration_ms": 120.0,
        "request": json_bytes(chat_request() if request is None else request),
        "response": json_bytes(completion() if answer is None else answer),
        "response_type": "application/json",
    }
    return Exchange(**known | overrides)


def streamed(data: bytes, **overrides: Any) -> Exchange:
    """An exchange whose answer was an event stream of these bytes."""
    return new_exchange(response=data, response_type="text/event-stream; charset=utf-8", stream=True, **overrides)
