"""Scores for stored exchanges: given when an exchange comes, and again when a truth or a review does.

A teacher is never scored 1 by definition: its answers are graded against truth or by graders that compare with nothing.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace

import msgspec
import structlog
from sqlalchemy import ColumnElement, Connection, bindparam, delete, literal_column, select, update

from capture import feedback
from capture.bodies import unpack_answer, unpack_request
from capture.db import Store, upsert
from capture.errors import ConfigError, JudgeAwayError
from capture.exchange import Answer
from capture.graders import TaskGraders, graders_of
from capture.graders.means import Judges, Means
from capture.graders.registry import NO_MEANS
from capture.graders.sample import Json
from capture.loading import is_large, stream_bodies
from capture.settings import TaskSettings
from capture.tables import exchanges, graded, judging, scores

JUDGE_AGAIN_S, JUDGE_AGAIN_AT_MOST_S = 30.0, 3600.0
"""How long an exchange waits whose judge is away, at first and at most."""

CLAIM_S = 600.0
"""How long a process has for one exchange: every try of every retry may run into its time limit. One that died gives
its exchanges back then."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _Wanted:
    """An exchange that calls for scoring. `mark` is how often it was called for: it may be again while we work."""

    id: str
    task: str | None
    answered: bool
    mark: int


@dataclass(frozen=True)
class _Score:
    exchange_id: str
    grader: str
    version: str
    input_hash: str
    value: float


@dataclass(frozen=True)
class _Turn:
    """An exchange that this process has taken to judge; others may from `until` (Unix seconds) on."""

    exchange_id: str
    task: str
    tries: int
    until: float


def score_new(
    store: Store,
    tasks: Mapping[str, TaskSettings],
    clock: Callable[[], float],
    limit: int = 500,
    means: Means = NO_MEANS,
) -> int:
    """Scores up to `limit` exchanges that call for it and returns how many it dealt with; 0: all are.

    The cost does not grow with the history. A task whose graders changed since the last call is scored anew as a whole;
    one whose graders cannot work as configured is logged and gets no scores until they are mended.
    """
    usable = _usable(tasks, means)
    _notice(store, {name: _digest(tasks[name], usable.get(name)) for name in tasks})
    feedback.settle(store)
    with store.read() as connection:
        wanted = _wanted(connection, limit)
    if not wanted:
        return 0
    with store.write() as connection:
        feedback.link(connection, [one.id for one in wanted])
    with store.read() as connection:
        scored = _score(connection, wanted, usable)
    now = clock()
    with store.write() as connection:
        _keep(connection, wanted, scored, now)
        _call_judges(connection, wanted, usable, scored)
    return len(wanted)


def _call_judges(
    connection: Connection, wanted: Sequence[_Wanted], usable: Mapping[str, TaskGraders], scored: Sequence[_Score]
) -> None:
    """Puts those on the judges' list that they have yet to speak on."""
    known = {(score.exchange_id, score.grader) for score in scored}
    rows = [
        {"exchange_id": one.id, "task": one.task, "tries": 0, "not_before": 0.0, "obstacle": None}
        for one in wanted
        if one.answered and one.task
        if any((one.id, judge) not in known for judge in _judges_in(usable, one.task))
    ]
    present = select(exchanges.c.id).where(exchanges.c.id.in_([row["exchange_id"] for row in rows]))
    there = set(connection.scalars(present)) if rows else set()
    upsert(connection, judging, [row for row in rows if row["exchange_id"] in there], ["exchange_id"])


def judge_next(
    store: Store,
    tasks: Mapping[str, TaskSettings],
    judges_of: Callable[[str, TaskSettings], AbstractContextManager[Judges]],
    clock: Callable[[], float],
    limit: int = 50,
) -> int:
    """Has up to `limit` waiting exchanges judged and returns how many were tried; 0: none is due.

    Each is judged by one process: it is taken first, for CLAIM_S. What a judge cannot be asked about now waits, longer
    each time; the reason is kept with it.
    """
    taken = _taken(store, clock(), limit)
    for name in sorted({turn.task for turn in taken}):
        own = [turn for turn in taken if turn.task == name]
        if name not in tasks:
            _judge_all(store, own, None, clock)
            continue
        with judges_of(name, tasks[name]) as judges:
            _judge_all(store, own, _judging(name, tasks[name], judges), clock)
    return len(taken)


def _taken(store: Store, now: float, limit: int) -> list[_Turn]:
    """Takes up to `limit` exchanges that are due and that no other process has."""
    due = select(judging).where(judging.c.not_before <= now).order_by(judging.c.not_before, judging.c.exchange_id)
    with store.read() as connection:  # most often there is none: no need to write
        if connection.execute(due.limit(1)).first() is None:
            return []
    with store.write() as connection:
        rows = connection.execute(due.limit(limit).with_for_update(skip_locked=True)).all()
        turns = [_Turn(row.exchange_id, row.task, row.tries, now + CLAIM_S) for row in rows]
        mine = judging.c.exchange_id.in_([turn.exchange_id for turn in turns])
        connection.execute(update(judging).where(mine).values(not_before=now + CLAIM_S))
    return turns


def _held(turn: _Turn) -> ColumnElement[bool]:
    """True of its row while nobody else has taken it, and nothing has called for it again."""
    return (judging.c.exchange_id == turn.exchange_id) & (judging.c.not_before == turn.until)


def _taken_on(store: Store, turn: _Turn, now: float) -> _Turn | None:
    """The turn with all its time before it again; None where it is no longer held."""
    with store.write() as connection:
        held = connection.execute(update(judging).where(_held(turn)).values(not_before=now + CLAIM_S)).rowcount
    return replace(turn, until=now + CLAIM_S) if held else None


def _judging(name: str, task: TaskSettings, judges: Judges) -> TaskGraders | None:
    try:
        return graders_of(task, Means(judges=judges)).parted[1]
    except ConfigError as error:
        _log.error("a task cannot be judged", task=name, error=str(error))
        return None


def _judge_all(store: Store, turns: Sequence[_Turn], graders: TaskGraders | None, clock: Callable[[], float]) -> None:
    """Judges exchanges of one task; once its judge is away, those that are left are put off unasked."""
    away: str | None = None
    for one in turns:
        turn = one if away else _taken_on(store, one, clock())
        if turn is None:
            continue
        away = away or _judge(store, turn, graders, clock())
        if away is not None:
            _put_off(store, turn, clock(), away)


def _judge(store: Store, turn: _Turn, graders: TaskGraders | None, now: float) -> str | None:
    """Judges one exchange and takes it off the list; why not, where its judge is away."""
    found: list[_Score] = []
    if graders is not None:
        with store.read() as connection:
            truths = feedback.truths(connection, [turn.exchange_id])
            bodies = list(stream_bodies(connection, [turn.exchange_id]))
        for identity, request, answer in bodies:
            if is_large(request) or is_large(answer):
                continue
            given = (unpack_request(request), unpack_answer(answer), truths.get(identity))
            try:
                values = graders.score(given[1], truth=given[2], request=given[0])
            except JudgeAwayError as error:
                return str(error)
            shown = _hash(given)
            found += [_Score(identity, name, graders.versions[name], shown, one) for name, one in values.items()]
    with store.write() as connection:
        present = connection.scalar(select(exchanges.c.id).where(exchanges.c.id == turn.exchange_id))
        rows = [asdict(score) | {"scored_at": now} for score in found if present]
        upsert(connection, scores, rows, ["exchange_id", "grader"])
        connection.execute(delete(judging).where(_held(turn)))
    return None


def _put_off(store: Store, turn: _Turn, now: float, why: str) -> None:
    wait_s = min(JUDGE_AGAIN_S * 2**turn.tries, JUDGE_AGAIN_AT_MOST_S)
    later = {"tries": min(turn.tries + 1, 20), "not_before": now + wait_s, "obstacle": why[:300]}
    with store.write() as connection:
        connection.execute(update(judging).where(_held(turn)).values(later))


def _hash(given: tuple[Json, Answer, Json]) -> str:
    return hashlib.sha256(msgspec.json.encode(given, order="sorted")).hexdigest()[:16]


def _judges_in(usable: Mapping[str, TaskGraders], task: str) -> frozenset[str]:
    return usable[task].judges if task in usable else frozenset()


def rescore(store: Store, task: str) -> int:
    """Calls for all of a task's exchanges to be scored, and returns how many there are."""
    with store.write() as connection:
        chosen = update(exchanges).where(exchanges.c.task == task)
        return connection.execute(chosen.values(score_wanted=exchanges.c.score_wanted + 1)).rowcount


def _wanted(connection: Connection, limit: int) -> list[_Wanted]:
    columns = (exchanges.c.id, exchanges.c.task, exchanges.c.complete, exchanges.c.status, exchanges.c.score_wanted)
    unscored = exchanges.c.score_wanted > literal_column("0")  # no parameter: only so is the partial index used
    found = connection.execute(select(*columns).where(unscored).order_by(exchanges.c.id).limit(limit))
    return [_Wanted(row.id, row.task, row.complete and row.status == 200, row.score_wanted) for row in found]


def _usable(tasks: Mapping[str, TaskSettings], means: Means) -> dict[str, TaskGraders]:
    found = {}
    for name, task in tasks.items():
        try:
            found[name] = graders_of(task, means)
        except ConfigError as error:
            _log.error("a task cannot be graded", task=name, error=str(error))
    return found


def _digest(task: TaskSettings, graders: TaskGraders | None) -> str:
    versions = graders.versions if graders else None
    return hashlib.sha256(msgspec.json.encode([task.label, versions], order="sorted")).hexdigest()[:16]


def _notice(store: Store, digests: Mapping[str, str]) -> None:
    """Calls for a task's exchanges to be scored when it is not graded as it was."""
    with store.read() as connection:
        before = {row.task: row.graders for row in connection.execute(select(graded))}
    changed = {name: digest for name, digest in digests.items() if before.get(name) != digest}
    for name in changed.keys() & before.keys():
        rescore(store, name)
    if changed:
        with store.write() as connection:
            upsert(connection, graded, [{"task": name, "graders": changed[name]} for name in sorted(changed)], ["task"])


def _score(connection: Connection, wanted: Sequence[_Wanted], graders: Mapping[str, TaskGraders]) -> list[_Score]:
    gradable = {one.id: graders[one.task] for one in wanted if one.answered and one.task and one.task in graders}
    ids = list(gradable)
    truths, known = feedback.truths(connection, ids), _known(connection, ids)
    scores = []
    for exchange_id, request, answer in stream_bodies(connection, ids):
        if is_large(request) or is_large(answer):
            _log.warning("an exchange is too large to be scored", exchange=exchange_id)
            continue
        given = (unpack_request(request), unpack_answer(answer), truths.get(exchange_id))
        scores += _graded(exchange_id, gradable[exchange_id], given, known)
    return scores


def _graded(
    exchange_id: str, graders: TaskGraders, given: tuple[Json, Answer, Json], known: Mapping[tuple[str, ...], float]
) -> list[_Score]:
    """One exchange's scores. Those of the same grader version over the same input are taken as they were."""
    request, answer, truth = given
    input_hash = _hash(given)
    versions = graders.versions
    still = {name: known.get((exchange_id, name, version, input_hash)) for name, version in versions.items()}
    held = {name: value for name, value in still.items() if value is not None}
    try:
        values = graders.parted[0].score(answer, truth=truth, request=request, known=held)
    except Exception:  # noqa: BLE001 - one exchange that a grader cannot take must not stop the others
        _log.exception("an exchange could not be scored", exchange=exchange_id)
        values = held
    return [_Score(exchange_id, name, versions[name], input_hash, value) for name, value in values.items()]


def _known(connection: Connection, exchange_ids: Sequence[str]) -> dict[tuple[str, ...], float]:
    found = connection.execute(select(scores).where(scores.c.exchange_id.in_(exchange_ids)))
    return {(row.exchange_id, row.grader, row.version, row.input_hash): row.value for row in found}


def _keep(connection: Connection, wanted: Sequence[_Wanted], new: Sequence[_Score], now: float) -> None:
    """Puts the new scores in the old ones' place. What was called for again meanwhile stays called for."""
    connection.execute(delete(scores).where(scores.c.exchange_id.in_([one.id for one in wanted])))
    present = set(connection.scalars(select(exchanges.c.id).where(exchanges.c.id.in_([one.id for one in wanted]))))
    rows = [asdict(score) | {"scored_at": now} for score in new if score.exchange_id in present]
    upsert(connection, scores, rows, ["exchange_id", "grader"])
    done = update(exchanges).where(exchanges.c.id == bindparam("of"), exchanges.c.score_wanted == bindparam("mark"))
    connection.execute(done.values(score_wanted=0), [{"of": one.id, "mark": one.mark} for one in wanted])
