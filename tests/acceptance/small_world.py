"""A world small enough for the tiny model: tickets of a few words, and a teacher that reads them by those words."""

import argparse
import json
import random
import sys
import time
from collections.abc import Iterator
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from examples.demo.world import Ports, Teacher, World
from examples.tickets import RESPONSE_FORMAT, Ticket, Truth

WORDS = {"billing": "invoice", "refund": "money", "login": "password", "delivery": "parcel"}
URGENCY = {"low": "someday", "high": "today"}
FILLERS = ("please", "hello", "thanks", "again", "my", "the", "about", "for", "with", "this")
MODEL = "small-teacher"


def stream(seed: int, count: int, start: int) -> Iterator[Ticket]:
    """Each ticket depends on its number alone; every third customer writes twice."""
    for index in range(start, start + count):
        draw = random.Random(f"{seed}:{index}")
        truth = Truth(draw.choice(list(WORDS)), draw.choice(list(URGENCY)))
        words = [
            WORDS[truth.category],
            URGENCY[truth.priority],
            *draw.choices(FILLERS, k=3),
            str(draw.randrange(10**6)),
        ]
        draw.shuffle(words)
        yield Ticket(
            f"small-{seed}-{index:06d}", " ".join(words), "en", truth, f"customer-{seed}-{index * 3 // 4}", False
        )


def messages(ticket: Ticket) -> list[dict[str, str]]:
    return [{"role": "system", "content": "Sort."}, {"role": "user", "content": ticket.text}]


def read(text: str) -> dict[str, str]:
    """Right but for every 25th ticket or so, where the number in it misleads."""
    words = text.split()
    category = next((name for name, word in WORDS.items() if word in words), "billing")
    if any(word.isdigit() and int(word) % 25 == 0 for word in words):
        category = next(name for name in WORDS if name != category)
    return {"category": category, "priority": "high" if "today" in words else "low", "summary": category}


def teacher(ports: Ports) -> Teacher:
    command = (sys.executable, "-m", "tests.acceptance.small_world", "--port", str(ports.teacher))
    return Teacher(MODEL, f"http://127.0.0.1:{ports.teacher}/v1", command)


SMALL = World(
    stream=stream,
    messages=messages,
    response_format=RESPONSE_FORMAT,
    teacher=teacher,
    training='base = "tiny"\nmethod = "full"\nepochs = 15\nlearning_rate = 3e-3\nbatch_size = 16',
    rollout="shares = [0.2, 0.95]\nmargin = 0.2\nalpha = 0.05\nminimum_pairs = 20\nminimum_sessions = 10\n"
    "watch_share = 1.0\ndeadline_s = 20",
    collected=480,
    per_s=10,
    spoilt_strength=0.1,
)


def create_app() -> FastAPI:
    app = FastAPI()

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/v1/chat/completions")
    async def complete(request: Request) -> Response:
        body = await request.json()
        content = json.dumps(read(body["messages"][-1]["content"]))
        if body.get("stream"):
            return StreamingResponse(_events(content), media_type="text/event-stream")
        message = {"role": "assistant", "content": content}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 20, "completion_tokens": 15, "total_tokens": 35}
        return JSONResponse({**_head("chat.completion"), "choices": [choice], "usage": usage})

    return app


def _events(content: str) -> Iterator[str]:
    deltas: list[dict[str, Any]] = [{"role": "assistant"}, *({"content": part} for part in content.split("#"))]
    for delta in deltas:
        choices = [{"index": 0, "delta": delta, "finish_reason": None}]
        yield f"data: {json.dumps({**_head('chat.completion.chunk'), 'choices': choices})}\n\n"
    end = [{"index": 0, "delta": {}, "finish_reason": "stop"}]
    yield f"data: {json.dumps({**_head('chat.completion.chunk'), 'choices': end})}\n\n"
    yield "data: [DONE]\n\n"


def _head(kind: str) -> dict[str, Any]:
    now = time.time_ns()
    return {"id": f"chatcmpl-{now}", "object": kind, "created": now // 10**9, "model": MODEL}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    uvicorn.run(create_app(), host="127.0.0.1", port=parser.parse_args().port, log_level="warning")
