"""Owns the asking of pairs: shadow and after-the-fact, from raw requests, beside the traffic and never in its way."""

import queue
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import structlog
from sqlalchemy import select

from capture.errors import ConfigError, RefusedError, UpstreamAwayError
from capture.exchange import Answer, Arm, Exchange
from capture.graders.means import Means
from capture.prompts import fingerprint, hashed
from capture.redact import Redacted
from capture.rows import label_of
from capture.sampling import uniform
from capture.settings import TaskSettings
from students.claims import Claims, day_of
from students.clients import RETRIED, Reply, student_target, teacher_target
from students.comparison import Case, Judge, KnownJudges, compare
from students.heavy_keys import HeavyKeys
from students.judging import asked_of
from students.pairs import JUDGING, Drafted, insert_pair, state_of, watched
from students.presets import built_in_judges
from students.registry import LIVE_STATES, Student, load_student, server_of
from students.rollouts import Rollout, rollout_of
from students.slices import UNPROVEN, slices_of
from students.tables import pairs, rollouts
from students.view import StudentFacts, eligible, student_view
from students.workshop import Workshop

log = structlog.get_logger(__name__)

Redact = Callable[[TaskSettings, dict[str, Any], Answer, str], Redacted]
"""(task, raw request, raw answer, exchange id) → both as they may be kept."""

Kind = Literal["shadow", "canary"]
PAIRED_STATES = LIVE_STATES
"""Paused ones too: their student goes on answering, and harm still rolls back."""
QUEUE = 256
THREADS = 4
REFRESH_S = 1.0


@dataclass(frozen=True)
class Watched:
    """A live rollout with all that a pair of it needs."""

    rollout: Rollout
    student: Student
    task: TaskSettings
    judges: tuple[Judge, ...]


@dataclass(frozen=True)
class Stored:
    """One exchange as the shipper announces it, with its raw bodies and the probability that it was kept with."""

    exchange: Exchange
    request: dict[str, Any]
    answer: Answer
    probability: float
    alone: bool = False
    """Its session key has too much of the traffic to be a session's."""


@dataclass(frozen=True)
class Candidate:
    """One stored exchange that is to become a pair of one rollout."""

    watched: Watched
    kind: Kind
    stored: Stored
    unproven: bool

    @property
    def exchange(self) -> Exchange:
        return self.stored.exchange

    @property
    def request(self) -> dict[str, Any]:
        return self.stored.request

    @property
    def answer(self) -> Answer:
        return self.stored.answer

    @property
    def session(self) -> str:
        """A hash of the session's key, which may name a person; without a session, of the exchange."""
        key = None if self.stored.alone else self.exchange.session
        return hashed("session", key or self.exchange.id)

    @property
    def fingerprint(self) -> str:
        return self.exchange.fingerprint or fingerprint(self.request)

    @property
    def day(self) -> str:
        return day_of(self.exchange.started_at)

    @property
    def claim(self) -> tuple[str, str, str]:
        """One pair per rollout, session and day, as far as this process remembers; the table's key does the rest."""
        return self.watched.rollout.id, self.session, self.day


def candidate(watching: Watched, stored: Stored) -> Candidate | str:
    """The pair that an exchange is to become for a rollout, or a word for why it becomes none. Pure.

    A student's own answers are put to the teacher afterwards; everybody else's answers are shadowed by the student, but
    for those of who stands in where the teacher fails.
    """
    exchange, request, answer = stored.exchange, stored.request, stored.answer
    if exchange.status != 200 or not exchange.complete or answer.error is not None:
        return "unanswered"
    if exchange.arm != Arm.STUDENT and not _is_teachers(exchange, watching):
        return "fallback_of_the_teacher"
    student = watching.student
    facts = StudentFacts(student.fingerprints, student.tools, student.view)
    reason = eligible(request, exchange.fingerprint or fingerprint(request), facts)
    if reason not in (None, "unknown_prompt_version"):
        return "ineligible"
    rollout = watching.rollout
    share = paired_share(rollout)
    if share < 1 and uniform("pair", f"{rollout.id}\0{exchange.id}") >= share:
        return "not_sampled"
    # By the student, not by the rollout: an incumbent answers under a newer rollout what that leaves to the teacher.
    ours = exchange.arm == Arm.STUDENT and exchange.rollout is not None and exchange.student == student.name
    return Candidate(watching, "canary" if ours else "shadow", stored, reason is not None)


def _is_teachers(exchange: Exchange, watching: Watched) -> bool:
    """Whether the model answered that the request was meant for: the teacher's, or another that the client named."""
    teacher = watching.task.teacher
    if exchange.model not in ("", watching.rollout.task, teacher.model):
        return exchange.served_model in ("", exchange.model)
    return exchange.upstream == teacher.upstream and exchange.served_model in ("", teacher.model)


def paired_share(rollout: Rollout) -> float:
    """The part of the eligible traffic that is paired now: common to all requests, so evidence need not know it."""
    return rollout.policy.watch_share if rollout.state == "full" else rollout.policy.pair_share


class Pairer:
    """Takes stored exchanges, asks what is missing of their pairs in a few threads, and keeps the pairs.

    `offer` never waits: what does not fit into the queue is dropped and counted. `redact` is applied to every answer
    before it is kept; scores that need no later truth are taken from the raw ones.
    """

    def __init__(self, shop: Workshop, redact: Redact) -> None:
        self._store, self._settings, self._client = shop.store, shop.settings, shop.client
        self._redact, self._clock, self._caps = redact, shop.clock, shop.caps
        self._known_judges = KnownJudges(Means(python=shop.python))
        self._heavy = HeavyKeys()
        self._queue: queue.Queue[Candidate | None] = queue.Queue(QUEUE)
        self._threads: list[threading.Thread] = []
        self._live: dict[str, list[Watched]] = {}
        self._ungraded: dict[str, str] = {}
        self._claims = Claims()
        self._lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        self.obstacles: dict[str, str] = {}
        """By rollout: why its pairs are off at present, for the verdict's sentence."""

    def start(self) -> None:
        for number in range(THREADS):
            thread = threading.Thread(target=self._work, name=f"pairing-{number}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Let calls under way finish their pair, and leave what is queued: it was a sample anyway."""
        while True:
            try:
                self._queue.get_nowait()
            except queue.Empty:
                break
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join(timeout=10)
        self._threads = []

    def refresh(self, tasks: Mapping[str, TaskSettings]) -> None:
        """Look up the live rollouts; the worker calls it every second or so.

        One whose task cannot be graded is not paired, and says so among the obstacles.
        """
        query = select(rollouts).where(rollouts.c.state.in_(PAIRED_STATES))
        with self._store.read() as connection:
            found = [rollout_of(row) for row in connection.execute(query)]
        live: dict[str, list[Watched]] = {}
        ungraded: dict[str, str] = {}
        for rollout in found:
            task = tasks.get(rollout.task)
            if task is None:
                continue
            try:
                live.setdefault(rollout.task, []).append(self._watched(rollout, task))
            except ConfigError as error:
                ungraded[rollout.id] = f"its task cannot be graded: {error}"
        self._live = live
        kept = {one.id for one in found} - self._ungraded.keys()
        self.obstacles = {key: why for key, why in self.obstacles.copy().items() if key in kept} | ungraded
        self._ungraded = ungraded

    def _watched(self, rollout: Rollout, task: TaskSettings) -> Watched:
        """Raises ConfigError for graders that cannot work."""
        judges = (*self._known_judges.of(rollout.task, task), *built_in_judges(task, watched(rollout.policy)))
        return Watched(rollout, load_student(self._store, rollout.student_id), task, judges)

    def offer(self, stored: Stored, task: str | None) -> None:
        """The shipper's `on_stored`: decide at once, ask later."""
        watching = self._live.get(task or "", ())
        if watching and self._heavy.session(task or "", stored.exchange.session) is None:
            stored = replace(stored, alone=True)
        for one in watching:
            found = candidate(one, stored)
            if isinstance(found, str):
                self._count(found)
            elif self._claims.take(found.claim):
                self._put(found)

    def _put(self, found: Candidate) -> None:
        try:
            self._queue.put_nowait(found)
        except queue.Full:
            self._claims.give_back(found.claim)
            self._count("dropped:queue_full")

    def _count(self, name: str) -> None:
        with self._lock:
            self.counts[name] += 1

    def _work(self) -> None:
        while (found := self._queue.get()) is not None:
            try:
                self._count(self._pair(found))
            except Exception as error:  # noqa: BLE001 -- the edge of a loop: one pair is lost, the next is asked
                self._claims.give_back(found.claim)
                self._count("failed")
                log.warning("pair failed", rollout=found.watched.rollout.id, error=f"{type(error).__name__}: {error}")

    def _pair(self, found: Candidate) -> str:
        """Ask, compare, keep; a word for what became of it."""
        if self._known(found):
            return "session_has_a_pair"
        calls = _teacher_calls(found)
        why = self._obstacle(found, calls)
        if why is not None:
            self.obstacles[found.watched.rollout.id] = why
            self._claims.give_back(found.claim)
            return "held_back"
        try:  # before the teacher, who is paid
            student = self._ask_student(found)
        except (UpstreamAwayError, RefusedError) as error:
            return self._away(found, str(error), "student_away")
        try:
            answers = [self._ask_teacher(found) for _ in range(calls)]
        except UpstreamAwayError as error:
            return self._away(found, str(error), "teacher_away")
        if any(reply.error is not None for reply in answers):
            return self._away(
                found, f"the teacher answered with {answers[0].error or answers[-1].error}", "teacher_erred"
            )
        self.obstacles.pop(found.watched.rollout.id, None)
        self._keep(found, [reply.answer for reply in answers], student)
        return f"paired:{found.kind}"

    def _away(self, found: Candidate, why: str, word: str) -> str:
        self.obstacles[found.watched.rollout.id] = why
        self._claims.give_back(found.claim)
        return word

    def _known(self, found: Candidate) -> bool:
        same = (pairs.c.rollout_id == found.watched.rollout.id) & (pairs.c.session == found.session)
        with self._store.read() as connection:
            return connection.execute(select(pairs.c.id).where(same, pairs.c.day == found.day)).first() is not None

    def _obstacle(self, found: Candidate, teacher_calls: int) -> str | None:
        watching = found.watched
        teacher = watching.task.teacher
        if teacher_calls:
            if teacher_target(self._settings, teacher.upstream, teacher.model) is None:
                return f"upstream {teacher.upstream} has no worker key (worker_key_env), so its teacher is not asked"
            why = self._caps.obstacle(watching.rollout.task, teacher.upstream, watching.rollout.policy.spend_cap_usd)
            if why is not None:
                return why
        student = watching.student
        if student.upstream and found.kind == "shadow":
            return self._caps.obstacle(watching.rollout.task, student.upstream, watching.rollout.policy.spend_cap_usd)
        return None

    def _ask_teacher(self, found: Candidate) -> Reply:
        teacher = found.watched.task.teacher
        target = teacher_target(self._settings, teacher.upstream, teacher.model)
        if target is None:
            raise UpstreamAwayError(f"upstream {teacher.upstream} lost its worker key")
        reply = self._client.ask(target, found.request, found.exchange.route, attempts=2)
        self._caps.note_remaining(teacher.upstream, reply.remaining)
        self._caps.write(found.watched.rollout.task, "pairing", teacher.upstream, teacher.model, reply.answer)
        return reply

    def _ask_student(self, found: Candidate) -> Reply:
        """The student's answer: the one that was served, or a new one to the same request.

        Raises UpstreamAwayError while nobody answers as the student, RefusedError without a key to ask it with.
        """
        if found.kind == "canary":
            return Reply(found.answer, 200, found.exchange.duration_ms)
        student = found.watched.student
        target = student_target(self._settings, student, server_of(self._store, student.id))
        attempts = 2 if student.upstream else 1
        body = student_view(found.request, student.view, tools=student.tools)
        reply = self._client.ask(target, body, attempts=attempts)
        if student.upstream:
            self._caps.note_remaining(student.upstream, reply.remaining)
            self._caps.write(found.watched.rollout.task, "shadow", student.upstream, target.model, reply.answer)
            if reply.status in RETRIED:
                raise UpstreamAwayError(f"upstream {student.upstream} answers for the student with {reply.error}")
        return reply

    def _keep(self, found: Candidate, asked: list[Answer], student: Reply) -> None:
        teacher, second = _sides(found, asked)
        watching, exchange = found.watched, found.exchange
        output = student.answer if student.error is None else None
        result = compare(watching.judges, Case(found.request, teacher, output, second))
        kept = self._redact(watching.task, found.request, teacher, exchange.id)
        label = self._label(found, kept.answer, second)
        declared = watching.rollout.policy.slices
        slices = slices_of(kept.request, found.fingerprint, label, exchange.key_id, declared)
        draft = Drafted(
            rollout_id=watching.rollout.id,
            exchange_id=exchange.id,
            session=found.session,
            day=found.day,
            slices={**slices, **({UNPROVEN: "prompt"} if found.unproven else {})},
            stage=watching.rollout.stage,
            probability=paired_share(watching.rollout) * found.stored.probability,
            teacher=kept.answer,
            second=None if second is None else self._kept(found, second),
            student=None if output is None else self._kept(found, output),
            student_error=student.error,
            served=found.kind == "canary",
            created_at=self._clock(),
        )
        if asked_of(watching.rollout, watching.task):
            state = JUDGING
        else:
            state = state_of(watching.judges, watched(watching.rollout.policy), result.differences)
        insert_pair(self._store, draft, result, state)

    def _label(self, found: Candidate, teacher: Answer, second: Answer | None) -> str | None:
        """What the teacher said, where its second answer is the one that is compared; else only a truth may say it.

        Cut by an answer that is compared, a slice would hold the teacher's luck against an equal student: it holds no
        refusal of the teacher's, and of the classes that it takes for others only those that it got right.
        """
        watching, names = found.watched, watched(found.watched.rollout.policy)
        by_truth = any(judge.needs_truth and judge.name in names for judge in watching.judges)
        return None if second is None or by_truth else label_of(teacher, watching.task.label)

    def _kept(self, found: Candidate, answer: Answer) -> Answer:
        return self._redact(found.watched.task, found.request, answer, found.exchange.id).answer


def _teacher_calls(found: Candidate) -> int:
    """How often the teacher must be asked: where the captured answer is not its own, and once more without truth."""
    names = watched(found.watched.rollout.policy)
    second = any(judge.needs_second and judge.name in names for judge in found.watched.judges)
    return int(found.exchange.arm == Arm.STUDENT) + int(second)


def _sides(found: Candidate, asked: list[Answer]) -> tuple[Answer, Answer | None]:
    """The teacher's first and second answer, out of the captured exchange and the ones asked for."""
    first = asked[0] if found.exchange.arm == Arm.STUDENT else found.answer
    rest = asked[1:] if found.exchange.arm == Arm.STUDENT else asked
    return first, rest[0] if rest else None
