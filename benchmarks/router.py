"""What a request costs the gateway without the kernel: plan, relay, record and append, in process, on fake sockets.

Run: python -m benchmarks.router [REQUESTS] [--profile [--stream]]; keys required, a task matched, 0.6 kB in, 0.8 kB
out or 50 events of 280 bytes, a read each. The best of seven rounds is printed, in microseconds of CPU: it is for
comparing two versions on one machine.
"""

import asyncio
import cProfile
import pstats
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import uvicorn
import uvloop
from uvicorn.server import ServerState

from benchmarks.gateway.messages import MODEL, events, request_body, unary_body
from capture.ids import new_id
from capture.keys import create
from capture.migrations import upgrade
from capture.settings import Settings, load
from gateway.app import create_app, open_all
from gateway.relay.context import STATE_KEY, RelayContext, open_relay
from gateway.relay.downstream import RelayProtocol
from gateway.relay.upstream import UpstreamConnection

ROUNDS = 7
UPSTREAM = ("127.0.0.1", 9, False)
CONFIG = f"""
[gateway]
keys = "required"
[upstreams.bench]
base_url = "http://{UPSTREAM[0]}:{UPSTREAM[1]}/v1"
auth = "key"
api_key_env = "BENCH_KEY"
[tasks.triage]
match = {{ model = "{MODEL}" }}
teacher = {{ upstream = "bench", model = "{MODEL}" }}
"""
SDK_HEADERS = (
    "host: 127.0.0.1:8080",
    "accept-encoding: gzip, deflate",
    "connection: keep-alive",
    "accept: application/json",
    "content-type: application/json",
    "user-agent: OpenAI/Python 3.57.0",
    "x-stainless-lang: python",
    "x-stainless-package-version: 3.57.0",
    "x-stainless-os: Linux",
    "x-stainless-arch: x64",
    "x-stainless-runtime: CPython",
    "x-stainless-runtime-version: 3.11.2",
    "x-stainless-async: false",
    "x-stainless-retry-count: 0",
)
ANSWER_HEADERS = (
    "date: Tue, 24 Nov 2026 12:00:00 GMT",
    "content-type: application/json",
    "x-request-id: req_0123456789abcdef",
    "openai-processing-ms: 412",
    "x-ratelimit-limit-requests: 10000",
    "x-ratelimit-remaining-requests: 9999",
)
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"


class FakeTransport(asyncio.Transport):
    """Takes what is written and does nothing with it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += len(data)

    def is_closing(self) -> bool:
        return False

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ARG002
        return default

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def abort(self) -> None: ...

    def close(self) -> None: ...


def message(start: str, headers: tuple[str, ...], body: bytes) -> bytes:
    head = "\r\n".join((start, *headers, f"content-length: {len(body)}", "", ""))
    return head.encode() + body


def measured(step: Callable[[], object], count: int) -> float:
    """Microseconds of CPU a call."""
    rounds = []
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(count):
            step()
        rounds.append((time.process_time() - began) / count * 1e6)
    return min(rounds)


class Bench:
    """One client connection, one upstream connection, and the relay between them."""

    def __init__(self, app: Any, context: RelayContext, token: str) -> None:
        self.config = uvicorn.Config(app, http=RelayProtocol, ws="none", log_config=None)
        self.client = RelayProtocol(self.config, ServerState(), {STATE_KEY: context}, asyncio.get_running_loop())
        self.client.connection_made(FakeTransport())
        self.upstream = UpstreamConnection(context.pool, UPSTREAM)
        self.upstream.connection_made(FakeTransport())
        context.pool.idle(self.upstream)
        asking = "POST /v1/chat/completions HTTP/1.1", (*SDK_HEADERS, f"authorization: Bearer {token}")
        self.asked = message(*asking, request_body(stream=False))
        self.asked_stream = message(*asking, request_body(stream=True))
        self.answered = message("HTTP/1.1 200 OK", ANSWER_HEADERS, unary_body())
        self.streamed = [b"%x\r\n%b\r\n" % (len(event), event) for event in events()]
        self.streamed[0] = STREAM_HEAD + self.streamed[0]
        self.streamed[-1] += b"0\r\n\r\n"

    def unary(self) -> None:
        self.client.data_received(self.asked)
        self.upstream.data_received(self.answered)

    def stream(self) -> None:
        self.client.data_received(self.asked_stream)
        for data in self.streamed:
            self.upstream.data_received(data)


async def bench(settings: Settings, token: str, count: int, profile: bool) -> None:
    app = create_app(settings, open_all(settings), {"BENCH_KEY": "k"})
    state = app.state
    state.snapshots.refresh()
    plans: list[tuple[Any, ...]] = []
    planned = state.router.plan
    state.router.plan = lambda *given: plans.append(given) or planned(*given)  # what the relay passes, once
    context = open_relay(state.router, state.spool, counters=state.counters)
    here = Bench(app, context, token)
    here.unary()
    state.router.plan = planned
    assert context.counters.requests == {("chat.completions", 2, "teacher"): 1}, context.counters
    for _ in range(200):
        here.unary()
    if profile:
        once = here.stream if "--stream" in sys.argv else here.unary
        with cProfile.Profile() as profiler:
            for _ in range(count):
                once()
        pstats.Stats(profiler).sort_stats("tottime").print_stats(40)
    else:
        print(f"whole request  {measured(here.unary, count):6.1f} us")
        print(f"whole stream   {measured(here.stream, count // 10):6.1f} us")
        print(f"  its plan     {measured(lambda: planned(*plans[0]), count):6.1f} us")
        print(f"  its id       {measured(new_id, count):6.1f} us")
    cast(Any, here.client).stop()
    context.close()
    state.spool.close()
    state.store.close()


def main() -> None:
    profile = "--profile" in sys.argv
    numbers = [argument for argument in sys.argv[1:] if argument.isdigit()]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "stillhouse.toml"
        file.write_text(CONFIG)
        settings = load(file, {}, data=Path(folder) / "data")
        opened = open_all(settings)
        upgrade(opened.store)
        token, _ = create(opened.store, settings.data, "bench", [], None, time.time)
        opened.store.close()
        opened.spool.close()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(bench(settings, token, int(numbers[0]) if numbers else 5000, profile))


if __name__ == "__main__":
    main()
