"""langchain-openai and the Vercel AI SDK, in environments of their own: one conversation with a tool call each."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.gateway.environments import AbsentError, node_environment, python_environment
from tests.factories.routing import settings_of
from tests.fakes.gateway import GatewayServer
from tests.fakes.upstream import Conversation, ScriptedUpstream, response, stream

CACHE = Path(__file__).parents[2] / "data" / "clients"
CLIENTS = Path(__file__).parent / "clients"
CALL = {"id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": '{"id":1}'}}
FRAME = {"id": "chatcmpl-1", "created": 1, "model": "gpt-4.1"}
USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}


def script(talk: Conversation) -> None:
    """Asks for the tool first, and ends the conversation once it has its result."""
    while (request := talk.read_request()) is not None:
        asked = json.loads(request.body)
        last = asked["messages"][-1]
        done = last["role"] == "tool" and last["content"] == "order 1 found"
        for piece in _answer(done, bool(asked.get("stream"))):
            talk.send(piece)


def _answer(done: bool, streamed: bool) -> list[bytes]:
    said = {"role": "assistant", "content": "it is on its way"}
    message = said if done else {"role": "assistant", "content": None, "tool_calls": [CALL]}
    choice = {"index": 0, "finish_reason": "stop" if done else "tool_calls"}
    if not streamed:
        whole = {**FRAME, "object": "chat.completion", "choices": [{**choice, "message": message}], "usage": USAGE}
        return [response(json.dumps(whole).encode())]
    chunk = {**FRAME, "object": "chat.completion.chunk", "choices": [{**choice, "delta": message}]}
    return stream([b"data: " + json.dumps(chunk).encode() + b"\n\n", b"data: [DONE]\n\n"])


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayServer]:
    with ScriptedUpstream(script) as upstream:
        config = f'[upstreams.a]\nbase_url = "http://127.0.0.1:{upstream.port}/v1"\n'
        with GatewayServer(settings_of(tmp_path, config)) as server:
            yield server


def _says(command: list[str], gateway: GatewayServer) -> None:
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ran.stdout == "it is on its way", ran.stderr[-2000:]
    assert len(gateway.exchanges) == 2


@pytest.mark.timeout(600)
def test_langchain(gateway: GatewayServer) -> None:
    try:
        python = python_environment(CACHE, "langchain") / "python"
    except AbsentError as absent:
        pytest.skip(f"langchain-openai cannot be installed here: {absent}")
    _says([str(python), str(CLIENTS / "converse.py"), gateway.url], gateway)


@pytest.mark.timeout(600)
def test_the_vercel_ai_sdk(gateway: GatewayServer) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed here")
    try:
        modules = node_environment(CACHE, "vercel")
    except AbsentError as absent:
        pytest.skip(f"the Vercel AI SDK cannot be installed here: {absent}")
    _says([node, str(CLIENTS / "converse.mjs"), gateway.url, str(modules)], gateway)
