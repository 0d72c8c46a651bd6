"""Stores with tables, and exchanges put straight into them."""

import hashlib
from itertools import count
from pathlib import Path
from typing import Any

from sqlalchemy import event, insert

import students.tables  # noqa: F401
from capture import full_text
from capture.assemble import answer_from
from capture.bodies import pack_answer, pack_request
from capture.db import Store, metadata, open_store
from capture.exchange import Answer
from capture.tables import bodies, exchanges

NOON = 1_780_000_000.0
_number = count(1)


def new_store(folder: Path) -> Store:
    """An empty store in a SQLite file under `folder`, with every room's tables."""
    return store_at(f"sqlite:///{folder / 'test.db'}")


def store_at(url: str) -> Store:
    """An empty store with every room's tables. No test cuts the power: SQLite goes without fsync."""
    store = open_store(url)
    if store.is_sqlite:
        event.listen(store.engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))
    metadata.create_all(store.engine)
    return store


def request_of(text: str, system: str = "Sort the ticket.") -> dict[str, Any]:
    messages = [{"role": "system", "content": system}, {"role": "user", "content": text}]
    return {"model": "gpt-4.1", "messages": messages}


def answer_of(content: str, finish_reason: str = "stop") -> Answer:
    """An answer as an upstream's unary response holds it."""
    return answer_with({"role": "assistant", "content": content}, finish_reason)


def answer_with(message: dict[str, Any], finish_reason: str = "stop") -> Answer:
    choice = {"index": 0, "message": message, "finish_reason": finish_reason}
    return answer_from({"object": "chat.completion", "choices": [choice]})


def add_exchange(store: Store, **overrides: Any) -> str:
    """Inserts one exchange with its bodies and returns its id.

    Overrides are columns of `exchanges`, or `text` (the user's), `system`, `request` (whole), `answer` (a text or an
    Answer). What is not given: a teacher's complete answer in task `triage`, with a text of its own.
    """
    row = exchange_row(**overrides)
    with store.write() as connection:
        connection.execute(insert(exchanges), row["exchange"])
        connection.execute(insert(bodies), row["bodies"])
        words = full_text.words_of(row["exchange"]["preview"])
        full_text.add(connection, [full_text.Entry(row["exchange"]["id"], words, row["exchange"])])
    return str(row["exchange"]["id"])


def exchange_row(**overrides: Any) -> dict[str, dict[str, Any]]:
    """The rows of one exchange, for inserting many at once: {"exchange": …, "bodies": …}."""
    number = next(_number)
    text = overrides.pop("text", f"ticket {number} {hashlib.sha256(str(number).encode()).hexdigest()}")
    request = overrides.pop("request", None) or request_of(text, overrides.pop("system", "Sort the ticket."))
    answer = overrides.pop("answer", '{"category": "billing"}')
    answer = answer_of(answer) if isinstance(answer, str) else answer
    exchange = _defaults(number, text, answer) | overrides
    body = {
        "exchange_id": exchange["id"],
        "request": pack_request(request),
        "answer": pack_answer(answer),
    }
    return {"exchange": exchange, "bodies": body}


def _defaults(number: int, text: str, answer: Answer) -> dict[str, Any]:
    content_hash = hashlib.sha256(" ".join(text.casefold().split()).encode()).hexdigest()
    return {
        "id": f"{number:032x}",
        "started_at": NOON + number,
        "route": "chat.completions",
        "task": "triage",
        "key_id": None,
        "session": f"session-{number}",
        "user": None,
        "fingerprint": "fp1",
        "arm": "teacher",
        "upstream": "teacher",
        "model": "gpt-4.1",
        "served_model": "gpt-4.1",
        "status": 200,
        "stream": False,
        "stored": False,
        "complete": True,
        "duration_ms": 100.0,
        "completion_id": f"chatcmpl-{number}",
        "finish_reason": answer.finish_reason,
        "input_tokens": 20,
        "output_tokens": 8,
        "tokens_estimated": False,
        "cost_usd": 0.001,
        "metadata": {},
        "probability": 1.0,
        "holdout": False,
        "conversation": content_hash,
        "content_hash": content_hash,
        "label": "billing",
        "redactions": 0,
        "preview": text[:200],
    }
