"""What capture costs: appending to the spool, and shipping from it, per exchange and per second of one core.

Run: python -m benchmarks.capture [EXCHANGES]; a third of them streams of 30 events.
"""

import sys
import tempfile
import time
from pathlib import Path

from capture.exchange import Exchange, encode
from capture.reconcile import reconcile
from capture.settings import Settings
from capture.ship import Shipper
from capture.spool import Spool
from tests.factories.exchanges import chat_request, completion, new_exchange, stream_of
from tests.factories.store import new_store

SYSTEM = "You sort support tickets. Answer in JSON with the fields category, priority and summary. " * 4
APPENDS = 50_000


def main() -> None:
    many = int(sys.argv[1]) if len(sys.argv) > 1 else 6000
    for fsync in ("never", "interval"):
        print(f"append of 2 kB, fsync {fsync}: {_append_us(fsync):.1f} us of CPU")
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data=Path(folder))
        store = new_store(Path(folder))
        spool = Spool(settings.spool_folder)
        size = 0
        for number in range(many):
            record = encode(_exchange(number))
            size += len(record)
            assert spool.append(record, "triage")
        shipper = Shipper(store, settings, {}, lambda *_: None)
        cpu, wall = time.process_time(), time.perf_counter()
        while shipper.ship_once():
            pass
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        print(
            f"ship: {many / cpu:.0f} exchanges of {size / many / 1000:.1f} kB a CPU second, {many / wall:.0f} a second"
        )
        spool.close()
        shipper.ship_once()
        print(f"difference: {reconcile(store, settings.spool_folder)['triage'].difference}")
        store.close()


def _append_us(fsync: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        spool = Spool(Path(folder), fsync=fsync)  # type: ignore[arg-type]
        record = bytes(2000)
        began = time.process_time()
        for _ in range(APPENDS):
            spool.append(record, "triage")
        taken = time.process_time() - began
        spool.close()
    return taken / APPENDS * 1e6


def _exchange(number: int) -> Exchange:
    text = f"Hello, my order {number} has not arrived; please write to jane{number}@corp.io. " * 3
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": text}]
    request = chat_request(messages=messages, metadata={"app": "triage", "session": f"s{number // 5}"})
    if number % 3:
        return new_exchange(
            request, completion('{"category": "delivery", "priority": "high", "summary": "order is late"}')
        )
    head = {"id": f"c{number}", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4.1"}
    chunks = [{**head, "choices": [{"index": 0, "delta": {"content": f" word{n}"}}]} for n in range(30)]
    chunks.append({**head, "choices": [], "usage": {"prompt_tokens": 100, "completion_tokens": 30}})
    return new_exchange(request, response=stream_of(chunks), response_type="text/event-stream", stream=True)


if __name__ == "__main__":
    main()
