"""What is said later of an exchange: truths, scores, comments and corrections, each kept once."""

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec
from sqlalchemy import Connection, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from capture.assemble import MAXIMUM_DEPTH, holds_nul, is_too_deep
from capture.bodies import unpack_answer
from capture.db import Store
from capture.errors import RefusedError
from capture.ids import new_id
from capture.reviews import latest
from capture.tables import bodies, exchanges, feedback, tombstones

Json = Any
Redact = Callable[[str, Json], Json]
"""(exchange id, a JSON value) -> the value redacted as that exchange is, so that the two still match."""

LARGEST_VALUE_BYTES = 256 * 1024


class Feedback(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One piece of feedback. `id`: our exchange's or the completion's.

    `truth`: what the right output was, any JSON but null; with a `name`, the right value of that field of it. `score`:
    a number in [0, 1]. `comment`: a text. `correction`: the output as it should have been, a text or an object.
    """

    id: str
    kind: Literal["truth", "score", "comment", "correction"]
    name: str = ""
    value: Json
    idempotency_key: str | None = None


def record(store: Store, given: Feedback, key_id: str | None, clock: Callable[[], float], redact: Redact) -> str:
    """Keeps feedback, redacted, once per idempotency key (default: what it says), and returns its id.

    An exchange that has not been shipped yet may be rated: it is scored by it when it comes. `key_id` is the gateway
    key's, None where keys are off. Raises RefusedError for a value that does not suit the kind, for another key's
    exchange, and for an erased one.
    """
    check(given)
    with store.read() as connection:
        exchange_id = _resolve(connection, given.id, key_id)
    row = _row(given, exchange_id, key_id, redact(exchange_id, given.value))
    try:
        with store.write() as connection:
            if (known := _known(connection, row["idempotency_key"])) is None:
                connection.execute(insert(feedback).values(**row, created_at=clock()))
    except IntegrityError:  # another process kept the same between our look and our insert
        with store.read() as connection:
            known = _known(connection, row["idempotency_key"])
        if known is None:
            raise
    return known or str(row["id"])


def check(given: Feedback) -> None:
    """Raises RefusedError unless the value suits the kind."""
    value = given.value
    if not given.id:
        raise RefusedError("feedback needs the id of an exchange or of a completion")
    if is_too_deep(value, LARGEST_VALUE_BYTES):
        raise RefusedError(f"a feedback's value may be nested {MAXIMUM_DEPTH} levels deep at most")
    written = msgspec.json.encode(given)
    if len(written) > LARGEST_VALUE_BYTES:
        raise RefusedError(f"a feedback may have {LARGEST_VALUE_BYTES // 1024} kB at most")
    if holds_nul(written):
        raise RefusedError("feedback may not hold NUL characters")
    if given.kind == "score" and not (type(value) in (int, float) and 0 <= value <= 1):
        raise RefusedError("a score is a number from 0 to 1")
    if given.kind == "comment" and not isinstance(value, str):
        raise RefusedError("a comment is a text")
    if given.kind == "correction" and not (isinstance(value, str | dict) and value):
        raise RefusedError("a correction is the corrected output: a text or a JSON object, not empty")
    if given.kind == "truth" and value is None:
        raise RefusedError("a truth is any JSON value but null")


def _resolve(connection: Connection, given: str, key_id: str | None) -> str:
    """The exchange's id, or the id as given where no such exchange is in the store."""
    if connection.scalar(select(tombstones.c.exchange_id).where(tombstones.c.exchange_id == given)):
        raise RefusedError(f"exchange {given!r} was erased")
    columns = select(exchanges.c.id, exchanges.c.key_id)
    found = connection.execute(columns.where(exchanges.c.id == given)).first()
    newest = columns.where(exchanges.c.completion_id == given).order_by(exchanges.c.id.desc())
    candidates = [found] if found else connection.execute(newest.limit(100)).all()
    own = [row.id for row in candidates if key_id is None or row.key_id == key_id]
    if candidates and not own:
        raise RefusedError(f"exchange {given!r} belongs to another key")
    return str(own[0]) if own else given


def _row(given: Feedback, exchange_id: str, key_id: str | None, value: Json) -> dict[str, Json]:
    said = given.idempotency_key or [given.id, given.kind, given.name, value]
    once = json.dumps([key_id, said], sort_keys=True, separators=(",", ":"))
    return {
        "id": new_id(),
        "exchange_id": exchange_id,
        "completion_id": given.id if given.id != exchange_id else None,
        "key_id": key_id,
        "kind": given.kind,
        "name": given.name,
        "value": value,
        "idempotency_key": hashlib.sha256(once.encode()).hexdigest(),
        "settled": False,
    }


def _known(connection: Connection, idempotency_key: str) -> str | None:
    return connection.scalar(select(feedback.c.id).where(feedback.c.idempotency_key == idempotency_key))


def settle(store: Store, limit: int = 1000) -> int:
    """Marks the exchanges that new feedback speaks of for scoring; returns how many pieces it looked at.

    Feedback whose exchange is not there needs no mark: the exchange comes unscored, and `link` finds it then.
    """
    with store.write() as connection:
        found = connection.execute(
            select(feedback.c.id, feedback.c.exchange_id).where(~feedback.c.settled).limit(limit)
        )
        new = found.all()
        connection.execute(update(feedback).where(feedback.c.id.in_([row.id for row in new])).values(settled=True))
        named = {row.exchange_id for row in new}
        of_completion = exchanges.c.completion_id.in_(named)
        wanted = update(exchanges).where(or_(exchanges.c.id.in_(named), of_completion))
        connection.execute(wanted.values(score_wanted=exchanges.c.score_wanted + 1))
    return len(new)


def link(connection: Connection, exchange_ids: Sequence[str]) -> None:
    """Gives feedback that named a completion, before its exchange was in the store, the exchange's id."""
    columns = select(exchanges.c.id, exchanges.c.completion_id, exchanges.c.key_id)
    chosen = columns.where(exchanges.c.id.in_(exchange_ids), exchanges.c.completion_id.is_not(None))
    completions = {row.completion_id: row for row in connection.execute(chosen.order_by(exchanges.c.id))}
    early = select(feedback.c.id, feedback.c.key_id, feedback.c.exchange_id)
    for row in connection.execute(early.where(feedback.c.exchange_id.in_(completions))).all():
        exchange = completions[row.exchange_id]
        if row.key_id in (None, exchange.key_id):
            one = update(feedback).where(feedback.c.id == row.id)
            connection.execute(one.values(exchange_id=exchange.id, completion_id=row.exchange_id))


def _said(connection: Connection, exchange_ids: Sequence[str], kind: str) -> list[tuple[str, str, Json]]:
    """(exchange, name, value) of one kind, oldest first, by whoever may speak of the exchange."""
    columns = select(feedback.c.exchange_id, feedback.c.name, feedback.c.value)
    own = or_(feedback.c.key_id.is_(None), feedback.c.key_id == exchanges.c.key_id)
    chosen = columns.join(exchanges, exchanges.c.id == feedback.c.exchange_id)
    chosen = chosen.where(feedback.c.exchange_id.in_(exchange_ids), feedback.c.kind == kind, own)
    found = connection.execute(chosen.order_by(feedback.c.created_at, feedback.c.id))
    return [(row.exchange_id, row.name, row.value) for row in found]


def outcomes(connection: Connection, exchange_ids: Sequence[str]) -> dict[str, dict[str, float]]:
    """The newest score of each name, by exchange."""
    found: dict[str, dict[str, float]] = {}
    for exchange_id, name, value in _said(connection, exchange_ids, "score"):
        found.setdefault(exchange_id, {})[name] = float(value)
    return found


def corrections(connection: Connection, exchange_ids: Sequence[str]) -> dict[str, str | dict[str, Json]]:
    """The newest correction, by exchange."""
    return {exchange_id: value for exchange_id, _, value in _said(connection, exchange_ids, "correction")}


def truths(connection: Connection, exchange_ids: Sequence[str]) -> dict[str, Json]:
    """What is known to be the right output, by exchange, as a text, an assistant's message or any JSON value.

    A person's review goes before an outcome: a corrected output, or the exchange's own answer where it was accepted.
    """
    reviewed = latest(connection, exchange_ids)
    accepted = [identity for identity, one in reviewed.items() if one.verdict == "accept"]
    corrected = {identity: one.output for identity, one in reviewed.items() if one.output is not None}
    return {**outcome_truths(connection, exchange_ids), **_answers(connection, accepted), **corrected}


def _answers(connection: Connection, exchange_ids: Sequence[str]) -> dict[str, Json]:
    chosen = select(bodies.c.exchange_id, bodies.c.answer).where(bodies.c.exchange_id.in_(exchange_ids))
    found = connection.execute(chosen) if exchange_ids else ()
    return {row.exchange_id: unpack_answer(row.answer).message for row in found}


def outcome_truths(connection: Connection, exchange_ids: Sequence[str]) -> dict[str, Json]:
    """What feedback says is true, by exchange: the newest nameless truth, with named ones set as fields of it."""
    found: dict[str, Json] = {}
    for exchange_id, name, value in _said(connection, exchange_ids, "truth"):
        if not name:
            found[exchange_id] = value
        else:
            whole = found.get(exchange_id)
            found[exchange_id] = {**(whole if isinstance(whole, dict) else {}), name: value}
    return found
