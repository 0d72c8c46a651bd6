"""`stream_usage = "ask"`: asked for by us, kept and counted, and never seen by the client."""

import json
from pathlib import Path
from typing import Any

import pytest

from capture.assemble import assemble
from gateway.plan import Plan
from tests.factories.routing import CONFIG, head_of, router_of, settings_of, snapshot_of
from tests.fakes.client import RawClient
from tests.fakes.gateway import GatewayServer
from tests.fakes.upstream import ScriptedUpstream, answering, stream

ASK = CONFIG.replace("[upstreams.openai]\n", '[upstreams.openai]\nstream_usage = "ask"\n')
WORD = b'data: {"choices":[{"index":0,"delta":{"content":"hi"}}]%b}\n\n'
TOTAL = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}\n\n'
DONE = b"data: [DONE]\n\n"


def sent(folder: Path, body: dict[str, Any], config: str = ASK, path: str = "/v1/chat/completions") -> Plan:
    router = router_of(snapshot_of(settings_of(folder, config)))
    plan = router.plan(head_of(path, accept_encoding="gzip"), json.dumps({"model": "gpt-4.1"} | body).encode())
    assert isinstance(plan, Plan)
    return plan


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ({}, {"include_usage": True}),
        ({"stream_options": None}, {"include_usage": True}),
        (
            {"stream_options": {"include_usage": False, "include_obfuscation": False}},
            {"include_usage": True, "include_obfuscation": False},
        ),
    ],
)
def test_usage_is_asked_for_where_the_client_did_not(tmp_path: Path, options: Any, asked: Any) -> None:
    plan = sent(tmp_path, {"stream": True, "new": 1.0} | options)
    wanted = {"model": "gpt-4.1", "stream": True, "new": 1.0, "stream_options": asked}
    assert json.loads(plan.leg.body or b"") == wanted
    assert plan.leg.hides_usage
    assert dict(plan.leg.headers)[b"accept-encoding"] == b"identity"


@pytest.mark.parametrize(
    ("body", "config", "path"),
    [
        ({"stream": True, "stream_options": {"include_usage": True}}, ASK, "/v1/chat/completions"),
        ({"stream": True, "stream_options": "odd"}, ASK, "/v1/chat/completions"),
        ({"stream": True, "stream_options": {"odd": "\ud800"}}, ASK, "/v1/chat/completions"),
        ({"stream": False}, ASK, "/v1/chat/completions"),
        ({"stream": True, "input": "x"}, ASK, "/v1/responses"),
        ({"stream": True}, CONFIG, "/v1/chat/completions"),
    ],
)
def test_everything_else_goes_as_it_came(tmp_path: Path, body: Any, config: str, path: str) -> None:
    plan = sent(tmp_path, body, config, path)
    assert json.loads(plan.leg.body or b"") == {"model": "gpt-4.1"} | body
    assert not plan.leg.hides_usage
    assert dict(plan.leg.headers)[b"accept-encoding"] == b"gzip"


@pytest.mark.parametrize("options", [{}, {"stream_options": {"include_obfuscation": False}}])
def test_it_is_asked_for_beside_other_edits(tmp_path: Path, options: Any) -> None:
    plan = sent(tmp_path, {"model": "triage", "stream": True, "metadata": {"a": "b"}} | options)
    asked = {"include_usage": True} | options.get("stream_options", {})
    assert json.loads(plan.leg.body or b"") == {"model": "gpt-4.1", "stream": True, "stream_options": asked}


def test_the_record_has_it_and_the_client_does_not(tmp_path: Path) -> None:
    events = [WORD % b',"usage":null', TOTAL, DONE]
    with ScriptedUpstream(answering(stream(events))) as upstream:
        config = f'[upstreams.up]\nbase_url = "http://127.0.0.1:{upstream.port}/v1"\nstream_usage = "ask"\n'
        with GatewayServer(settings_of(tmp_path, config)) as server, RawClient(server.port) as client:
            answer = client.chat(b'{"model":"gpt-4.1","stream":true,"messages":[]}')
            [exchange] = server.exchanges
    assert (answer.complete, answer.body) == (True, WORD % b"" + DONE)
    usage = assemble(exchange).usage
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens, usage.estimated) == (3, 2, False)
    assert exchange.request == b'{"model":"gpt-4.1","stream":true,"messages":[]}'
