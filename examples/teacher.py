"""A stand-in for a large model: an OpenAI-compatible server that answers support tickets without being a model.

It lets the demo run without a key. It reads nothing but the request's text (see `teacher_reading`), is wrong now and
then, takes its time as a large model does, and refuses what providers refuse. Start it with
`python -m examples.teacher --port 9001`.
"""

import argparse
import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import msgspec
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException

from examples.teacher_reading import Reading, read

MODEL = "stand-in-large"
OWNER = "stillhouse-stand-in"
FINGERPRINT = "fp_stand_in_not_a_model"
_LETTERS_PER_TOKEN = 4
_TOKENS_PER_CHUNK = 3
_MESSAGE_OVERHEAD_TOKENS = 4


@dataclass(frozen=True)
class Pace:
    """How long an answer takes, to look like a large model: the first token, then each further one."""

    first_token_ms: float = 120.0
    token_ms: float = 2.0


class _Message(msgspec.Struct):
    role: str
    content: str | list[dict[str, Any]] | None = None

    def text(self) -> str:
        if isinstance(self.content, list):
            return "\n".join(str(part.get("text", "")) for part in self.content)
        return self.content or ""


class _StreamOptions(msgspec.Struct):
    include_usage: bool = False


class _Ask(msgspec.Struct):
    """The part of a chat completions request that the stand-in heeds."""

    model: str
    messages: list[_Message]
    stream: bool | None = False
    stream_options: _StreamOptions | None = None
    temperature: float | None = None
    seed: int | None = None
    store: bool | None = None
    metadata: dict[str, str] | None = None
    response_format: dict[str, Any] | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None


@dataclass(frozen=True)
class _Answer:
    """A finished answer, cut into its tokens."""

    tokens: Sequence[str]
    finish_reason: str
    prompt_tokens: int
    model: str
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def usage(self) -> dict[str, int]:
        answered = len(self.tokens)
        total = self.prompt_tokens + answered
        return {"prompt_tokens": self.prompt_tokens, "completion_tokens": answered, "total_tokens": total}

    def envelope(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": FINGERPRINT,
        }


class _RefusalError(Exception):
    """A request that a provider would refuse, too."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.param, self.code = status, param, code


def create_app(pace: Pace | None = None, seed: int | None = None) -> FastAPI:
    """The stand-in as an app; `seed` fixes the order of its random draws (None: they differ with every start)."""
    app = FastAPI(title="Stand-in teacher", openapi_url=None)
    draws = random.Random(seed)
    chosen_pace = pace or Pace()

    @app.post("/v1/chat/completions")
    async def complete(request: Request) -> Response:
        ask = _decode(await request.body())
        answer = _answer(ask, draws)
        headers = {"x-request-id": f"req_{uuid4().hex}"}
        await asyncio.sleep(chosen_pace.first_token_ms / 1000)
        if ask.stream:
            with_usage = ask.stream_options is not None and ask.stream_options.include_usage
            events = _events(answer, with_usage, chosen_pace)
            return StreamingResponse(events, media_type="text/event-stream", headers=headers)
        await asyncio.sleep(len(answer.tokens) * chosen_pace.token_ms / 1000)
        return JSONResponse(_completion(answer), headers=headers)

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [{"id": MODEL, "object": "model", "created": 0, "owned_by": OWNER}]}

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    app.add_exception_handler(_RefusalError, _refuse)
    app.add_exception_handler(HTTPException, _refuse)
    return app


def _decode(body: bytes) -> _Ask:
    try:
        ask = msgspec.json.decode(body, type=_Ask)
    except msgspec.DecodeError as error:
        raise _RefusalError(400, f"We could not read the request's body: {error}") from error
    if ask.metadata and not ask.store:
        raise _RefusalError(400, "The 'metadata' parameter is only allowed when 'store' is enabled.", "metadata")
    if ask.stream_options is not None and not ask.stream:
        message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        raise _RefusalError(400, message, "stream_options")
    if ask.model != MODEL:
        message = f"The model `{ask.model}` does not exist; this stand-in has only `{MODEL}`."
        raise _RefusalError(404, message, "model", "model_not_found")
    return ask


def _answer(ask: _Ask, draws: random.Random) -> _Answer:
    """Reads the last user message; the same request with the same `seed` gets the same answer."""
    ticket = next((message.text() for message in reversed(ask.messages) if message.role == "user"), "")
    chance = draws.getrandbits(64) if ask.seed is None else ask.seed
    temperature = 1.0 if ask.temperature is None else ask.temperature
    reading = read(ticket, temperature, random.Random(f"{chance}:{ticket}"))
    tokens = _tokens(_wording(ask, reading))
    limit = ask.max_completion_tokens or ask.max_tokens or len(tokens)
    finish_reason = "stop" if limit >= len(tokens) else "length"
    prompt_tokens = sum(len(_tokens(message.text())) + _MESSAGE_OVERHEAD_TOKENS for message in ask.messages)
    return _Answer(tokens[:limit], finish_reason, prompt_tokens, ask.model)


def _wording(ask: _Ask, reading: Reading) -> str:
    """JSON where it is asked for, by `response_format` or in the messages; a sentence otherwise."""
    wants_json = (ask.response_format or {}).get("type") in ("json_schema", "json_object")
    if wants_json or any("json" in message.text().lower() for message in ask.messages):
        fields = {"category": reading.category, "priority": reading.priority, "summary": reading.summary}
        return json.dumps(fields, ensure_ascii=False)
    return f"This is about {reading.category}, priority {reading.priority}: {reading.summary}."


def _tokens(text: str) -> list[str]:
    """The text in pieces of about a token's size, which is an estimate: there is no tokenizer here."""
    return [text[at : at + _LETTERS_PER_TOKEN] for at in range(0, len(text), _LETTERS_PER_TOKEN)]


def _completion(answer: _Answer) -> dict[str, Any]:
    message = {"role": "assistant", "content": "".join(answer.tokens), "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": answer.finish_reason}
    return {**answer.envelope("chat.completion"), "choices": [choice], "usage": answer.usage()}


async def _events(answer: _Answer, with_usage: bool, pace: Pace) -> AsyncIterator[bytes]:
    """Server-sent events: the role, a few tokens at a time, the finish reason, the usage if asked for, [DONE]."""
    head = {**answer.envelope("chat.completion.chunk"), **({"usage": None} if with_usage else {})}
    yield _event({**head, "choices": [_delta({"role": "assistant", "content": ""})]})
    for at in range(0, len(answer.tokens), _TOKENS_PER_CHUNK):
        piece = answer.tokens[at : at + _TOKENS_PER_CHUNK]
        await asyncio.sleep(len(piece) * pace.token_ms / 1000)
        yield _event({**head, "choices": [_delta({"content": "".join(piece)})]})
    yield _event({**head, "choices": [_delta({}, answer.finish_reason)]})
    if with_usage:
        yield _event({**head, "choices": [], "usage": answer.usage()})
    yield b"data: [DONE]\n\n"


def _delta(delta: dict[str, str], finish_reason: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}


def _event(chunk: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(chunk) + b"\n\n"


async def _refuse(request: Request, error: Exception) -> Response:
    """Every refusal in OpenAI's shape, unknown routes included."""
    status, message, param, code = 500, str(error), None, None
    if isinstance(error, _RefusalError):
        status, param, code = error.status, error.param, error.code
    elif isinstance(error, HTTPException):
        status, message = error.status_code, f"Invalid URL ({request.method} {request.url.path})"
    body = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
    return JSONResponse({"error": body}, status_code=status, headers={"x-request-id": f"req_{uuid4().hex}"})


def main(arguments: Sequence[str] | None = None) -> None:
    """Serves until it is stopped; `--port 0` takes a free port, which uvicorn prints."""
    parser = argparse.ArgumentParser(prog="python -m examples.teacher", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9001)
    parser.add_argument("--first-token-ms", type=float, default=Pace.first_token_ms)
    parser.add_argument("--token-ms", type=float, default=Pace.token_ms)
    parser.add_argument("--seed", type=int, default=None, help="fixes the order of the random draws")
    options = parser.parse_args(arguments)
    app = create_app(Pace(options.first_token_ms, options.token_ms), options.seed)
    uvicorn.run(app, host=options.host, port=options.port, access_log=False, log_level="info")


if __name__ == "__main__":
    main()
