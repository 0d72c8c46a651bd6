"""A load of requests and streams at a fixed rate, through a gateway and a worker that run as processes."""

import http.client
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field

from benchmarks.gateway import ours
from benchmarks.gateway.launch import Ground
from benchmarks.gateway.messages import request_body
from benchmarks.gateway.processes import Running

CLIENTS = 16
STREAMED = 3  # of ten


@dataclass
class Asked:
    """What clients got. `acknowledged`: the ids of the answers that came whole."""

    requests: int = 0
    failed: list[str] = field(default_factory=list)
    acknowledged: set[str] = field(default_factory=set)
    unary_ms: list[float] = field(default_factory=list)


class Clients:
    """Several at once that together ask at a fixed rate, as far as answers come in time, until the block ends."""

    def __init__(self, port: int, headers: dict[str, str], rate: float) -> None:
        self.asked = Asked()
        self._port, self._headers = port, headers
        self._pause_s = CLIENTS / rate
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._ask_on, args=(number,)) for number in range(CLIENTS)]

    def __enter__(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask_on(self, number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        due = time.monotonic()
        try:
            while not self._stop.wait(max(0.0, due - time.monotonic())):
                due += self._pause_s
                number += 1
                self._ask(connection, stream=number % 10 < STREAMED)
        finally:
            connection.close()

    def _ask(self, connection: http.client.HTTPConnection, *, stream: bool) -> None:
        began = time.perf_counter()
        try:
            connection.request("POST", "/v1/chat/completions", request_body(stream), self._headers)
            reply = connection.getresponse()
            said = reply.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            self._note(None, type(error).__name__, 0.0)
            return
        good = reply.status == 200 and (not stream or said.endswith(b"data: [DONE]\n\n"))
        taken_ms = 0.0 if stream else (time.perf_counter() - began) * 1000
        self._note(reply.headers.get("x-stillhouse-id"), "" if good else f"{reply.status} {said[:80]!r}", taken_ms)

    def _note(self, exchange_id: str | None, failed: str, taken_ms: float) -> None:
        with self._lock:
            self.asked.requests += 1
            if taken_ms:
                self.asked.unary_ms.append(taken_ms)
            if failed or exchange_id is None:
                self.asked.failed.append(failed or "no id")
            else:
                self.asked.acknowledged.add(exchange_id)


def started(ground: Ground, url: str, stack: ExitStack, more_config: str = "") -> dict[str, str]:
    """Upstream, gateway and worker as processes, up until the stack ends; returns what clients send.

    `url` is the store's: PostgreSQL's, or the data folder's own SQLite.
    """
    launch = ours.launch(ground, url)
    with (ground.folder / "stillhouse.toml").open("a", encoding="utf-8") as config:
        config.write(more_config)
    environment = {"PYTHONPATH": str(ours.ROOT)} | ({"DATABASE_URL": url} if url.startswith("postgresql") else {})
    serving = [sys.executable, "-m", "benchmarks.gateway.upstream", str(ground.upstream)]
    working = [sys.executable, "-m", "students.worker", *launch.command[3:7]]
    for name, command in (("upstream", serving), ("gateway", launch.command), ("worker", working)):
        own = ground.folder / name
        own.mkdir()
        running = stack.enter_context(Running(command, {**launch.environment, **environment}, own))
        if name == "gateway":
            running.wait_ready(ground.port, launch.headers)
    named = dict(header.split(": ", 1) for header in launch.headers)
    return {**named, "content-type": "application/json"}
