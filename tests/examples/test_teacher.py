"""The stand-in teacher on a real socket, asked by the unmodified `openai` SDK."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import openai
import pytest
import uvicorn

from examples.teacher import FINGERPRINT, MODEL, OWNER, Pace, create_app
from examples.tickets import RESPONSE_FORMAT, messages, tickets

TICKET = next(tickets(seed=1, count=1))
ASK: dict[str, Any] = {"model": MODEL, "messages": messages(TICKET), "response_format": RESPONSE_FORMAT}


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    config = uvicorn.Config(create_app(Pace(1, 0), seed=7), port=0, log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the stand-in did not start"
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/v1"
    server.should_exit = True
    thread.join()


@pytest.fixture
def client(base_url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=base_url, api_key="any", max_retries=0) as client:
        yield client


def test_answers_with_the_asked_json(client: openai.OpenAI) -> None:
    completion = client.chat.completions.create(**ASK, temperature=0)
    assert set(json.loads(completion.choices[0].message.content)) == {"category", "priority", "summary"}
    assert completion.choices[0].finish_reason == "stop"
    assert completion.system_fingerprint == FINGERPRINT
    assert completion.usage.prompt_tokens > completion.usage.completion_tokens > 5
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens
    assert completion._request_id.startswith("req_")


def test_streams_role_pieces_finish_and_usage(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(**ASK, temperature=0)
    chunks = list(
        client.chat.completions.create(**ASK, temperature=0, stream=True, stream_options={"include_usage": True})
    )
    deltas = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(deltas) == whole.choices[0].message.content
    assert len([delta for delta in deltas if delta]) > 3
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert len({(chunk.id, chunk.created) for chunk in chunks}) == 1


def test_stream_without_the_option_has_no_usage_and_ends_with_done(client: openai.OpenAI) -> None:
    with client.chat.completions.with_streaming_response.create(**ASK, stream=True) as response:
        lines = [line for line in response.iter_lines() if line]
    assert response.headers["content-type"].startswith("text/event-stream")
    assert lines[-1] == "data: [DONE]"
    assert not any("usage" in line for line in lines)


def test_a_seed_fixes_the_answer_and_without_one_it_varies(client: openai.OpenAI) -> None:
    hard = "my refund came through, the parcel too. the invoice? cancel. password. error"
    ask: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": hard}], "temperature": 2}
    seeded = {client.chat.completions.create(**ask, seed=5).choices[0].message.content for _ in range(10)}
    free = {client.chat.completions.create(**ask).choices[0].message.content for _ in range(30)}
    assert len(seeded) == 1
    assert len(free) > 1


def test_answers_in_prose_where_no_json_is_asked(client: openai.OpenAI) -> None:
    ask: dict[str, Any] = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Please refund order 5"}],
        "temperature": 0,
    }
    assert client.chat.completions.create(**ask).choices[0].message.content == (
        "This is about refund, priority normal: Please refund order 5."
    )


def test_stops_at_the_token_limit(client: openai.OpenAI) -> None:
    completion = client.chat.completions.create(**ASK, max_completion_tokens=3)
    assert completion.choices[0].finish_reason == "length"
    assert completion.usage.completion_tokens == 3


def test_refuses_metadata_without_store(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(**ASK, metadata={"app": "triage"})
    assert refused.value.param == "metadata"
    assert client.chat.completions.create(**ASK, metadata={"app": "triage"}, store=True).choices


def test_refuses_what_it_does_not_know_in_openais_shape(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="Invalid URL") as unknown_route:
        client.embeddings.create(model=MODEL, input="x")
    assert unknown_route.value.type == "invalid_request_error"
    with pytest.raises(openai.NotFoundError, match="does not exist") as unknown_model:
        client.chat.completions.create(**{**ASK, "model": "other"})
    assert unknown_model.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError, match="body"):
        client.chat.completions.create(**{**ASK, "messages": "x"})


def test_says_that_it_is_a_stand_in(client: openai.OpenAI) -> None:
    assert [(model.id, model.owned_by) for model in client.models.list()] == [(MODEL, OWNER)]
    assert "stand-in" in OWNER


async def test_many_at_once_do_not_wait_for_each_other(base_url: str) -> None:
    async with openai.AsyncOpenAI(base_url=base_url, api_key="any", max_retries=0) as client:
        asks: list[dict[str, Any]] = [{**ASK, "messages": messages(ticket)} for ticket in tickets(seed=2, count=40)]
        answers = await asyncio.gather(*(client.chat.completions.create(**ask) for ask in asks))
    assert len({answer.id for answer in answers}) == 40
