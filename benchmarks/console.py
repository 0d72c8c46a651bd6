"""`python -m benchmarks.console --exchanges 1000000`: seeds a store, opens every page, prints each page's server time.

Server time is the time that the console's own code takes for one run of a page, as Streamlit's test harness runs it:
the first run after the store's answers have been forgotten, and its processor time beside it. A store that is there
already (`--folder`) is used again. Exits 1 when a page takes longer than `--most-ms`.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import streamlit as st
from sqlalchemy import func, insert, select
from streamlit.testing.v1 import AppTest

from capture import full_text
from capture.bodies import pack_answer, pack_request
from capture.db import Store, open_store
from capture.migrations import upgrade
from capture.tables import bodies, counters, exchanges, feedback, reviews, scores
from tests.browser.console_process import made_store
from tests.factories.full_store import World
from tests.factories.store import answer_of, request_of

APP = Path(__file__).parents[1] / "console" / "app.py"
BATCH = 5_000
LABELS = ("billing", "bug", "shipping", "refund")
DAYS = 30
WORDS = ("invoice", "parcel", "password", "refund", "crash", "address", "late", "twice", "broken", "thanks")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--exchanges", type=int, default=20_000)
    parser.add_argument("--folder", type=Path, help="Where the store lies, or is made; else a temporary one.")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--most-ms", type=float, help="Fail when a page's median is above it.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        world = seeded(folder, options.exchanges)
        found = measured(folder, world, options.runs)
    print(f"{'page':34}{'median':>10}{'worst':>10}{'CPU':>10}   ms of server work")
    for name, (wall, cpu) in found.items():
        print(f"{name:34}{statistics.median(wall):10.0f}{max(wall):10.0f}{statistics.median(cpu):10.0f}")
    slow = [name for name, (wall, _) in found.items() if options.most_ms and statistics.median(wall) > options.most_ms]
    if slow:
        print(f"above {options.most_ms:g} ms: {', '.join(slow)}")
    return 1 if slow else 0


def seeded(folder: Path, wanted: int) -> World:
    """The store of the browser tests, filled up to `wanted` exchanges of the task triage."""
    mark = folder / "world.txt"
    if mark.exists():
        world: World = eval(mark.read_text(), {"World": World})
    else:
        made = made_store(folder, filled=True)
        assert made is not None
        world = made
        mark.write_text(repr(world))
    store = open_store(f"sqlite:///{folder / 'stillhouse.db'}")
    upgrade(store)
    with store.read() as connection:
        there = connection.scalar(select(func.count()).select_from(exchanges)) or 0
    began = time.perf_counter()
    for first in range(there, wanted, BATCH):
        _fill(store, first, min(BATCH, wanted - first), wanted)
        if first and first % 100_000 < BATCH:
            print(f"{first:,} exchanges, {time.perf_counter() - began:.0f} s", file=sys.stderr)
    with store.write() as connection:
        connection.exec_driver_sql("ANALYZE")
    store.close()
    return world


def _fill(store: Store, first: int, many: int, total: int) -> None:
    now = time.time() - 600
    rows = [_row(number, now - (total - number) / total * DAYS * 86_400) for number in range(first, first + many)]
    ids = [row["id"] for row in rows]
    body = {
        "request": pack_request(request_of(" ".join(WORDS))),
        "answer": pack_answer(answer_of('{"category": "bug"}')),
    }
    score = {"grader": "category", "version": "v", "input_hash": "h", "scored_at": now}
    said = {"verdict": "accept", "reviewer": "mara", "reviewed_at": now}
    outcome = {"kind": "truth", "name": "", "value": {"category": "bug"}, "created_at": now, "settled": True}
    with store.write() as connection:
        connection.execute(insert(exchanges), rows)
        connection.execute(insert(bodies), [{**body, "exchange_id": one} for one in ids])
        values = [{**score, "exchange_id": one, "value": (n * 7919 % 100) / 99} for n, one in enumerate(ids)]
        connection.execute(insert(scores), values)
        connection.execute(insert(reviews), [{**said, "id": f"r{one}", "exchange_id": one} for one in ids[::50]])
        given = [{**outcome, "id": f"f{one}", "exchange_id": one, "idempotency_key": one} for one in ids[::20]]
        connection.execute(insert(feedback), given)
        _index(connection, rows)
        if first == 0:
            connection.execute(insert(counters).values(task="bulk", name="stored", value=total))


def _index(connection: Any, rows: list[dict[str, Any]]) -> None:
    """Full text, as the worker writes it with the exchanges."""
    entries = [full_text.Entry(row["id"], full_text.words_of(row["preview"]), row) for row in rows]
    full_text.add(connection, entries)


def _row(number: int, at: float) -> dict[str, Any]:
    words = " ".join(WORDS[(number * k) % len(WORDS)] for k in (1, 3, 7))
    arm = "student" if number % 4 == 0 else "fallback" if number % 50 == 1 else "teacher"
    return {
        "id": f"{int(at * 1000):012x}{number:020x}",
        "started_at": at,
        "route": "chat.completions",
        "task": "triage" if number % 10 else None,
        "session": f"s{number // 3}",
        "user": f"u{number % 5000}",
        "fingerprint": "fp-" + "b" * 61,
        "arm": arm,
        "upstream": "openai",
        "model": "gpt-4.1",
        "served_model": "gpt-4.1" if number % 7 else "gpt-4.1-mini",
        "status": 200 if number % 200 else 500,
        "stream": number % 3 == 0,
        "stored": False,
        "complete": True,
        "first_ms": 120.0 + number % 80,
        "duration_ms": 400.0 + number % 300,
        "completion_id": f"chatcmpl-{number}",
        "finish_reason": "stop",
        "input_tokens": 120,
        "output_tokens": 20,
        "tokens_estimated": False,
        "cost_usd": 0.0 if arm == "student" else 0.002,
        "metadata": {"app": "triage", "tier": "gold" if number % 10 == 0 else "basic"},
        "probability": 1.0,
        "holdout": number % 10 == 0,
        "conversation": f"c{number // 3}",
        "content_hash": f"h{number}",
        "label": LABELS[number % 4],
        "redactions": 0,
        "preview": f"ticket {number} {words}\n{{}}",
        "score_wanted": 0,
    }


def measured(folder: Path, world: World, runs: int) -> dict[str, tuple[list[float], list[float]]]:
    """Milliseconds by page: of the clock, and of the processor, one of each a run."""
    os.environ |= {"STILLHOUSE_CONFIG": str(folder / "stillhouse.toml"), "STILLHOUSE_DATA": str(folder)}
    os.environ.pop("DATABASE_URL", None)
    at = AppTest.from_file(str(APP), default_timeout=300).run()
    found: dict[str, tuple[list[float], list[float]]] = {}
    for name, (page, query, fields) in pages(world).items():
        at.switch_page(f"views/{page}.py")
        for key in list(at.query_params):
            del at.query_params[key]
        for key, value in query.items():
            at.query_params[key] = value
        for key, value in FRESH.items() if page == "traffic" else ():
            at.session_state[key] = value
        for key, value in fields.items():
            at.session_state[key] = value
        at.run()
        walls, cpus = [], []
        for _ in range(runs):
            st.cache_data.clear()
            wall, cpu = time.perf_counter(), time.process_time()
            at.run()
            walls.append(1000 * (time.perf_counter() - wall))
            cpus.append(1000 * (time.process_time() - cpu))
        assert not at.exception, (name, [one.message for one in at.exception])
        found[name] = (walls, cpus)
    return found


FORMS = (
    ("tasks", "make-task"),
    ("datasets", "build-dataset"),
    ("datasets", "misses"),
    ("students", "fine-tune"),
    ("students", "evaluation"),
)
"""Pages with the forms that are read only while they are unfolded."""

FRESH = {
    "traffic-time": "All time",
    "traffic-ending": "Every ending",
    "traffic-version": "",
    "traffic-grader": "Any score",
    "traffic-task": "Every task",
    "traffic-arm": "Every arm",
    "traffic-text": "",
    "traffic-review": "Reviewed or not",
    "traffic-feedback": "With feedback or not",
    "traffic-model": "",
    "traffic-metadata": "",
    "traffic-label": "",
}


def pages(world: World) -> dict[str, tuple[str, dict[str, str], dict[str, Any]]]:
    """Name → page, its address, its filters."""
    plain = ("home", "traffic", "tasks", "datasets", "students", "rollouts", "operations")
    found: dict[str, tuple[str, dict[str, str], dict[str, Any]]] = {name: (name, {}, {}) for name in plain}
    for page, form in FORMS:
        found[f"{page}, {form} unfolded"] = (page, {}, {form: True})
    for what, fields in {
        "one task": {"traffic-task": "triage"},
        "text": {"traffic-text": "parcel late"},
        "text, nowhere": {"traffic-text": "zzzz"},
        "rejected": {"traffic-review": "Rejected"},
        "not reviewed": {"traffic-review": "Not reviewed"},
        "with a truth": {"traffic-feedback": "A truth"},
        "another model": {"traffic-model": "gpt-4.1-mini"},
        "unknown model": {"traffic-model": "none such"},
        "metadata": {"traffic-metadata": "tier=gold"},
        "unknown label": {"traffic-label": "none such"},
        "unknown prompt version": {"traffic-version": "none such"},
        "unknown metadata": {"traffic-metadata": "tier=none such"},
        "failed": {"traffic-ending": "Failed or broken off"},
        "corrected in feedback": {"traffic-feedback": "A correction"},
        "without feedback": {"traffic-feedback": "No feedback"},
        "the last hour": {"traffic-time": "The last hour"},
        "never scored so": {"traffic-grader": "summary"},
    }.items():
        found[f"traffic, {what}"] = ("traffic", {}, fields)
    deep = (
        ("traffic", "exchange", world.exchange),
        ("datasets", "dataset", world.dataset),
        ("students", "fine_tune", world.fine_tune),
        ("students", "student", world.student),
        ("students", "evaluation", world.evaluation),
        ("rollouts", "rollout", world.rollout),
    )
    return found | {name: (page, {name: identity}, {}) for page, name, identity in deep}


if __name__ == "__main__":
    sys.exit(main())
