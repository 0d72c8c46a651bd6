"""Teachers that fail: the next one answers, a broken one is left alone, and tried again when it may have recovered."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2

from capture.migrations import upgrade
from tests.factories.routing import settings_of
from tests.fakes.client import Answer, RawClient
from tests.fakes.gateway import GatewayServer
from tests.fakes.upstream import Conversation, Request, ScriptedUpstream, response

BODY = b'{"model":"gpt-4.1","messages":[]}'
KEY = b"authorization: Bearer sk-client\r\n"
GOOD = response(b'{"choices":[]}')
BAD = response(b'{"error":{"message":"oops"}}', status=b"500 Oops")


class Teacher:
    """A server that is well or ill (`bad` says how)."""

    def __init__(self, bad: bytes = BAD) -> None:
        self.bad = bad
        self.well = threading.Event()
        self.server = ScriptedUpstream(self._play)

    def _play(self, talk: Conversation) -> None:
        while talk.read_request() is not None:
            talk.send(GOOD if self.well.is_set() else self.bad)

    @property
    def asked(self) -> list[Request]:
        return self.server.requests


@contextmanager
def gateway(folder: Path, teacher: Teacher, second: Teacher | None = None, **breaker: float) -> Iterator[GatewayServer]:
    with ExitStack() as stack:
        first = stack.enter_context(teacher.server)
        other = stack.enter_context(second.server) if second is not None else None
        policy = ", ".join(f"{name} = {value}" for name, value in breaker.items())
        fallbacks = 'fallbacks = [{ upstream = "second", model = "gpt-other" }]' if other else ""
        beside = f"""
[upstreams.second]
base_url = "http://127.0.0.1:{other.port if other else 0}/v1"
auth = "key"
api_key_env = "SECOND_KEY"
models = ["gpt-other"]
"""
        config = f"""
[gateway]
default_upstream = "first"
[upstreams.first]
base_url = "http://127.0.0.1:{first.port}/v1"
breaker = {{ {policy} }}
{fallbacks}
{beside if other else ""}
"""
        server = GatewayServer(settings_of(folder, config), {"SECOND_KEY": "sk-second"})
        upgrade(server.app.state.store)
        yield stack.enter_context(server)


def chat(client: RawClient) -> Answer:
    return client.chat(BODY, KEY)


def test_the_next_teacher_answers_with_its_own_key_and_model_and_is_recorded(tmp_path: Path) -> None:
    ill, well = Teacher(), Teacher()
    well.well.set()
    with gateway(tmp_path, ill, well) as server, RawClient(server.port) as client:
        answers = [chat(client) for _ in range(8)]
        recorded = [(one.upstream, one.served_model, one.status) for one in server.exchanges]
    assert [answer.status for answer in answers] == [200] * 8
    assert recorded == [("second", "gpt-other", 200)] * 8
    assert len(ill.asked) == 5  # then its circuit opened: the second is asked at once
    assert {request.header(b"authorization") for request in well.asked} == {b"Bearer sk-second"}
    assert {request.body for request in well.asked} == {b'{"model":"gpt-other","messages":[]}'}
    assert {request.header(b"authorization") for request in ill.asked} == {b"Bearer sk-client"}


def test_a_broken_teacher_is_left_alone_said_so_and_tried_with_one_request(tmp_path: Path) -> None:
    teacher = Teacher()
    with gateway(tmp_path, teacher, failures=2, cool_down_s=0.05) as server, RawClient(server.port) as client:
        assert [chat(client).status for _ in range(2)] == [500, 500]
        breakers = server.app.state.breakers
        now = breakers.clock()
        breakers.clock = lambda: now  # the clock stands still: nothing here depends on how fast this machine is
        refused = chat(client)
        ready = httpx2.get(f"http://127.0.0.1:{server.port}/readyz").json()
        assert len(teacher.asked) == 2
        now += 0.06
        assert chat(client).status == 500  # the probe: still ill
        assert chat(client).status == 503
        teacher.well.set()
        now += 0.06
        assert [chat(client).status for _ in range(3)] == [200] * 3
        well = httpx2.get(f"http://127.0.0.1:{server.port}/readyz").json()
    assert (refused.status, refused.header(b"retry-after")) == (503, b"1")
    assert b'"code":"upstream_circuit_open"' in refused.body
    assert ready == {"status": "degraded", "store": "ok", "circuits": {"first": "open"}}
    assert well == {"status": "ok", "store": "ok"}


def test_a_client_error_says_nothing_of_the_upstream(tmp_path: Path) -> None:
    teacher = Teacher(response(b'{"error":{}}', status=b"400 Bad Request"))
    with gateway(tmp_path, teacher, failures=2) as server, RawClient(server.port) as client:
        assert [chat(client).status for _ in range(6)] == [400] * 6
