"""Owns the judging of pairs: licensed judges on both arms' kept answers, and the word for who cannot be heard."""

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, select, update

from capture.errors import ConfigError, JudgeAwayError
from capture.graders.means import Means
from capture.graders.registry import default_graders
from capture.judges import TaskJudges
from capture.licences import licences
from capture.loading import load_bodies
from capture.settings import TaskSettings
from students.comparison import Comparison, Judge, KnownJudges, compare, judges_of
from students.pairs import JUDGING, case_of, scored_further, watched
from students.presets import BUILT_IN
from students.registry import LIVE_STATES
from students.rollouts import Rollout, rollout_of
from students.tables import pairs, rollouts
from students.workshop import Workshop

BATCH = 50
"""Pairs of one rollout that one turn has judged."""

AT_ONCE = 4
AGAIN_S = 30.0
"""How long a judge that is away is left alone."""

PATIENCE_S = 300.0
"""How long a pair waits for its judges. Then it counts without them: the other tests must not be blind meanwhile."""

LICENCE_S = 60.0
"""How long what a licence says is believed."""

NOT_YET = "its judges have not been heard since this worker began to lead"

NOTHING = Comparison({}, {}, {})


def asked_of(rollout: Rollout, task: TaskSettings) -> frozenset[str]:
    """The judges that a rollout decides by: graders of its task that ask a model."""
    judges = {name for name, one in default_graders(task).items() if one.is_judge}
    return frozenset(judges.intersection(watched(rollout.policy)))


@dataclass
class _Heard:
    """What is known of one rollout's judges; a word is why they cannot be heard now."""

    unlicensed: str | None = None
    away: str | None = NOT_YET
    again_at: float = 0.0
    """Until then (Unix seconds) they are not asked."""

    @property
    def why(self) -> str | None:
        return self.unlicensed or self.away


@dataclass(frozen=True)
class _Licences:
    """Why each judge of a task decides nothing (None: it may), as it was found out; believed until a time."""

    task: TaskSettings
    until: float
    obstacles: Mapping[str, str | None]


class Judging:
    """Has pairs judged by the worker that leads.

    One thread calls `turn`; `unheard` may be called from another.
    """

    def __init__(self, shop: Workshop) -> None:
        self._shop, self._store, self._clock = shop, shop.store, shop.clock
        self._known_judges = KnownJudges(Means(python=shop.python))
        self._able = KnownJudges(Means(python=shop.python))  # of the other thread
        self._heard: dict[str, _Heard] = {}
        self._licences: dict[str, _Licences] = {}

    def turn(self, tasks: Mapping[str, TaskSettings]) -> int:
        """Have the next pairs of every live rollout judged; how many were."""
        found = self._live()
        self._heard = {rollout.id: self._heard.get(rollout.id, _Heard()) for rollout in found}
        return sum(self._judge(rollout, tasks[rollout.task]) for rollout in found if rollout.task in tasks)

    def stand_down(self) -> None:
        """Another worker leads: what was heard here is forgotten."""
        self._heard = {}

    def unheard(self, tasks: Mapping[str, TaskSettings]) -> dict[str, str]:
        """By live rollout, why one of those that it decides by cannot speak now, as a sentence's part."""
        found = {rollout.id: self._silence(rollout, tasks.get(rollout.task)) for rollout in self._live()}
        return {rollout_id: why for rollout_id, why in found.items() if why is not None}

    def _silence(self, rollout: Rollout, task: TaskSettings | None) -> str | None:
        if task is None:
            return f"task {rollout.task} is gone"
        judges = asked_of(rollout, task)
        try:
            able = {judge.name for judge in self._able.of(rollout.task, task)}
        except ConfigError as error:
            return f"its task cannot be graded: {error}"
        mute = [gate for gate in rollout.policy.gates if gate not in able | judges | BUILT_IN.keys()]
        if mute:
            return _mute(mute[0], task)
        return self._heard.get(rollout.id, _Heard()).why if judges else None

    def _live(self) -> list[Rollout]:
        query = select(rollouts).where(rollouts.c.state.in_(LIVE_STATES))
        with self._store.read() as connection:
            return [rollout_of(row) for row in connection.execute(query)]

    def _judge(self, rollout: Rollout, task: TaskSettings) -> int:
        heard, judges = self._heard[rollout.id], asked_of(rollout, task)
        try:
            others = self._known_judges.of(rollout.task, task)
        except ConfigError:  # `unheard` says so, and the pairs wait for a task that can be graded
            return 0
        heard.unlicensed = self._unlicensed(rollout.task, task, judges)
        now, judged = self._clock(), 0
        if judges and heard.unlicensed is None and not now < heard.again_at <= now + AGAIN_S:
            judged = self._ask(rollout, task, judges, others)
        self._let_go(rollout, others, self._clock() - (PATIENCE_S if judges else 0.0))
        return judged

    def _unlicensed(self, name: str, task: TaskSettings, judges: frozenset[str]) -> str | None:
        if not judges:
            return None
        now, known = self._clock(), self._licences.get(name)
        if known is None or known.task != task or not now < known.until <= now + LICENCE_S:
            obstacles = {judge: one.obstacle for judge, one in licences(self._store, name, task).items()}
            known = self._licences[name] = _Licences(task, now + LICENCE_S, obstacles)
        found = {judge: known.obstacles[judge] for judge in sorted(judges)}
        return next((f"judge {judge} has no licence: {why}" for judge, why in found.items() if why is not None), None)

    def _ask(self, rollout: Rollout, task: TaskSettings, judges: frozenset[str], others: Sequence[Judge]) -> int:
        """What a judge said is kept as it comes; once one is away, the pairs that are left are not asked about."""
        rows = self._waiting(rollout)
        if not rows:
            return 0
        with self._store.read() as connection:
            bodies = load_bodies(connection, [row.exchange_id for row in rows])
        requests = {exchange_id: request for exchange_id, (request, _) in bodies.items()}
        shop, heard, judged = self._shop, self._heard[rollout.id], 0
        with (
            TaskJudges(self._store, shop.settings, (rollout.task, task), shop.caps, self._clock) as asked,
            ThreadPoolExecutor(AT_ONCE, thread_name_prefix="judging") as pool,
        ):
            means = Means(judges=asked, python=shop.python)
            speaking = [judge for judge in judges_of(task, means) if judge.name in judges]
            hearing = _Hearing(speaking, shop.stopping)
            said = pool.map(lambda row: hearing.of(row, requests.get(row.exchange_id, {})), rows)
            for row, found in zip(rows, said, strict=True):
                if found is not None:
                    self._keep(row, scored_further(row, others, rollout.policy, found))
                    judged += 1
        heard.away = hearing.away
        heard.again_at = self._clock() + AGAIN_S if hearing.away else 0.0
        return judged

    def _waiting(self, rollout: Rollout, until: float | None = None) -> Sequence[Row[Any]]:
        """The next pairs that judges have yet to speak on; `until`: only those that were made before that time."""
        mine = (pairs.c.rollout_id == rollout.id) & (pairs.c.state == JUDGING)
        query = select(pairs).where(mine).order_by(pairs.c.id).limit(BATCH)
        with self._store.read() as connection:
            return connection.execute(query if until is None else query.where(pairs.c.created_at <= until)).all()

    def _let_go(self, rollout: Rollout, others: Sequence[Judge], until: float) -> None:
        """Pairs that have waited long enough count by what else is known of them."""
        for row in self._waiting(rollout, until):
            self._keep(row, scored_further(row, others, rollout.policy, NOTHING))

    def _keep(self, row: Row[Any], values: Mapping[str, Any]) -> None:
        unjudged = (pairs.c.id == row.id) & (pairs.c.state == JUDGING)
        with self._store.write() as connection:
            connection.execute(update(pairs).where(unjudged).values(values))


class _Hearing:
    """Judges on some pairs. Thread-safe; once one of them is away, or the worker ends, no other pair is asked about."""

    def __init__(self, judges: Sequence[Judge], stopping: threading.Event) -> None:
        self._judges, self._stopping = judges, stopping
        self.away: str | None = None

    def of(self, row: Row[Any], request: dict[str, Any]) -> Comparison | None:
        if self.away is not None or self._stopping.is_set():
            return None
        try:
            return compare(self._judges, case_of(row, request))
        except JudgeAwayError as error:
            self.away = str(error)
            return None


def _mute(gate: str, task: TaskSettings) -> str:
    if gate in default_graders(task):
        return f"{gate} runs Python, which is off here (python_graders.allowed)"
    return f"the task has no grader {gate} any more"
