"""Times text search over many exchanges: frequent and rare words, alone and beside other filters, a page and a count.

`python -m benchmarks.text_search [EXCHANGES]`: default 100,000. On PostgreSQL: `DATABASE_URL` of an empty database.
"""

import os
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from sqlalchemy import insert

import students.tables  # noqa: F401
from capture import full_text
from capture.db import Store, metadata, open_store
from capture.tables import exchanges, reviews, scores
from capture.traffic import TrafficFilter, count_exchanges, list_exchanges
from tests.factories.store import exchange_row

BATCH = 2000
TOPICS = ("invoice", "login", "parcel", "refund", "printer", "contract", "address", "password")
BEGIN_MS = 1_780_000_000_000
APART_MS = 2600  # a million in a month


def fill(store: Store, count: int) -> float:
    """Seconds that the index took of what was written."""
    draws = random.Random(1)
    vocabulary = [f"{draws.choice(TOPICS)[:4]}{number}" for number in range(50_000)]
    spent = 0.0
    for start in range(0, count, BATCH):
        rows = [_row(number, vocabulary, draws) for number in range(start, min(count, start + BATCH))]
        with store.write() as connection:
            connection.execute(insert(exchanges), [row for row, _ in rows])
            ids = [row["id"] for row, _ in rows]
            score = {"grader": "category", "version": "v", "input_hash": "h", "value": 1.0, "scored_at": 1.0}
            connection.execute(insert(scores), [{**score, "exchange_id": one} for one in ids])
            said = {"verdict": "reject", "reviewer": "ann", "reviewed_at": 1.0}
            connection.execute(insert(reviews), [{**said, "id": one, "exchange_id": one} for one in ids[::1000]])
            began = time.perf_counter()
            entries = [full_text.Entry(row["id"], full_text.words_of(text), row) for row, text in rows]
            full_text.add(connection, entries)
            spent += time.perf_counter() - began
    return spent


def _row(number: int, vocabulary: list[str], draws: random.Random) -> tuple[dict[str, Any], str]:
    """A ticket of some 90 words, of which some stand in every one."""
    text = f"Hello, my {TOPICS[number % 8]} is wrong: " + " ".join(draws.choices(vocabulary, k=80))
    identity = f"{BEGIN_MS + number * APART_MS:012x}7{draws.getrandbits(76):019x}"
    failed = {"status": 500} if number % 1000 == 0 else {}
    arm = "student" if number < 2000 else "teacher"
    tier = {"tier": "gold" if number % 10 == 0 else "basic"}
    return exchange_row(id=identity, text=text[:200], arm=arm, metadata=tier, **failed)["exchange"], text


QUERIES: dict[str, TrafficFilter] = {
    "a word of all": TrafficFilter(text="hello"),
    "a word of one in eight": TrafficFilter(text="invoice"),
    "a rare word": TrafficFilter(text="invo77"),
    "no such word": TrafficFilter(text="nowhere"),
    "two words and a beginning": TrafficFilter(text="invoice wrong par"),
    "a word of all, failed": TrafficFilter(text="hello", failed=True),
    "a word of all, the oldest 2000": TrafficFilter(text="hello", arm="student"),
    "a word of all, another task": TrafficFilter(text="hello", task="other"),
    "a word of all, a session that is none": TrafficFilter(text="hello", session="none"),
    "a word of all, a model that is none": TrafficFilter(text="hello", model="none"),
    "a word of all, metadata of none": TrafficFilter(text="hello", metadata={"app": "none"}),
    "a word of all, metadata of a tenth": TrafficFilter(text="hello", metadata={"tier": "gold"}),
    "a word of all, rejected (one in a thousand)": TrafficFilter(text="hello", review="reject"),
    "a word of all, corrected (none)": TrafficFilter(text="hello", review="correct"),
    "a word of all, a score that none has": TrafficFilter(text="hello", grader="category", score_from=2.0),
}


def main(count: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        store = open_store(os.environ.get("DATABASE_URL") or f"sqlite:///{Path(name) / 'test.db'}")
        metadata.create_all(store.engine)
        print(f"{count} exchanges; indexing took {fill(store, count) / count * 1e6:.0f} µs each")
        print(f"{'':40} {'found':>7} {'page ms':>8} {'count ms':>9}")
        for what, wanted in QUERIES.items():
            took = []
            for ask in (lambda w=wanted: list_exchanges(store, w), lambda w=wanted: count_exchanges(store, w)):
                began = time.perf_counter()
                found: Any = ask()
                took.append((time.perf_counter() - began) * 1e3)
            print(f"{what:40} {found:7} {took[0]:8.1f} {took[1]:9.1f}")
        store.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
