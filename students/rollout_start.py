"""Begins a rollout in shadow: what is refused before the first pair, and the policy as it is frozen with it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, select
from sqlalchemy.exc import IntegrityError

from capture import licences
from capture.db import Store
from capture.errors import RefusedError
from capture.graders.registry import default_graders
from capture.ids import new_id
from capture.settings import GraderSettings, RolloutSettings, TaskSettings
from students.pace import teacher_pace
from students.policy import policy_of
from students.presets import BUILT_IN, Pace, guardrails_of
from students.registry import Student, load_student, want
from students.rollouts import Clock, Rollout, load_rollout, write_verdict
from students.slices import check_declared
from students.tables import evaluations, rollouts


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
            write_verdict(connection, str(values["id"]), ("start", 0, 0.0), note, request.who, now)
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
