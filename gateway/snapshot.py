"""The routing snapshot: everything that the hot path knows of tasks, rollouts, students, keys and secrets, frozen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from sqlalchemy import Connection, func, null, select

from capture.db import Store
from capture.exchange import Arm
from capture.keys import Key, live_keys, spent_usd
from capture.settings import RolloutSettings, Settings, TaskSettings, ViewSettings
from capture.tables import exchanges
from capture.tables import tasks as task_table
from capture.tasks import Matcher
from gateway.upstreams import Directory, Endpoint, endpoint, server_endpoint
from students.tables import fine_tunes, leases, rollouts, student_servers, students
from students.view import StudentFacts

ROUTED_STATES = ("running", "paused", "full")
LATENCY_ROWS = 200


@dataclass(frozen=True, slots=True)
class LiveStudent:
    """A student and where it answers; `endpoint` is None while its server is not ready."""

    id: str
    name: str
    task: str
    served_model: str
    facts: StudentFacts
    endpoint: Endpoint | None
    capacity_per_s: float | None
    registered: bool  # at an upstream of the file, with that upstream's credentials
    key_id: str | None = None  # the gateway key that alone may name it; None: all may
    on_demand: bool = False  # a client of the API made it: it sleeps while nobody asks for it

    @property
    def passed(self) -> bool:
        """Trained at its upstream for no task of ours: what names it goes there as it came."""
        return self.registered and not self.task


@dataclass(frozen=True, slots=True)
class LiveRollout:
    """A rollout that gateways must know of. `share` 0 is shadow: nothing is routed by it."""

    id: str
    task: str
    state: str
    share: float
    deadline_s: float | None
    student: LiveStudent


@dataclass(frozen=True, slots=True)
class Latency:
    """The teacher's 95th percentile to the first content, in seconds, over its last answers; None: none seen."""

    unary_s: float | None = None
    stream_s: float | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One look at the store, at `read_at` (Unix seconds). Never changed; a new one takes its place."""

    directory: Directory
    endpoints: Mapping[str, Endpoint] = field(default_factory=dict)
    tasks: Mapping[str, TaskSettings] = field(default_factory=dict)
    matcher: Matcher = field(default_factory=lambda: Matcher({}))
    students: Mapping[str, LiveStudent] = field(default_factory=dict)  # by the name they answer under
    rollouts: Mapping[str, Sequence[LiveRollout]] = field(default_factory=dict)  # by task: the newest first
    latencies: Mapping[str, Latency] = field(default_factory=dict)  # by task
    keys: Mapping[str, Key] = field(default_factory=dict)  # by digest
    secrets: Mapping[str, str] = field(default_factory=dict)  # by upstream
    matched_headers: frozenset[bytes] = frozenset()  # that some task's rule looks at
    matches_fingerprints: bool = False
    spent_usd: Mapping[str, float] = field(default_factory=dict)  # this month, by the id of a key that has a budget
    ticked_at: float = 0.0  # the controller's last tick
    read_at: float = 0.0
    from_store: bool = False
    knows_keys: bool = True  # false: keys are required and were never read, so that an unknown one may be good


def from_file(settings: Settings, secrets: Mapping[str, str]) -> Snapshot:
    """What `stillhouse.toml` alone says: the snapshot to start with, and the one while the store was never reached."""
    endpoints = {name: endpoint(name, upstream) for name, upstream in settings.upstreams.items()}
    start = Snapshot(Directory(endpoints, settings.gateway.default_upstream), endpoints, secrets=secrets)
    return _with_tasks(start, settings.tasks)


@dataclass(frozen=True, slots=True)
class Slow:
    """What costs more to read, and is read less often."""

    latencies: Mapping[str, Latency] = field(default_factory=dict)
    spent_usd: Mapping[str, float] = field(default_factory=dict)


def load(store: Store, start: Snapshot, slow: Slow, now: float) -> Snapshot:
    """One short read of the store, laid over `start`, the file's. Raises StoreAwayError."""
    with store.read() as connection:
        live = _students(connection, start.endpoints)
        return replace(
            _with_tasks(start, {**_tasks(connection), **start.tasks}),
            students={student.name: student for student in live.values()},
            rollouts=_rollouts(connection, live),
            latencies=slow.latencies,
            spent_usd=slow.spent_usd,
            keys=live_keys(connection),
            ticked_at=connection.execute(select(func.max(leases.c.ticked_at))).scalar() or 0.0,
            read_at=now,
            from_store=True,
        )


def load_slow(store: Store, known: Snapshot, now: float) -> Slow:
    """The teachers' pace in tasks with rollouts, and what keys with a budget have spent. Raises StoreAwayError."""
    limited = [key.id for key in known.keys.values() if key.limits.monthly_usd is not None]
    with store.read() as connection:
        latencies = {
            task: Latency(_p95_s(connection, task, stream=False), _p95_s(connection, task, stream=True))
            for task in known.rollouts
        }
        return Slow(latencies, spent_usd(connection, limited, now))


def _with_tasks(snapshot: Snapshot, tasks: Mapping[str, TaskSettings]) -> Snapshot:
    return replace(
        snapshot,
        tasks=tasks,
        matcher=Matcher(tasks),
        matched_headers=frozenset(name.lower().encode() for task in tasks.values() for name in task.match.headers),
        matches_fingerprints=any(task.match.fingerprint for task in tasks.values()),
    )


def _p95_s(connection: Connection, task: str, *, stream: bool) -> float | None:
    query = (
        select(exchanges.c.first_ms)
        .where(exchanges.c.task == task, exchanges.c.arm == Arm.TEACHER, exchanges.c.stream == stream)
        .where(exchanges.c.complete, exchanges.c.status == 200, exchanges.c.first_ms.is_not(None))
        .order_by(exchanges.c.id.desc())
        .limit(LATENCY_ROWS)
    )
    times = sorted(connection.execute(query).scalars())
    return times[min(len(times) - 1, int(0.95 * len(times)))] / 1000 if times else None


def _tasks(connection: Connection) -> dict[str, TaskSettings]:
    rows = connection.execute(select(task_table.c.name, task_table.c.settings).where(task_table.c.source == "console"))
    return {row.name: TaskSettings.model_validate(row.settings) for row in rows}


def _students(connection: Connection, endpoints: Mapping[str, Endpoint]) -> dict[str, LiveStudent]:
    """By id: those that somebody wants served, those served on demand, and those registered at an upstream."""
    on_demand = fine_tunes.c.asked.is_not(null()) & student_servers.c.student_id.is_not(None)
    columns = (*students.c, student_servers.c.state, student_servers.c.url, student_servers.c.served_model)
    query = (
        select(*columns, student_servers.c.capacity_per_s, on_demand.label("on_demand"))
        .outerjoin(student_servers, student_servers.c.student_id == students.c.id)
        .outerjoin(fine_tunes, fine_tunes.c.id == students.c.fine_tune_id)
        .where(student_servers.c.wanted_at.is_not(None) | students.c.upstream.is_not(None) | on_demand)
    )
    return {row.id: _student(row, endpoints) for row in connection.execute(query)}


def _student(row: object, endpoints: Mapping[str, Endpoint]) -> LiveStudent:
    found = getattr  # a joined row has no type of its own
    name, upstream, url = found(row, "name"), found(row, "upstream"), found(row, "url")
    if upstream:
        where = endpoints.get(upstream)
    else:
        where = server_endpoint(name, url) if found(row, "state") == "ready" and url else None
    facts = StudentFacts(
        frozenset(found(row, "fingerprints")), found(row, "tools"), ViewSettings.model_validate(found(row, "view"))
    )
    return LiveStudent(
        id=found(row, "id"),
        name=name,
        task=found(row, "task"),
        served_model=(found(row, "upstream_model") if upstream else found(row, "served_model")) or name,
        facts=facts,
        endpoint=where,
        capacity_per_s=found(row, "capacity_per_s"),
        registered=bool(upstream),
        key_id=found(row, "key_id"),
        on_demand=bool(found(row, "on_demand")),
    )


def _rollouts(connection: Connection, live: Mapping[str, LiveStudent]) -> dict[str, list[LiveRollout]]:
    query = select(rollouts).where(rollouts.c.state.in_(ROUTED_STATES)).order_by(rollouts.c.created_at.desc())
    found: dict[str, list[LiveRollout]] = {}
    for row in connection.execute(query):
        student = live.get(row.student_id)
        if student is not None:
            deadline_s = RolloutSettings.model_validate(row.policy).deadline_s
            share = 0.0 if row.dry_run else row.share
            one = LiveRollout(row.id, row.task, row.state, share, deadline_s, student)
            found.setdefault(row.task, []).append(one)
    return found
