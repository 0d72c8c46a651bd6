"""The store away or stalled under load: no request may fail, no acknowledged exchange be lost, the backlog drains soon.

Run: python -m benchmarks.store_away [KIND …] [--seconds 60] [--rate 100]; KIND is one of `sqlite-locked`,
`postgres-stopped`, `postgres-stalled`. A gateway and a worker run as processes; each client notes the id of every
answer that it got whole. Exit status 1 when a request failed, an exchange is missing or is there twice, or what waited
was not stored within a minute.
"""

import argparse
import http.client
import json
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import select

from benchmarks.gateway.launch import Ground
from benchmarks.under_load import Asked, Clients, started
from capture.db import Store, open_store
from capture.tables import exchanges
from tests.fakes import postgres
from tests.fakes.processes import free_port

BEFORE_S = AFTER_S = 2.0
DRAINED_WITHIN_S = 60.0
LOOK_EVERY_S = 0.2
READINESS_EVERY_S = 0.5

Away = Callable[[], AbstractContextManager[None]]


@dataclass
class Found:
    """What one absence showed. `drained_s`: from the store's return until everything acknowledged was in it."""

    kind: str
    away_s: float
    asked: Asked = field(default_factory=Asked)
    waiting: int = 0  # acknowledged and not stored when the store came back
    drained_s: float = 0.0
    lost: int = 0
    doubled: int = 0
    readiness: set[str] = field(default_factory=set)

    @property
    def problems(self) -> list[str]:
        return [
            *([f"{len(self.asked.failed)} requests failed: {self.asked.failed[:3]}"] if self.asked.failed else []),
            *([f"{self.lost} acknowledged exchanges are not in the store"] if self.lost else []),
            *([f"{self.doubled} exchanges are there twice"] if self.doubled else []),
            *(["the backlog was not drained in time"] if self.drained_s >= DRAINED_WITHIN_S else []),
        ]


def store_away(kind: str, seconds: float, rate: float) -> Found:
    """One absence of `seconds` under `rate` requests a second."""
    found = Found(kind, seconds)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stillhouse-away-")))
        ground = Ground(folder, folder, free_port(), free_port(), free_port())
        url, away = stack.enter_context(_store(kind, ground.folder / "data"))
        headers = started(ground, url, stack)
        store = open_store(url)
        stack.callback(store.close)
        with Clients(ground.port, headers, rate) as clients:
            found.asked = clients.asked
            time.sleep(BEFORE_S)
            with away():
                _look_at_readiness(found, ground.port, seconds)
            found.waiting = len(found.asked.acknowledged - set(_stored(store)))
            _wait_until_stored(found, store)
            time.sleep(AFTER_S)
        _judge(found, store)
    return found


@contextmanager
def _store(kind: str, data: Path) -> Iterator[tuple[str, Away]]:
    """The URL of a store, and what takes it away."""
    if kind == "sqlite-locked":
        file = data / "stillhouse.db"
        yield f"sqlite:///{file}", lambda: _locked(file)
        return
    data.mkdir(parents=True, exist_ok=True, mode=0o700)  # PostgreSQL's wheel puts a socket there
    with postgres.server(data) as server:
        away = {"postgres-stopped": server.stopped, "postgres-stalled": server.stalled}[kind]
        yield postgres.new_database(server.url), away


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    connection = sqlite3.connect(file, isolation_level=None, timeout=30)
    try:
        connection.execute("BEGIN EXCLUSIVE")
        yield
        connection.execute("ROLLBACK")
    finally:
        connection.close()


def _look_at_readiness(found: Found, port: int, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/readyz")
        reply = connection.getresponse()
        said = json.loads(reply.read())
        found.readiness.add(f"{reply.status} {said['store']}")
        connection.close()
        time.sleep(READINESS_EVERY_S)


def _stored(store: Store) -> list[str]:
    with store.read() as connection:
        return list(connection.execute(select(exchanges.c.id)).scalars())


def _wait_until_stored(found: Found, store: Store) -> None:
    """Until what was acknowledged by now is there."""
    began, due = time.monotonic(), set(found.asked.acknowledged)
    while due - set(_stored(store)) and time.monotonic() - began < DRAINED_WITHIN_S:
        time.sleep(LOOK_EVERY_S)
    found.drained_s = time.monotonic() - began


def _judge(found: Found, store: Store) -> None:
    deadline = time.monotonic() + DRAINED_WITHIN_S
    while found.asked.acknowledged - set(_stored(store)) and time.monotonic() < deadline:
        time.sleep(LOOK_EVERY_S)
    stored = _stored(store)
    found.lost = len(found.asked.acknowledged - set(stored))
    found.doubled = len(stored) - len(set(stored))


KINDS = ("sqlite-locked", "postgres-stopped", "postgres-stalled")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.store_away", description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", default=list(KINDS))
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rate", type=float, default=100, help="requests a second")
    options = parser.parse_args()
    problems: list[str] = []
    for kind in options.kinds:
        found = store_away(kind, options.seconds, options.rate)
        problems += found.problems
        print(
            f"{kind}: away for {found.away_s:g} s; {found.asked.requests} requests, {len(found.asked.failed)} failed; "
            f"{found.waiting} waited when it came back, stored {found.drained_s:.1f} s later; {found.lost} lost, "
            f"{found.doubled} twice; readiness {sorted(found.readiness)}; "
            f"slowest unary answer {max(found.asked.unary_ms):.0f} ms",
            flush=True,
        )
    print("\n".join(problems) or "nothing failed, nothing was lost")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
