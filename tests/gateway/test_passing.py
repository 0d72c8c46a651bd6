"""What the app itself hands on to the provider, without an app: what was taken for it, and what the circuit hears."""

from collections.abc import MutableMapping
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
from fastapi import Request
from starlette.requests import ClientDisconnect

from gateway.passing import pass_on
from gateway.plan import Address, Leg, Plan, RequestHead
from tests.fakes.upstream import ScriptedUpstream, answering, response


class OnePlan:
    """A router that sends everything to one port, and writes down what becomes of it."""

    def __init__(self, port: int) -> None:
        self.heard: list[bool] = []
        self.given_back = 0
        self._port = port

    def plan(self, head: RequestHead, body: bytes | None) -> Plan:
        address = Address("up", "127.0.0.1", self._port, False)
        leg = Leg(address, head.method, head.target, head.headers, body, circuit="up")
        return Plan(leg, release=(self._give_back,), observe=lambda _circuit, answered: self.heard.append(answered))

    def _give_back(self) -> None:
        self.given_back += 1


def request_by(router: OnePlan, client: httpx2.AsyncClient) -> Request:
    app = SimpleNamespace(state=SimpleNamespace(router=router, client=client))
    path = "/v1/files"
    scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b""}
    return Request(scope | {"headers": [], "app": app, "asgi": {"spec_version": "2.4"}})


async def test_a_client_that_left_before_the_answer_began_leaves_nothing_taken() -> None:
    async def gone(_message: MutableMapping[str, Any]) -> None:
        raise OSError("the client has left")

    with ScriptedUpstream(answering(response(b"{}"))) as upstream:
        router = OnePlan(upstream.port)
        async with httpx2.AsyncClient() as client:
            request = request_by(router, client)
            answer = await pass_on(request)
            assert router.given_back == 0
            with pytest.raises(ClientDisconnect):
                await answer(request.scope, request.receive, gone)
            assert router.given_back == 1


@pytest.mark.parametrize(
    ("status", "answered"),
    [
        (b"200 OK", True),
        (b"404 Not Found", True),
        (b"500 Oops", False),
        (b"501 Not Implemented", True),
        (b"507 Insufficient Storage", True),
        (b"529 Overloaded", False),
    ],
)
async def test_its_circuit_hears_what_the_relays_would(status: bytes, answered: bool) -> None:
    sent: list[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    with ScriptedUpstream(answering(response(b"{}", status=status))) as upstream:
        router = OnePlan(upstream.port)
        async with httpx2.AsyncClient() as client:
            request = request_by(router, client)
            await (await pass_on(request))(request.scope, request.receive, send)
    assert (router.heard, router.given_back) == ([answered], 1)
    assert (sent[0]["status"], b"".join(part["body"] for part in sent[1:])) == (int(status[:3]), b"{}")
