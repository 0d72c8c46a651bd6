"""Owns what a person can do with a rollout, and how it is read: start, pause, resume, promote, abort, list, status."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, select, update
from sqlalchemy.exc import IntegrityError

from capture import licences
from capture.db import Store
from capture.errors import NotFoundError, RefusedError
from capture.graders.registry import default_graders
from capture.ids import new_id
from capture.settings import GraderSettings, RolloutSettings, TaskSettings
from students.pace import teacher_pace
from students.policy import policy_of
from students.presets import BUILT_IN, Pace, guardrails_of
from students.registry import LIVE_STATES, Student, load_student, server_of, want
from students.sentences import capacity, stage_name
from students.slices import check_declared
from students.standing import carried
from students.tables import evaluations, rollouts, verdicts

Clock = Callable[[], float]

NEEDS_PERSON, WAITS_FOR_PERSON = "needs_person", "waits_for_person"
"""Reasons of a hold that pauses a rollout until a person resumes, promotes or aborts it."""

STAGE_ANEW = -1
"""In place of a standing's stage: the controller begins the counts of the rollout's stage anew."""


@dataclass(frozen=True)
class Start:
    """What a person asks for. No `policy`: the task's own. `force` needs a reason; `dry_run` decides, moves nothing."""

    task: str
    student: str
    who: str
    policy: RolloutSettings | None = None
    reason: str = ""
    force: bool = False
    dry_run: bool = False


@dataclass(frozen=True)
class Rollout:
    """One row of rollouts. `evidence` is students.standing's state; `share` is what gateways route by."""

    id: str
    task: str
    student_id: str
    state: str
    stage: int
    share: float
    policy: RolloutSettings
    evidence: dict[str, Any]
    reason: str | None
    dry_run: bool
    created_at: float
    stage_at: float
    ended_at: float | None


@dataclass(frozen=True)
class VerdictRow:
    """One row of verdicts: what was decided or done, by whom, and the share after it."""

    id: str
    rollout_id: str
    at: float
    kind: str
    stage: int
    share: float
    reason: str
    sentence: str
    numbers: dict[str, Any]
    who: str


def start(store: Store, request: Start, task: TaskSettings, clock: Clock, *, python: bool = True) -> Rollout:
    """Begin a rollout in shadow and ask for its student to be served. `python`: whether Python graders may run.

    Raises RefusedError for a policy that cannot be met, a judge that would gate without a licence, a student of another
    task, one without an evaluation (unless forced with a reason) and a task that has a rollout under way; ConfigError
    for graders that cannot work; NotFoundError for a student that is not there. An incumbent at full stays: the new
    rollout takes its share from it, and gives it back when it is rolled back.
    """
    licensed = licences.licensed(store, request.task, task)
    policy = frozen_policy(request.policy or task.rollout, task, teacher_pace(store, request.task), licensed)
    if not python:
        _check_python([*policy.gates, *policy.guardrails], default_graders(task))
    student = load_student(store, request.student)
    _check_student(store, request, student)
    now = clock()
    values = {
        "id": new_id("ro_"),
        "task": request.task,
        "student_id": student.id,
        "state": "running",
        "stage": 0,
        "share": 0.0,
        "policy": policy.model_dump(mode="json"),
        "fence": 0,
        "reason": request.reason or None,
        "dry_run": request.dry_run,
        "created_at": now,
        "stage_at": now,
    }
    try:
        with store.write() as connection:
            values["evidence"] = {"attempt": _attempt(connection, request.task), "floor": _floor(task)}
            connection.execute(rollouts.insert().values(values))
            note = f"{request.who} started a rollout of {student.name}" + (
                f": {request.reason}" if request.reason else ""
            )
            _write_verdict(connection, str(values["id"]), ("start", 0, 0.0), note, request.who, now)
    except IntegrityError as error:
        raise RefusedError(
            f"task {request.task} has a rollout under way; abort it, or wait until it is at full"
        ) from error
    want(store, student.id, clock)
    return load_rollout(store, str(values["id"]))


def frozen_policy(
    settings: RolloutSettings, task: TaskSettings, pace: Pace, licensed: Collection[str] = ()
) -> RolloutSettings:
    """The policy with everything written out that would otherwise follow the task's settings later on.

    `licensed`: the judges that agree with people's reviews often enough to gate something. Raises RefusedError for a
    policy that cannot be met.
    """
    check_declared(settings.slices)
    graders = default_graders(task)
    policy = policy_of(settings, (*graders, *BUILT_IN))
    guardrails = guardrails_of(task.kind, settings, policy.gates, pace)
    judges = {name for name, one in graders.items() if one.is_judge}
    _check_judges(policy.gates, judges.intersection([*policy.gates, *guardrails]), licensed)
    return settings.model_copy(update={"gates": policy.gates, "guardrails": guardrails})


def _floor(task: TaskSettings) -> float:
    """The smallest probability that an exchange is kept with, promised before the first pair (students/evidence.py).

    What a cap thins out further counts as if it had been kept with this: one user's flood is not all of the traffic.
    """
    return min(task.sampling.rate, *(stratum.rate for stratum in task.sampling.strata), 1.0)


def _check_judges(gates: Sequence[str], judges: Collection[str], licensed: Collection[str]) -> None:
    """`judges`: those that the policy decides by."""
    if all(gate in judges for gate in gates):
        raise RefusedError(f"a judge alone never promotes: name a gate beside {', '.join(gates)} that asks no model")
    strangers = sorted(set(judges) - set(licensed))
    if strangers:
        raise RefusedError(
            f"judge {', '.join(strangers)} has no licence to gate or to guard: it has to agree with people's reviews "
            "often enough"
        )


def _check_python(names: Sequence[str], graders: Mapping[str, GraderSettings]) -> None:
    mute = [name for name in dict.fromkeys(names) if name in graders and graders[name].runs_python]
    if mute:
        raise RefusedError(f"{', '.join(mute)} would never speak: Python graders are off (python_graders.allowed)")


def _check_student(store: Store, request: Start, student: Student) -> None:
    if student.task != request.task:
        raise RefusedError(f"student {student.name} was trained for task {student.task}, not {request.task}")
    if request.force:
        if not request.reason:
            raise RefusedError("a forced start needs a reason")
        return
    query = select(evaluations.c.students).where(evaluations.c.task == request.task, evaluations.c.state == "succeeded")
    with store.read() as connection:
        evaluated = any(student.id in ids for ids in connection.execute(query).scalars())
    if not evaluated:
        raise RefusedError(f"student {student.name} has no evaluation; run one, or force the start with a reason")


def _attempt(connection: Connection, task: str) -> int:
    """The how-manieth student in a row this is since the task last had one at full."""
    full = select(func.max(rollouts.c.created_at)).where(
        rollouts.c.task == task, rollouts.c.state.in_(("full", "superseded"))
    )
    since = connection.execute(full).scalar() or 0.0
    tried = select(func.count()).where(rollouts.c.task == task, rollouts.c.created_at > since)
    return int(connection.execute(tried).scalar_one()) + 1


def pause(store: Store, rollout_id: str, who: str, clock: Clock) -> Rollout:
    """Keep the share as it is: evidence goes on, harm still rolls back, nothing advances."""
    return _act(store, rollout_id, ("pause", ("running",), lambda _row: {"state": "paused"}), (who, ""), clock)


def resume(store: Store, rollout_id: str, who: str, clock: Clock, seen: int | None = None) -> Rollout:
    """Let a paused rollout go on.

    One that paused by itself, undecided, gets its stage's whole bound again. One that waited for a person before the
    next stage may enter it now, as soon as (and only while) its proof stands. `seen`: as for `promote`.
    """

    def changes(row: Row[Any]) -> dict[str, Any]:
        if row.reason == NEEDS_PERSON:
            return {"state": "running", "stage_at": clock(), "evidence": {**row.evidence, "stage": STAGE_ANEW}}
        if row.reason == WAITS_FOR_PERSON:
            return {"state": "running", "evidence": {**row.evidence, "agreed": row.stage}}
        return {"state": "running"}

    return _act(store, rollout_id, ("resume", ("paused",), changes), (who, ""), clock, seen)


def abort(store: Store, rollout_id: str, who: str, reason: str, clock: Clock) -> Rollout:
    """End a rollout at any stage: all its traffic goes back at once."""
    changes = {"state": "aborted", "share": 0.0, "ended_at": clock()}
    return _act(store, rollout_id, ("abort", LIVE_STATES, lambda _row: changes), (who, reason), clock)


def promote(store: Store, rollout_id: str, who: str, reason: str, clock: Clock, seen: int | None = None) -> Rollout:
    """Move a rollout on by one stage, by a person's will instead of by proof.

    `seen`: the stage that the person decided on. Raises RefusedError without a reason, where somebody else, or a
    verdict, has moved it from there meanwhile, and for a share beyond the student's measured capacity: all that it
    cannot carry would reach the teacher late. A dry run gets no share of the traffic by it.
    """
    if not reason.strip():
        raise RefusedError("promoting by hand needs a reason")
    server = server_of(store, load_rollout(store, rollout_id).student_id)
    capacity_per_s = server.capacity_per_s if server else None

    def changes(row: Row[Any]) -> dict[str, Any]:
        shares = RolloutSettings.model_validate(row.policy).shares
        if row.stage >= len(shares):
            raise RefusedError(f"rollout {rollout_id} is at its last stage")
        stage = row.stage + 1
        full = stage == len(shares) and not row.dry_run
        share = 0.0 if row.dry_run else shares[stage - 1]
        _check_capacity(share, carried(capacity_per_s, row.evidence.get("rate_per_s")))
        return {"stage": stage, "share": share, "stage_at": clock(), "state": "full" if full else "running"}

    return _act(store, rollout_id, ("promote", ("running", "paused"), changes), (who, reason), clock, seen)


def _check_capacity(share: float, capacity_share: float | None) -> None:
    if capacity_share is None or share <= capacity_share:
        return
    mend = "; serve it on a larger machine, or start a rollout whose shares end lower" if capacity_share else ""
    raise RefusedError(f"cannot promote to {stage_name(share)}: {capacity(share, capacity_share)}{mend}")


Changes = Callable[[Row[Any]], dict[str, Any]]
"""The rollout's row, locked → the columns that an action sets."""


def _act(
    store: Store,
    rollout_id: str,
    action: tuple[str, Sequence[str], Changes],
    by: tuple[str, str],
    clock: Clock,
    seen: int | None = None,
) -> Rollout:
    """One change by a person, in one transaction with its row in verdicts; only from the states that allow it."""
    kind, states, changes_of = action
    who, reason = by
    now = clock()
    with store.write() as connection:
        row = connection.execute(select(rollouts).where(rollouts.c.id == rollout_id).with_for_update()).one_or_none()
        if row is None:
            raise NotFoundError(f"no rollout {rollout_id!r}; `stillhouse rollouts status` shows them")
        if row.state not in states:
            raise RefusedError(f"cannot {kind} rollout {rollout_id}: it is {row.state} at stage {row.stage}")
        if seen is not None and row.stage != seen:
            raise RefusedError(
                f"rollout {rollout_id} has moved to stage {row.stage} since you looked at it; look again"
            )
        changes = changes_of(row)
        note = reason or f"{kind} by {who}"
        connection.execute(update(rollouts).where(rollouts.c.id == rollout_id).values(**changes, reason=note))
        if changes.get("state") == "full":
            supersede(connection, row.task, rollout_id, now)
        after = changes.get("stage", row.stage), changes.get("share", row.share)
        sentence = f"{who}: {kind}" + (f", because {reason}" if reason else "")
        _write_verdict(connection, rollout_id, (kind, *after), sentence, who, now)
    return load_rollout(store, rollout_id)


def supersede(connection: Connection, task: str, winner: str, now: float) -> None:
    """The incumbent's share is the new student's now; its rollout ends."""
    others = (rollouts.c.task == task) & (rollouts.c.state == "full") & (rollouts.c.id != winner)
    values = {"state": "superseded", "share": 0.0, "ended_at": now, "reason": f"superseded by {winner}"}
    connection.execute(update(rollouts).where(others).values(values))


def _write_verdict(
    connection: Connection, rollout_id: str, verdict: tuple[str, int, float], sentence: str, who: str, now: float
) -> None:
    kind, stage, share = verdict
    values = {"id": new_id(), "rollout_id": rollout_id, "at": now, "kind": kind, "stage": stage, "share": share}
    connection.execute(verdicts.insert().values(**values, reason=kind, sentence=sentence, numbers={}, who=who))


def load_rollout(store: Store, rollout_id: str) -> Rollout:
    """Raises NotFoundError."""
    with store.read() as connection:
        row = connection.execute(select(rollouts).where(rollouts.c.id == rollout_id)).one_or_none()
    if row is None:
        raise NotFoundError(f"no rollout {rollout_id!r}; `stillhouse rollouts status` shows them")
    return rollout_of(row)


def list_rollouts(store: Store, task: str | None = None, limit: int = 50) -> list[Rollout]:
    """Newest first; of one task or of all."""
    query = select(rollouts).order_by(rollouts.c.created_at.desc(), rollouts.c.id.desc()).limit(limit)
    if task is not None:
        query = query.where(rollouts.c.task == task)
    with store.read() as connection:
        return [rollout_of(row) for row in connection.execute(query)]


def list_verdicts(store: Store, rollout_id: str, limit: int = 100) -> list[VerdictRow]:
    """The last `limit` of a rollout's verdicts, oldest first."""
    query = select(verdicts).where(verdicts.c.rollout_id == rollout_id).order_by(verdicts.c.id.desc()).limit(limit)
    with store.read() as connection:
        return [VerdictRow(**row._mapping) for row in connection.execute(query)][::-1]


def paired_at(rollout: Rollout, stage: int) -> float:
    """The part of the traffic that is paired at a stage: a factor of each pair's probability, common to all."""
    policy = rollout.policy
    return policy.watch_share if stage == len(policy.shares) and not rollout.dry_run else policy.pair_share


def rollout_of(row: Row[Any]) -> Rollout:
    values = dict(row._mapping)
    del values["fence"]
    values["policy"] = RolloutSettings.model_validate(values["policy"])
    return Rollout(**values)
