"""What people say of an exchange: accept, reject, or a corrected output; and the queues that they work from."""

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import msgspec
from sqlalchemy import ColumnElement, Connection, and_, case, func, insert, select, update

from capture.db import Store
from capture.errors import NotFoundError, RefusedError
from capture.graders.sample import is_message
from capture.ids import new_id
from capture.tables import exchanges, reviews, scores

Verdict = Literal["accept", "reject", "correct"]
Order = Literal["oldest", "uncertain", "disagreeing", "sampled"]

WINDOW = 10_000
"""How many of a task's newest exchanges the queues that sort by something other than time look at."""


class Many(msgspec.Struct, frozen=True):
    """What reviewing many at once came to: how many reviews were added, and which exchanges it kept away from."""

    reviewed: int = 0
    corrected: int = 0
    """A person has written a better answer."""
    failed: int = 0
    """No whole answer is there to accept."""

    def __add__(self, other: "Many") -> "Many":
        return Many(self.reviewed + other.reviewed, self.corrected + other.corrected, self.failed + other.failed)

    @property
    def sentence(self) -> str:
        left = {"with a correction": self.corrected, "that failed": self.failed}
        skipped = " and ".join(f"{count:,} {what}" for what, count in left.items() if count)
        return f"{self.reviewed:,} exchanges" + (f"; {skipped} skipped" if skipped else "")


class Review(msgspec.Struct, frozen=True):
    """A person's verdict on an exchange. `output`: the corrected text, or an assistant message's JSON."""

    exchange_id: str
    verdict: Verdict
    output: str | None
    reviewer: str
    reviewed_at: float

    @property
    def message(self) -> dict[str, Any] | None:
        """The corrected output as an assistant's message; None where nothing was corrected."""
        return None if self.output is None else corrected(self.output)


def corrected(output: str | dict[str, Any]) -> dict[str, Any]:
    """A corrected output as an assistant's message: a message (or its JSON) as it is, anything else as its content."""
    value = output if isinstance(output, dict) else _parsed(output)
    if isinstance(value, dict) and is_message(value):
        return value
    content = output if isinstance(output, str) else json.dumps(output, ensure_ascii=False)
    return {"role": "assistant", "content": content}


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def review(
    store: Store, exchange_id: str, verdict: Verdict, output: str | None, reviewer: str, clock: Callable[[], float]
) -> str:
    """Adds a review, which replaces earlier ones, and asks for the exchange to be scored anew. Returns the review's id.

    Raises NotFoundError for an exchange that is not in the store, RefusedError for a correction without an output and
    for an output without a correction.
    """
    _check(verdict, output)
    identity = new_id()
    with store.write() as connection:
        wanted = update(exchanges).where(exchanges.c.id == exchange_id)
        if not connection.execute(wanted.values(score_wanted=exchanges.c.score_wanted + 1)).rowcount:
            raise NotFoundError(f"no exchange {exchange_id!r}")
        row = {"id": identity, "exchange_id": exchange_id, "verdict": verdict, "output": output}
        connection.execute(insert(reviews).values(**row, reviewer=reviewer, reviewed_at=clock()))
    return identity


def review_many(
    store: Store,
    exchange_ids: Sequence[str],
    verdict: Literal["accept", "reject"],
    reviewer: str,
    clock: Callable[[], float],
) -> Many:
    """The same for many in one transaction; those that are not there, or whose newest review says it, are passed over.

    So are those that somebody has corrected, and, where it accepts, answers that failed or broke off: nobody looked at
    each.
    """
    _check(verdict, None)
    with store.write() as connection:
        known = {one: said.verdict for one, said in latest(connection, exchange_ids).items()}
        columns = (exchanges.c.id, exchanges.c.status == 200, exchanges.c.complete)
        answered = connection.execute(select(*columns).where(exchanges.c.id.in_(exchange_ids)))
        whole = {one: good and complete for one, good, complete in answered}
        open_ = [one for one in exchange_ids if one in whole and known.get(one) not in (verdict, "correct")]
        fresh = [one for one in open_ if whole[one] or verdict != "accept"]
        rows = [
            {"id": new_id(), "exchange_id": one, "verdict": verdict, "reviewer": reviewer, "reviewed_at": clock()}
            for one in fresh
        ]
        if rows:
            wanted = update(exchanges).where(exchanges.c.id.in_(fresh))
            connection.execute(wanted.values(score_wanted=exchanges.c.score_wanted + 1))
            connection.execute(insert(reviews), rows)
    kept_away = sum(known.get(one) == "correct" for one in whole)
    return Many(len(fresh), kept_away, len(open_) - len(fresh))


def _check(verdict: str, output: str | None) -> None:
    if verdict not in get_args(Verdict):
        raise RefusedError(f"a review's verdict is accept, reject or correct, not {verdict!r}")
    if verdict == "correct" and not (output or "").strip():
        raise RefusedError("a correction needs the corrected output")
    if verdict != "correct" and output is not None:
        raise RefusedError(f"an output comes with the verdict correct, not with {verdict}")


def latest(connection: Connection, exchange_ids: Sequence[str]) -> dict[str, Review]:
    """The newest review of each of these exchanges that has one."""
    columns = (reviews.c.exchange_id, reviews.c.verdict, reviews.c.output, reviews.c.reviewer, reviews.c.reviewed_at)
    chosen = select(*columns).where(reviews.c.exchange_id.in_(exchange_ids))
    found = connection.execute(chosen.order_by(reviews.c.reviewed_at, reviews.c.id))
    return {row.exchange_id: Review(*row) for row in found}


def queue(store: Store, task: str, order: Order = "oldest", limit: int = 50) -> list[str]:
    """Ids of answered, unreviewed exchanges of a task, those first that a person should see first.

    `oldest` looks at all; the others at the newest WINDOW: `uncertain` (a score nearest to ½ first), `disagreeing`
    (lowest score first) and `sampled` (an order that has nothing to do with time, score or content).
    """
    if order not in get_args(Order):
        raise RefusedError(f"a queue's order is one of {', '.join(get_args(Order))}, not {order!r}")
    if order == "oldest":
        return _oldest(store, task, limit)
    return _sampled(store, task, limit) if order == "sampled" else _by_score(store, task, order, limit)


def _waiting(task: str) -> ColumnElement[bool]:
    reviewed = select(reviews.c.id).where(reviews.c.exchange_id == exchanges.c.id).exists()
    return and_(exchanges.c.task == task, exchanges.c.complete, exchanges.c.status == 200, ~reviewed)


def _oldest(store: Store, task: str, limit: int) -> list[str]:
    with store.read() as connection:
        chosen = select(exchanges.c.id).where(_waiting(task)).order_by(exchanges.c.id).limit(limit)
        return list(connection.scalars(chosen))


def _sampled(store: Store, task: str, limit: int) -> list[str]:
    with store.read() as connection:
        chosen = select(exchanges.c.id).where(_waiting(task)).order_by(exchanges.c.id.desc()).limit(WINDOW)
        ids = list(connection.scalars(chosen))
    return sorted(ids, key=lambda identity: hashlib.sha256(identity.encode()).digest())[:limit]


def _by_score(store: Store, task: str, order: Order, limit: int) -> list[str]:
    window = select(exchanges.c.id).where(_waiting(task)).order_by(exchanges.c.id.desc()).limit(WINDOW).subquery()
    doubt = case((scores.c.value > 0.5, scores.c.value - 0.5), else_=0.5 - scores.c.value)
    rank = func.min(doubt if order == "uncertain" else scores.c.value)
    chosen = select(window.c.id).join(scores, scores.c.exchange_id == window.c.id).group_by(window.c.id)
    with store.read() as connection:
        return list(connection.scalars(chosen.order_by(rank, window.c.id).limit(limit)))
