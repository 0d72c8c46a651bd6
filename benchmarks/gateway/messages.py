"""What every peer relays: one request, one unary answer and one stream, of the sizes that the figures are for."""

import json

MODEL = "gpt-4.1"
EVENTS = 50
EVENT_BYTES = 280
_ASKED_BYTES = 600
_ANSWERED_BYTES = 800
_FRAME = {"id": "chatcmpl-bench", "created": 1_780_000_000, "model": MODEL, "system_fingerprint": "fp_bench"}
_SYSTEM = "You sort support tickets. Answer in JSON with the fields category, priority and summary."


def request_body(stream: bool) -> bytes:
    """About 0.6 kB."""
    asked = {"model": MODEL, "stream": stream, "temperature": 0, "max_tokens": 200}
    messages = [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": ""}]
    return _padded({**asked, "messages": messages}, messages[1], _ASKED_BYTES)


def unary_body() -> bytes:
    """About 0.8 kB."""
    message = {"role": "assistant", "content": ""}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    usage = {"prompt_tokens": 120, "completion_tokens": 90, "total_tokens": 210}
    whole = {**_FRAME, "object": "chat.completion", "choices": [choice], "usage": usage}
    return _padded(whole, message, _ANSWERED_BYTES)


def events() -> list[bytes]:
    """50 events of 280 bytes, the last but one with the reason why it ended, and then `[DONE]`."""
    middle = [_event({"content": ""}, None) for _ in range(EVENTS - 1)]
    return [*middle, _event({}, "stop"), b"data: [DONE]\n\n"]


def _event(delta: dict[str, str], finish_reason: str | None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    whole = {**_FRAME, "object": "chat.completion.chunk", "choices": [choice]}
    body = json.dumps(whole) if finish_reason else _padded(whole, delta, EVENT_BYTES - len("data: \n\n")).decode()
    return f"data: {body}\n\n".encode()


def _padded(whole: dict[str, object], place: dict[str, str], size: int) -> bytes:
    """The object as JSON of `size` bytes, by a longer text in its `place`."""
    short = len(json.dumps(whole))
    place["content"] = ("the parcel has not arrived yet " * size)[: size - short]
    return json.dumps(whole).encode()
