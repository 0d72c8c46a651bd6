"""A script for `ScriptedUpstream`: answers Chat Completions as a provider does, unary or streamed, by a function."""

import json
from collections.abc import Callable
from typing import Any

from tests.fakes.upstream import Conversation, Script, response, stream

Speak = Callable[[dict[str, Any]], str]


def chatting(speak: Speak | str, name: str = "fake") -> Script:
    """`speak` gets the request's body and returns the answer's text; ids are `chatcmpl-NAME`."""
    say: Speak = speak if callable(speak) else lambda _request: speak

    def script(talk: Conversation) -> None:
        while (request := talk.read_request()) is not None:
            if request.start.startswith(b"GET"):
                talk.send(response(json.dumps({"object": "list", "data": [_model(name)]}).encode()))
                continue
            asked = json.loads(request.body)
            for piece in _answer(asked, say(asked), name):
                talk.send(piece)

    return script


def _answer(asked: dict[str, Any], text: str, name: str) -> list[bytes]:
    frame = {"id": f"chatcmpl-{name}", "created": 1, "model": asked.get("model", "")}
    if not asked.get("stream"):
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
        usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        whole = {**frame, "object": "chat.completion", "choices": [choice], "usage": usage}
        return [response(json.dumps(whole).encode())]
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": text[at : at + 4]} for at in range(0, len(text), 4)]
    chunks = [_chunk(frame, delta, None) for delta in deltas] + [_chunk(frame, {}, "stop")]
    return stream([*chunks, b"data: [DONE]\n\n"])


def _chunk(frame: dict[str, Any], delta: dict[str, Any], finish_reason: str | None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}
    return b"data: " + json.dumps({**frame, "object": "chat.completion.chunk", "choices": [choice]}).encode() + b"\n\n"


def _model(name: str) -> dict[str, Any]:
    return {"id": f"model-of-{name}", "object": "model", "created": 1, "owned_by": name}
