"""Owns the rows of pairs: how outputs are kept, what a pair waits for until it counts, the truth that comes later."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, select, update

from capture.db import Store, upsert
from capture.errors import ConfigError
from capture.exchange import Answer
from capture.feedback import truths
from capture.graders.means import Means
from capture.graders.registry import NO_MEANS
from capture.graders.sample import is_message
from capture.ids import new_id
from capture.loading import load_bodies
from capture.settings import RolloutSettings, TaskSettings
from capture.tables import tombstones
from students.comparison import Case, Comparison, Judge, KnownJudges, awaits_truth, compare
from students.registry import LIVE_STATES
from students.slices import true_label
from students.tables import pairs, rollouts

JUDGING, WAITING, SCORED, VOID = "judging", "waiting", "scored", "void"
"""States of a pair that is not consumed: its judges are to be asked, a truth has to come, it counts, it never will."""

SWEEP = 500
"""How many waiting pairs one sweep looks at; the next one goes on behind them."""


@dataclass(frozen=True)
class Drafted:
    """A pair that was just asked for, with answers redacted as its exchange's are. `student` None: it erred."""

    rollout_id: str
    exchange_id: str
    session: str
    day: str
    slices: dict[str, str]
    stage: int
    probability: float
    teacher: Answer
    second: Answer | None
    student: Answer | None
    student_error: str | None
    served: bool
    created_at: float


def written(answer: Answer) -> str:
    """An answer as the pairs table keeps it: its text, or its message as JSON where there is more than text."""
    message = answer.message
    plain = isinstance(message.get("content"), str) and not message.get("tool_calls")
    return str(message["content"]) if plain else json.dumps({"role": "assistant", **message}, ensure_ascii=False)


def read_output(text: str) -> Answer:
    """The answer that `written` kept, as far as graders look at it."""
    if text.startswith('{"role": "assistant"'):
        message = json.loads(text)
        if is_message(message):
            return Answer(message=message)
    return Answer(message={"role": "assistant", "content": text})


def watched(policy: RolloutSettings) -> list[str]:
    """The names that a rollout decides by: its gates and guardrails."""
    return [*policy.gates, *policy.guardrails]


def state_of(judges: Sequence[Judge], watches: Sequence[str], differences: Mapping[str, float]) -> str:
    """Of a pair that no judge has to speak on any more: waiting for a truth that a watched grader needs, or scored."""
    return WAITING if awaits_truth(judges, watches, differences) else SCORED


def insert_pair(store: Store, draft: Drafted, found: Comparison, state: str) -> None:
    """Keep a pair, once per rollout, session and day."""
    row = {
        "id": new_id(),
        "rollout_id": draft.rollout_id,
        "exchange_id": draft.exchange_id,
        "session": draft.session,
        "day": draft.day,
        "slices": draft.slices,
        "stage": draft.stage,
        "probability": draft.probability,
        "teacher_output": written(draft.teacher),
        "teacher_second": None if draft.second is None else written(draft.second),
        "student_output": None if draft.student is None else written(draft.student),
        "student_error": draft.student_error,
        "served": draft.served,
        "created_at": draft.created_at,
        **_scores(found),
        "state": state,
    }
    with store.write() as connection:
        upsert(connection, pairs, [row], ["rollout_id", "session", "day"], keep=list(row))


def _scores(found: Comparison) -> dict[str, Any]:
    return {
        "differences": found.differences,
        "student_scores": found.student,
        "teacher_scores": found.teacher,
    }


class Sweeper:
    """Fills in waiting pairs' differences once their truth has come, a bounded number at a time, round and round."""

    def __init__(self, store: Store, means: Means = NO_MEANS) -> None:
        self._store = store
        self._behind = ""
        self._known_judges = KnownJudges(means)

    def sweep(self, tasks: Mapping[str, TaskSettings]) -> int:
        """Look at the next waiting pairs; how many of them were scored. Those of a task that cannot be graded wait."""
        with self._store.read() as connection:
            rows = self._next(connection)
            judges = self._judges({row.task for row in rows}, tasks)
            ids = [row.exchange_id for row in rows]
            known = truths(connection, ids) if ids else {}
            ready = [row for row in rows if known.get(row.exchange_id) is not None and row.task in judges]
            bodies = load_bodies(connection, [row.exchange_id for row in ready]) if ready else {}
        self._behind = rows[-1].id if len(rows) == SWEEP else ""
        if not ready:
            return 0
        changes = [_rescored(row, tasks[row.task], (judges[row.task], bodies), known[row.exchange_id]) for row in ready]
        with self._store.write() as connection:
            for identity, values in changes:
                waiting = (pairs.c.id == identity) & (pairs.c.state == WAITING)
                connection.execute(update(pairs).where(waiting).values(values))
        return sum(values["state"] == SCORED for _, values in changes)

    def _judges(self, names: set[str], tasks: Mapping[str, TaskSettings]) -> dict[str, list[Judge]]:
        """The graders against truth of these tasks, but for tasks that are gone and those that cannot be graded."""
        found: dict[str, list[Judge]] = {}
        for name in names & tasks.keys():
            with suppress(ConfigError):  # logged where they were built
                found[name] = [judge for judge in self._known_judges.of(name, tasks[name]) if judge.needs_truth]
        return found

    def _next(self, connection: Connection) -> Sequence[Row[Any]]:
        live = rollouts.c.state.in_(LIVE_STATES)
        query = select(pairs, rollouts.c.task, rollouts.c.policy).join(rollouts, rollouts.c.id == pairs.c.rollout_id)
        query = query.where(live, pairs.c.state == WAITING, pairs.c.id > self._behind)
        return connection.execute(query.order_by(pairs.c.id).limit(SWEEP)).all()


def _rescored(
    row: Row[Any],
    task: TaskSettings,
    by: tuple[Sequence[Judge], Mapping[str, tuple[dict[str, Any], Answer]]],
    truth: Any,
) -> tuple[str, dict[str, Any]]:
    """A waiting pair with its truth: the new scores go over those that needed none, and its label is the true one.

    `by`: the graders against truth, and the exchanges' bodies.
    """
    judges, bodies = by
    request = bodies[row.exchange_id][0] if row.exchange_id in bodies else {}
    found = compare(judges, case_of(row, request, truth))
    values = scored_further(row, judges, RolloutSettings.model_validate(row.policy), found)
    label = true_label(truth, task.label)
    return row.id, values | ({"slices": {**row.slices, "label": label}} if label else {})


def case_of(row: Row[Any], request: dict[str, Any], truth: Any = None) -> Case:
    """A kept pair as graders look at it."""
    student = None if row.student_output is None else read_output(row.student_output)
    second = None if row.teacher_second is None else read_output(row.teacher_second)
    return Case(request, read_output(row.teacher_output), student, second, truth)


def scored_further(
    row: Row[Any], judges: Sequence[Judge], policy: RolloutSettings, found: Comparison
) -> dict[str, Any]:
    """The columns of a kept pair with new scores over those that it has; `judges`: those that may need a truth."""
    merged = Comparison(
        student={**row.student_scores, **found.student},
        teacher={**row.teacher_scores, **found.teacher},
        differences={**row.differences, **found.differences},
    )
    return {**_scores(merged), "state": state_of(judges, watched(policy), merged.differences)}


def forget_answers(connection: Connection, exchange_ids: Sequence[str]) -> None:
    """Blank the answers of pairs on exchanges that are removed. Their scores stay; what waits to be scored never is."""
    mine = pairs.c.exchange_id.in_(exchange_ids)
    blank = {"teacher_output": "", "teacher_second": None, "student_output": None}
    connection.execute(update(pairs).where(mine).values(blank))
    connection.execute(update(pairs).where(mine, pairs.c.state.in_((JUDGING, WAITING))).values(state=VOID))


def forget_erased(store: Store) -> int:
    """Delete the pairs of exchanges that were erased; how many."""
    with store.write() as connection:
        erased = pairs.c.exchange_id.in_(select(tombstones.c.exchange_id))
        return int(connection.execute(delete(pairs).where(erased)).rowcount)
