"""What apps use of the `openai` SDK, unmodified, through the gateway: the upstream's bytes are what they get."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

from capture.assemble import assemble
from gateway.plan import Plan, Refusal, RequestHead
from tests.factories.routing import settings_of
from tests.fakes.gateway import GatewayServer
from tests.fakes.upstream import Conversation, Request, ScriptedUpstream, response, stream

CALL = {"id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": '{"id":1}'}}
TOOL: Any = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
ASKED: Any = [{"role": "user", "content": "hello"}]


class Ticket(BaseModel):
    category: str


def completion(message: dict[str, Any], finish_reason: str = "stop") -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish_reason}
    return {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4.1", "choices": [choice]}


def chunk(delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    whole = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(whole).encode() + b"\n\n"


def response_object(status: str, text: str) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": []}
    message = {"type": "message", "id": "msg_1", "role": "assistant", "status": status, "content": [part]}
    frame = {"id": "resp_1", "object": "response", "created_at": 1, "model": "gpt-4.1", "status": status}
    rest = {"tools": [], "tool_choice": "auto", "parallel_tool_calls": True, "output": [message] if text else []}
    return {**frame, **rest}


def event(kind: str, number: int, **fields: Any) -> bytes:
    body = json.dumps({"type": kind, "sequence_number": number, **fields}).encode()
    return b"event: " + kind.encode() + b"\ndata: " + body + b"\n\n"


PART = {"type": "output_text", "text": "", "annotations": []}
ITEM = {"type": "message", "id": "msg_1", "role": "assistant", "status": "in_progress", "content": []}
AT: Any = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
RESPONSE_EVENTS = [
    event("response.created", 0, response=response_object("in_progress", "")),
    event("response.output_item.added", 1, output_index=0, item=ITEM),
    event("response.content_part.added", 2, part=PART, **AT),
    event("response.output_text.delta", 3, delta="hi", logprobs=[], **AT),
    event("response.completed", 4, response=response_object("completed", "hi")),
]


def answer(request: Request) -> list[bytes]:
    path = request.start.split()[1].partition(b"?")[0]
    if path == b"/v1/files":
        found = b"\x00\xff raw" in request.body
        status = "processed" if found else "error"
        file = {"id": "file-1", "object": "file", "bytes": 1, "created_at": 1, "filename": "f", "status": status}
        return [response(json.dumps({**file, "purpose": "batch"}).encode())]
    asked = json.loads(request.body)
    if path == b"/v1/embeddings":
        data = [{"object": "embedding", "index": 0, "embedding": [0.5, 1.0]}]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        return [response(json.dumps({"object": "list", "data": data, "model": "e", "usage": usage}).encode())]
    if path == b"/v1/responses":
        whole = response(json.dumps(response_object("completed", "hi")).encode())
        return stream(RESPONSE_EVENTS) if asked.get("stream") else [whole]
    if asked.get("stream"):
        first = [b": keep-alive\n\n", chunk({"role": "assistant", "content": "he"})]
        return stream([*first, chunk({"content": "y"}), chunk({}, "stop"), b"data: [DONE]\n\n"])
    if asked.get("tools"):
        return [response(json.dumps(completion({"content": None, "tool_calls": [CALL]}, "tool_calls")).encode())]
    said = '{"category":"billing"}' if asked.get("response_format") else "hey"
    return [response(json.dumps(completion({"content": said})).encode())]


def script(talk: Conversation) -> None:
    while (request := talk.read_request()) is not None:
        for piece in answer(request):
            talk.send(piece)


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayServer]:
    with ScriptedUpstream(script) as upstream:
        config = f'[upstreams.a]\nbase_url = "http://127.0.0.1:{upstream.port}/v1"\n'
        with GatewayServer(settings_of(tmp_path, config)) as gateway:
            yield gateway


@pytest.fixture
def client(gateway: GatewayServer) -> Iterator[OpenAI]:
    with OpenAI(base_url=gateway.url, api_key="sk-client", max_retries=0) as client:
        yield client


def test_structured_output(client: OpenAI) -> None:
    parsed = client.chat.completions.parse(model="gpt-4.1", messages=ASKED, response_format=Ticket)
    assert parsed.choices[0].message.parsed == Ticket(category="billing")


def test_tools(client: OpenAI, gateway: GatewayServer) -> None:
    reply = client.chat.completions.create(model="gpt-4.1", messages=ASKED, tools=[TOOL])
    (call,) = reply.choices[0].message.tool_calls or ()
    assert call.model_dump(exclude_none=True) == CALL
    assert assemble(gateway.exchanges[0]).message["tool_calls"] == [CALL]


def test_the_streaming_helper(client: OpenAI, gateway: GatewayServer) -> None:
    with client.chat.completions.stream(model="gpt-4.1", messages=ASKED) as events:
        assert events.get_final_completion().choices[0].message.content == "hey"
    assert assemble(gateway.exchanges[0]).text == "hey"


def test_responses_unary_and_streamed(client: OpenAI, gateway: GatewayServer) -> None:
    assert client.responses.create(model="gpt-4.1", input="hello").output_text == "hi"
    with client.responses.stream(model="gpt-4.1", input="hello") as events:
        assert events.get_final_response().output_text == "hi"
    assert [(exchange.route, assemble(exchange).text) for exchange in gateway.exchanges] == [("responses", "hi")] * 2


def test_what_is_not_captured_passes_binary_included(client: OpenAI, gateway: GatewayServer) -> None:
    assert client.embeddings.create(model="e", input="x", encoding_format="float").data[0].embedding == [0.5, 1.0]
    assert client.files.create(file=("f", b"\x00\xff raw"), purpose="batch").status == "processed"
    assert gateway.exchanges == []


def test_the_async_client(gateway: GatewayServer) -> None:
    async def talk() -> list[str | None]:
        async with AsyncOpenAI(base_url=gateway.url, api_key="sk-client", max_retries=0) as client:
            unary = client.chat.completions.create(model="gpt-4.1", messages=ASKED)
            replies = await asyncio.gather(unary, *(_streamed(client) for _ in range(5)))
            return [reply if isinstance(reply, str) else reply.choices[0].message.content for reply in replies]

    assert asyncio.run(talk()) == ["hey"] * 6
    assert len(gateway.exchanges) == 6


async def _streamed(client: AsyncOpenAI) -> str:
    chunks = await client.chat.completions.create(model="gpt-4.1", messages=ASKED, stream=True)
    return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])


def test_the_async_streaming_helpers(gateway: GatewayServer) -> None:
    async def talk() -> tuple[str | None, str]:
        async with AsyncOpenAI(base_url=gateway.url, api_key="sk-client", max_retries=0) as client:
            async with client.chat.completions.stream(model="gpt-4.1", messages=ASKED) as events:
                chat = await events.get_final_completion()
            async with client.responses.stream(model="gpt-4.1", input="hello") as events:
                answered = await events.get_final_response()
        return chat.choices[0].message.content, answered.output_text

    assert asyncio.run(talk()) == ("hey", "hi")
    assert [assemble(exchange).text for exchange in gateway.exchanges] == ["hey", "hi"]


def test_raw_and_streamed_responses(client: OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model="gpt-4.1", messages=ASKED)
    assert raw.headers["x-stillhouse-arm"] == "teacher"
    assert raw.parse().choices[0].message.content == "hey"
    with client.chat.completions.with_streaming_response.create(model="gpt-4.1", messages=ASKED) as streamed:
        assert b'"hey"' in b"".join(streamed.iter_bytes())


def test_a_conversation_with_a_tool_call(client: OpenAI, gateway: GatewayServer) -> None:
    called = client.chat.completions.create(model="gpt-4.1", messages=ASKED, tools=[TOOL]).choices[0].message
    result: Any = {"role": "tool", "tool_call_id": "call_1", "content": "found"}
    said = client.chat.completions.create(model="gpt-4.1", messages=[*ASKED, called, result])  # type: ignore[list-item]
    assert said.choices[0].message.content == "hey"
    kept = json.loads(gateway.exchanges[1].request)["messages"]
    assert [message["role"] for message in kept] == ["user", "assistant", "tool"]
    assert kept[1]["tool_calls"] == [CALL]


def test_the_sdks_heads_repeat_so_that_they_are_read_once_a_connection(
    client: OpenAI, gateway: GatewayServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    router = gateway.app.state.router
    heads: list[RequestHead] = []
    planned = router.plan

    def plan(head: RequestHead, body: bytes | None) -> Plan | Refusal:
        heads.append(head)
        return planned(head, body)  # type: ignore[no-any-return]

    monkeypatch.setattr(router, "plan", plan)
    for count in (1, 20, 300):
        client.chat.completions.create(model="gpt-4.1", messages=[{"role": "user", "content": "x" * count}])
    assert [head is heads[0] for head in heads] == [True] * 3
