"""A relay in a real uvicorn on a real socket, run by a thread: with a router of one line and a spool in memory."""

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import uvicorn
import uvloop
from fastapi import FastAPI, Request

from capture.exchange import Exchange, decode
from gateway.plan import Address, Leg, Plan, Refusal, RequestHead, Surface
from gateway.relay.context import STATE_KEY, Limits, RelayContext, open_relay
from gateway.relay.downstream import RelayProtocol


class MemorySpool:
    """Keeps records; `room` is False when it is full."""

    def __init__(self) -> None:
        self.records: list[bytes] = []
        self.room = True
        self.opted_out = 0
        self.appended = threading.Condition()

    def append(self, record: bytes, task: str | None = None) -> bool:  # noqa: ARG002
        if not self.room:
            return False
        with self.appended:
            self.records.append(record)
            self.appended.notify_all()
        return True

    def opt_out(self, task: str | None) -> None:  # noqa: ARG002
        self.opted_out += 1

    @property
    def exchanges(self) -> list[Exchange]:
        return [decode(record) for record in self.records]

    def wait_for(self, count: int) -> list[Exchange]:
        with self.appended:
            assert self.appended.wait_for(lambda: len(self.records) >= count, 10), "no record came"
        return self.exchanges


Screen = Callable[[RequestHead], Refusal | None]
Planner = Callable[[RequestHead, bytes | None], Plan | Refusal]


class OneRouter:
    """Chat completions and responses are captured, /local is the app's, the rest is passed; `planner` plans."""

    def __init__(self, planner: Planner, screen: Screen | None = None, peeks: bool = False) -> None:
        self.planner = planner
        self._screen = screen
        self._peeks = peeks

    def surface(self, method: str, path: str) -> Surface:
        if path.startswith("/local"):
            return Surface.LOCAL
        if method == "POST" and path in ("/v1/chat/completions", "/v1/responses"):
            return Surface.CAPTURED
        return Surface.PASSED

    def plan(self, head: RequestHead, body: bytes | None) -> Plan | Refusal:
        return self.planner(head, body)

    def screen(self, head: RequestHead) -> Refusal | None:
        return self._screen(head) if self._screen else None

    def peeks(self, head: RequestHead) -> bool:  # noqa: ARG002
        return self._peeks

    def plan_passed(self, head: RequestHead, beginning: bytes) -> Plan | Refusal:
        plan = self.planner(head, beginning)
        return plan if isinstance(plan, Refusal) else Plan(replace_body(plan.leg))


def address(port: int, **limits: Any) -> Address:
    return Address("fake", "127.0.0.1", port, limits.pop("tls", False), **limits)


def leg(head: RequestHead, body: bytes | None, to: Address, served_model: str = "big") -> Leg:
    return Leg(to, head.method, head.target, head.headers, body, served_model, to.upstream)


def replace_body(sent: Leg) -> Leg:
    """The same leg with its body streamed."""
    return Leg(sent.address, sent.method, sent.target, sent.headers, None, sent.served_model, sent.circuit)


def planning(to: Address, **more: Any) -> Planner:
    """Sends everything to one upstream; captures what has a body held whole."""

    def plan(head: RequestHead, body: bytes | None) -> Plan:
        route = "responses" if head.target.startswith("/v1/responses") else "chat.completions"
        stream = body is not None and b'"stream":true' in body
        return Plan(leg(head, body, to), captured=body is not None, route=route if body else "", stream=stream, **more)

    return plan


def _app(start: Callable[[], RelayContext], stopped: threading.Event) -> FastAPI:
    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        context = start()
        yield {STATE_KEY: context}
        context.close()
        await asyncio.sleep(0)
        stopped.set()

    app = FastAPI(lifespan=lifespan)

    @app.api_route("/local", methods=["GET", "POST"])
    async def local(request: Request) -> dict[str, int]:
        return {"size": len(await request.body())}

    return app


class RelayServer:
    """`with RelayServer(planning(address(port))) as server:` serves on 127.0.0.1:`server.port`."""

    def __init__(
        self,
        planner: Planner,
        *,
        spool: MemorySpool | None = None,
        limits: Limits | None = None,
        tls: ssl.SSLContext | None = None,
        graceful_s: int | None = 5,
        sweep_interval_s: float = 0.05,
        screen: Screen | None = None,
        peeks: bool = False,
    ) -> None:
        self.spool = spool or MemorySpool()
        self.context: RelayContext | None = None
        self._router = OneRouter(planner, screen, peeks)
        self._limits = limits
        self._tls = tls
        self._sweep_interval_s = sweep_interval_s
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        config = uvicorn.Config(
            _app(self._start, threading.Event()),
            http=RelayProtocol,
            ws="none",
            lifespan="on",
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=graceful_s,
        )
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self._ready = threading.Event()

    def _start(self) -> RelayContext:
        self.context = open_relay(
            self._router, self.spool, limits=self._limits, tls=self._tls, sweep_interval_s=self._sweep_interval_s
        )
        self._ready.set()
        return self.context

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self.server.serve(sockets=[self._listener]))

    @property
    def counters(self) -> Any:
        assert self.context is not None
        return self.context.counters

    def __enter__(self) -> "RelayServer":
        self.thread.start()
        assert self._ready.wait(10)
        return self

    def stop(self) -> None:
        self.server.should_exit = True

    def __exit__(self, *raised: object) -> None:
        self.stop()
        self.thread.join(15)
        assert not self.thread.is_alive(), "the server did not end"
