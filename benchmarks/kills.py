"""`kill -9` of gateway and worker, again and again under load; then the clients' ledger is compared with the store.

Run: python -m benchmarks.kills [--kills 100]; exit status 1 when something acknowledged was lost, or anything doubled.
"""

import argparse
import itertools
import json
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil
from sqlalchemy import func, select

from capture.db import Store, open_store
from capture.migrations import upgrade
from capture.reconcile import Balance, reconcile
from capture.tables import exchanges
from tests.fakes.client import RawClient
from tests.fakes.processes import family, free_port, wait_until
from tests.fakes.upstream import Conversation, ScriptedUpstream, response, stream

CLIENTS = 3
WITHIN_S = 120.0
PROGRESS = 20  # acknowledged, or shipped, since the last start, before the next kill
LONGEST_RUN_S = 0.5  # from that progress to the kill
RETRY_S = 0.05
PAUSE_S = 0.01  # of a client between requests: the worker, dead half of the time, must be able to catch up
WHOLE_GATEWAY = 3  # every third kill of the gateway is of all its processes, the others of one

CONFIG = """
[gateway]
[upstreams.a]
base_url = "http://127.0.0.1:{port}/v1"
[tasks.triage]
match = {{ model = "m" }}
teacher = {{ upstream = "a", model = "m" }}
"""


@dataclass(frozen=True)
class Found:
    """What came of it. `lost`: ids of answers that a client had whole, not stored; `doubled`: requests stored twice."""

    kills: dict[str, int]
    asked: int
    acknowledged: int
    stored: int
    lost: list[str]
    doubled: list[int]
    pending: int
    differences: dict[str, int]
    seconds: float

    @property
    def agrees(self) -> bool:
        return not self.lost and not self.doubled and not self.pending and not any(self.differences.values())


@dataclass
class Ledger:
    """What clients know: the requests that they sent, each once, and the ids of those whose end they have."""

    numbers: Iterator[int] = field(default_factory=itertools.count)
    acknowledged: list[str] = field(default_factory=list)


def killed(folder: Path, kills: int, seed: int = 1) -> Found:
    """Gateway and worker die in turn, `kills` times together, while clients ask; all is compared at the end.

    What the processes said lies in `folder`/log.
    """
    began = time.monotonic()
    with ExitStack() as stack:
        upstream = stack.enter_context(ScriptedUpstream(_answer))
        config = folder / "stillhouse.toml"
        config.write_text(CONFIG.format(port=upstream.port))
        data = folder / "data"
        store = open_store(f"sqlite:///{data / 'stillhouse.db'}")
        stack.callback(store.close)
        upgrade(store)
        stage = _Stage(folder, store, random.Random(seed))
        stack.callback(stage.end)
        done = stage.play(kills)
        ledger = stage.ledger
        balances = reconcile(store, data / "spool")
        ids, doubled = _stored(store)
    return Found(
        kills=done,
        asked=next(ledger.numbers),
        acknowledged=len(ledger.acknowledged),
        stored=len(ids),
        lost=sorted(set(ledger.acknowledged) - ids),
        doubled=doubled,
        pending=sum(balance.pending for balance in balances.values()),
        differences={task: balance.difference for task, balance in balances.items()},
        seconds=time.monotonic() - began,
    )


class _Stage:
    """The processes, and the clients that ask them."""

    def __init__(self, folder: Path, store: Store, draws: random.Random) -> None:
        self.ledger = Ledger()
        self._store, self._draws, self._port = store, draws, free_port()
        self._stopping = threading.Event()
        self._log = (folder / "log").open("ab")
        known = ["--config", str(folder / "stillhouse.toml"), "--data", str(folder / "data")]
        port = ["--port", str(self._port), "--metrics-port", "0", "--workers", "2"]
        self._spool = folder / "data" / "spool"
        self._lines = {
            "gateway": [sys.executable, "-m", "gateway", *known, *port],
            "worker": [sys.executable, "-m", "students.worker", *known],
        }
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._clients = [threading.Thread(target=self._ask, daemon=True) for _ in range(CLIENTS)]

    def play(self, kills: int) -> dict[str, int]:
        """Returns how often each was killed; at the end nothing is under way, and all that was seen is stored."""
        for name in self._lines:
            self._start(name)
        for client in self._clients:
            client.start()
        done: Counter[str] = Counter()
        for number in range(kills):
            name = ("gateway", "worker")[number % 2]
            self._wait_progress(name)
            time.sleep(self._draws.uniform(0, LONGEST_RUN_S))
            self._kill(name, done[name])
            done[name] += 1
        self._wait_progress("gateway")
        self._stopping.set()
        for client in self._clients:
            client.join(WITHIN_S)
        self._wait_shipped()
        return dict(done)

    def end(self) -> None:
        self._stopping.set()
        for process in self._running.values():
            for one in family(process.pid):
                one.kill()
            process.wait()
        self._log.close()

    def _start(self, name: str) -> None:
        self._running[name] = subprocess.Popen(self._lines[name], stdout=self._log, stderr=self._log)

    def _kill(self, name: str, number: int) -> None:
        process = self._running[name]
        children = psutil.Process(process.pid).children()
        if name == "gateway" and number % WHOLE_GATEWAY and children:
            self._draws.choice(children).kill()  # its supervisor starts another
            return
        for one in family(process.pid):
            with suppress(psutil.NoSuchProcess):
                one.kill()
        process.wait()
        self._start(name)

    def _wait_progress(self, name: str) -> None:
        before, last = len(self.ledger.acknowledged), self._newest()

        def moved() -> bool:
            assert self._running[name].poll() is None, f"the {name} has ended by itself"
            if name == "gateway":
                return len(self.ledger.acknowledged) >= before + PROGRESS
            return self._since(last) >= PROGRESS

        wait_until(moved, WITHIN_S)

    def _newest(self) -> str:
        with self._store.read() as connection:
            return connection.scalar(select(func.max(exchanges.c.id))) or ""

    def _since(self, last: str) -> int:
        with self._store.read() as connection:
            few = select(exchanges.c.id).where(exchanges.c.id > last).limit(PROGRESS).subquery()
            return connection.scalar(select(func.count()).select_from(few)) or 0

    def _wait_shipped(self) -> None:
        """Until nothing is pending and all is accounted for, or nothing moves any more: what then differs is told."""
        balances: dict[str, Balance] = {}
        moved_at = time.monotonic()
        while not balances or not all(map(_settled, balances.values())):
            before, balances = balances, reconcile(self._store, self._spool)
            if before != balances:
                moved_at = time.monotonic()
            if time.monotonic() - moved_at > WITHIN_S:
                return
            time.sleep(RETRY_S)

    def _ask(self) -> None:
        while not self._stopping.is_set():
            try:
                with RawClient(self._port) as client:
                    self._ask_on(client)
            except (OSError, AssertionError, ValueError):  # it was killed while it answered, or is not there yet
                self._stopping.wait(RETRY_S)

    def _ask_on(self, client: RawClient) -> None:
        while not self._stopping.is_set():
            number = next(self.ledger.numbers)
            streamed = number % 3 == 0
            turn = {"role": "user", "content": f"ticket {number}"}
            body = json.dumps({"model": "m", "stream": streamed, "messages": [turn]})
            client.post(b"/v1/chat/completions", body.encode())
            answer = client.answer()
            ended = answer.complete or b"data: [DONE]" in answer.body
            identity = answer.header(b"x-stillhouse-id")
            if answer.status == 200 and ended and identity:
                self.ledger.acknowledged.append(identity.decode())
            if not answer.complete:
                return
            self._stopping.wait(PAUSE_S)


def _settled(balance: Balance) -> bool:
    return balance.pending == 0 and balance.difference == 0


def _answer(talk: Conversation) -> None:
    while (request := talk.read_request()) is not None:
        talk.requests.clear()
        asked = json.loads(request.body)
        said = asked["messages"][0]["content"]
        if asked["stream"]:
            events = [_chunk(f"{said} "), _chunk("is billing"), b"data: [DONE]\n\n"]
            for piece in stream(events):
                talk.send(piece)
        else:
            talk.send(response(json.dumps(_completion(f"{said} is billing")).encode()))


def _completion(text: str) -> dict[str, object]:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}


def _chunk(text: str) -> bytes:
    choice = {"index": 0, "delta": {"content": text}}
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def _stored(store: Store) -> tuple[set[str], list[int]]:
    """The ids in the store, and the numbers of the requests that are there more than once."""
    ids, numbers = set[str](), Counter[int]()
    with store.read() as connection:
        for row in connection.execute(select(exchanges.c.id, exchanges.c.preview)):
            ids.add(row.id)
            found = re.match(r"ticket (\d+)\n", row.preview)
            assert found, "an exchange without its request"
            numbers[int(found[1])] += 1
    return ids, sorted(number for number, count in numbers.items() if count > 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = killed(Path(folder), options.kills, options.seed)
    print(json.dumps(asdict(found), indent=2))
    return 0 if found.agrees else 1


if __name__ == "__main__":
    sys.exit(main())
