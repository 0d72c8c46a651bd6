"""Owns what people newly said of a rollout's live answers: scores, whose words they are, and how far was looked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, select

from capture.exchange import Assignment
from capture.tables import exchanges, feedback
from students.claims import day_of
from students.heavy_keys import WINDOW, heavy_of
from students.presets import FEEDBACK, LIVE
from students.rollouts import Rollout
from students.standing import Score
from students.unpaired import luck_of

MOST_SCORES = 200
"""What one look takes in: its cost does not depend on the history."""
SETTLED_S = 5.0
HEARD_S = 60.0
"""Feedback that has been there so much longer still was looked at for good, whatever it was about."""


@dataclass(frozen=True)
class Said:
    """New scores by metric, in the order of their writing; `until`: the next look begins at this (time, id)."""

    scores: Sequence[tuple[str, Score]]
    until: list[Any] | None


def newly_said(connection: Connection, rollout: Rollout, now: float) -> Said:
    """New scores that people gave this rollout's exchanges, where a guardrail of its policy is named like them.

    By the time of their writing, a few seconds late, so that none is passed over that commits after a later one.
    """
    said_until = rollout.evidence.get("said_until")
    names = [name for name in rollout.policy.guardrails if name not in LIVE]
    if not names:
        return Said((), said_until)
    names += [""] if FEEDBACK in names else []
    since, after = said_until or (rollout.created_at, "")
    of_feedback = (feedback.c.id, feedback.c.name, feedback.c.value, feedback.c.created_at)
    of_exchange = (exchanges.c.assignment, exchanges.c.probability, exchanges.c.session, exchanges.c.started_at)
    columns = (*of_feedback, feedback.c.exchange_id, *of_exchange)
    later = (feedback.c.created_at > since) | ((feedback.c.created_at == since) & (feedback.c.id > after))
    new = later & (feedback.c.created_at <= now - SETTLED_S)
    of_rollout = (exchanges.c.rollout == rollout.id) & exchanges.c.assignment.is_not(None)
    query = select(*columns).join(exchanges, exchanges.c.id == feedback.c.exchange_id)
    query = query.where(new, feedback.c.kind == "score", feedback.c.name.in_(names), of_rollout)
    ordered = query.order_by(feedback.c.created_at, feedback.c.id).limit(MOST_SCORES)
    found: list[Row[Any]] = list(connection.execute(ordered))
    places = [[since, after], *([row.created_at, row.id] for row in found[-1:])]
    if len(found) < MOST_SCORES:
        places.append([_heard(connection, now - SETTLED_S - HEARD_S), ""])
    heavy = _heavy(connection, rollout.task) if found else frozenset()
    return Said([(row.name or FEEDBACK, _score(row, heavy)) for row in found], max(places))


def _score(row: Row[Any], heavy: frozenset[str]) -> Score:
    """A key that is none by its traffic makes no session: each of its exchanges speaks for itself."""
    speaker = row.session if row.session and row.session not in heavy else row.exchange_id
    ours, luck = row.assignment == Assignment.STUDENT, luck_of(row.exchange_id)
    return Score(ours, float(row.value), row.probability, luck, f"{speaker} {day_of(row.started_at)}")


def _heavy(connection: Connection, task: str) -> frozenset[str]:
    newest = select(exchanges.c.session).where(exchanges.c.task == task).order_by(exchanges.c.id.desc())
    return heavy_of(connection.scalars(newest.limit(WINDOW)))


def _heard(connection: Connection, until: float) -> float:
    """The time of the last feedback of all that came until then: by what is there, so no jump of a clock skips any."""
    created = feedback.c.created_at
    query = select(created).where(created <= until).order_by(created.desc()).limit(1)
    return float(connection.execute(query).scalar() or 0.0)
