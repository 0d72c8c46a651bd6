"""A client may go away at any point, a thousand times: nothing of it stays behind, and what came is recorded."""

import asyncio
import threading
import time
from collections.abc import Callable

from tests.fakes.client import RawClient
from tests.fakes.relay_server import RelayServer, address, planning
from tests.fakes.upstream import STREAM_HEAD, Conversation, ScriptedUpstream, chunk

EACH = 250
EVENT = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'
HALF_A_BODY = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{"


def script(talk: Conversation) -> None:
    """A stream begins where one was asked for; then nothing more comes, until the gateway closes."""
    request = talk.read_request()
    if request is None:
        return
    if b'"begin"' in request.body:
        talk.send(STREAM_HEAD + chunk(EVENT))
    assert talk.wait_closed(5), "the upstream's connection stayed open"


def eventually(what: str, is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def leave_before_the_head(client: RawClient, upstream: ScriptedUpstream) -> None:
    client.send(b"POST /v1/chat/completions HT")


def leave_in_the_body(client: RawClient, upstream: ScriptedUpstream) -> None:
    client.send(HALF_A_BODY)


def leave_before_the_answer(client: RawClient, upstream: ScriptedUpstream) -> None:
    client.post(b"/v1/chat/completions", b'{"model":"big"}')
    upstream.arrived.get(timeout=10)


def leave_in_the_stream(client: RawClient, upstream: ScriptedUpstream) -> None:
    client.post(b"/v1/chat/completions", b'{"stream":true,"begin":1}')
    upstream.arrived.get(timeout=10)
    client.read_until(EVENT)


def tasks_of(server: RelayServer) -> int:
    """Tasks of the serving loop, counted in it."""
    assert server.context is not None
    counted, done = [0], threading.Event()

    def count() -> None:
        counted[0] = len(asyncio.all_tasks())
        done.set()

    server.context.pool.loop.call_soon_threadsafe(count)
    assert done.wait(10)
    return counted[0]


def test_a_thousand_clients_that_leave_leave_nothing_behind() -> None:
    kinds = (leave_before_the_head, leave_in_the_body, leave_before_the_answer, leave_in_the_stream)
    with ScriptedUpstream(script) as upstream, RelayServer(planning(address(upstream.port))) as server:
        at_rest = tasks_of(server)
        for number in range(EACH * len(kinds)):
            with RawClient(server.port) as client:
                kinds[number % len(kinds)](client, upstream)
                if number % 8 < 4:
                    client.reset()
        counters, context = server.counters, server.context
        assert context is not None
        eventually("connections stayed", lambda: counters.connections == 0)
        eventually("requests stayed in flight", lambda: counters.in_flight == 0)
        eventually("upstream connections stayed", lambda: not any(context.pool._open.values()))
        eventually("connections stayed watched", lambda: len(context.sweep.watched) == 1)  # the pool itself
        assert (counters.held_bytes, len(context.clients), tasks_of(server)) == (0, 0, at_rest)
        exchanges = server.spool.wait_for(2 * EACH)
    assert not [failure for failure in upstream.failures if isinstance(failure, AssertionError)]
    assert len(exchanges) == 2 * EACH  # those whose request was whole
    assert {(one.complete, one.cause) for one in exchanges} == {(False, "client_left")}
    assert sum(one.response == EVENT for one in exchanges) == EACH
