"""Times a dataset build over many exchanges, twice, and holds the two to the same bytes.

`python -m benchmarks.dataset_build [EXCHANGES]`: default 100,000. Each build runs in a process of its own, so that its
peak memory is its own.
"""

import hashlib
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sqlalchemy import insert, select

from capture import datasets
from capture.datasets import Filters
from capture.db import open_store
from capture.tables import bodies, dataset_rows, exchanges
from tests.factories.datasets import LATER, UPSTREAMS, task_of
from tests.factories.store import exchange_row, new_store

BATCH = 2000
TOPICS = ["invoice", "login", "parcel", "refund", "printer", "contract", "address", "password"]


def text_of(number: int, words: list[str], chance: random.Random) -> str:
    """A ticket of some 60 words; one in ten repeats an earlier one, one in ten differs from one in a word."""
    kind = number % 10
    source = random.Random(number - 1 if kind in (3, 7) and number else number)
    text = [source.choice(TOPICS), *source.choices(words, k=60)]
    if kind == 7:
        text.append(chance.choice(words))
    return "Hello, I write because of my " + " ".join(text)


def fill(folder: Path, count: int) -> None:
    chance = random.Random(1)
    words = [f"{chance.choice(TOPICS)[:4]}{n}" for n in range(4000)]
    store = new_store(folder)
    for start in range(0, count, BATCH):
        rows = [one(text_of(number, words, chance), chance) for number in range(start, min(count, start + BATCH))]
        with store.write() as connection:
            connection.execute(insert(exchanges), [row["exchange"] for row in rows])
            connection.execute(insert(bodies), [row["bodies"] for row in rows])
    store.close()


def one(text: str, chance: random.Random) -> dict[str, dict[str, object]]:
    label = chance.choice(TOPICS)
    answer = json.dumps({"category": label, "priority": chance.randint(1, 4), "summary": text[:60]})
    return exchange_row(text=text, answer=answer, label=label, holdout=chance.random() < 0.1)


def build(folder: Path) -> None:
    """One build; prints seconds, peak memory, hash and counts as JSON."""
    store = open_store(f"sqlite:///{folder / 'test.db'}")
    dataset_id = datasets.queue_build(store, "triage", Filters(), lambda: LATER)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started, cpu = time.perf_counter(), time.process_time()
    card = datasets.build(store, dataset_id, {"triage": task_of()}, UPSTREAMS, lambda: LATER)
    found = {
        "seconds": round(time.perf_counter() - started, 1),
        "cpu_s": round(time.process_time() - cpu, 1),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "peak_before_mb": before // 1024,
        "rows": card.rows,
        "drops": card.drops,
        "hash": card.hash,
        "bytes": digest(store, dataset_id),
    }
    print(json.dumps(found))
    store.close()


def digest(store: object, dataset_id: str) -> str:
    """A hash over the stored rows themselves, apart from the one on the card."""
    made = hashlib.sha256()
    chosen = select(dataset_rows.c.row).where(dataset_rows.c.dataset_id == dataset_id).order_by(dataset_rows.c.position)
    with store.read() as connection:  # type: ignore[attr-defined]
        for row in connection.execute(chosen):
            made.update(row.row)
    return made.hexdigest()


def main(count: int) -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        started = time.perf_counter()
        fill(folder, count)
        print(f"{count} exchanges made in {time.perf_counter() - started:.0f} s")
        runs = []
        for _ in range(2):
            made = subprocess.run(
                [sys.executable, "-m", "benchmarks.dataset_build", "--build", name], check=True, stdout=subprocess.PIPE
            )
            runs.append(json.loads(made.stdout))
            print(json.dumps(runs[-1]))
    same = runs[0]["hash"] == runs[1]["hash"] and runs[0]["bytes"] == runs[1]["bytes"]
    print(f"the same bytes twice: {same}")
    return 0 if same else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--build"]:
        build(Path(sys.argv[2]))
    else:
        sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000))
