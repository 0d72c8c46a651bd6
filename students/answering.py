"""Owns the asking of an evaluation: this machine's students one after another, beside them every upstream at once."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from sqlalchemy import select

from capture.db import upsert
from capture.errors import RefusedError, UpstreamAwayError
from capture.prices import cost_usd
from students.asking import Contender
from students.clients import RETRIED, Reply, Target, student_target, teacher_target
from students.comparison import Case, Judge, compare
from students.exams import Exam
from students.pairs import written
from students.registry import Server, Student, unwant_if_idle
from students.samples import sample_of
from students.sittings import Sitting
from students.tables import evaluation_answers
from students.workshop import Workshop

AT_ONCE = 8
BATCH = 4 * AT_ONCE
"""After so many questions a look is taken whether the next may be asked."""

TEACHER = "teacher"
"""The key under which the teacher's second answers are kept."""

T = TypeVar("T")
Papers = Mapping[str, Sequence[Exam]]
"""Sitting key → the rows that it is examined on."""


def _uncounted(_: int) -> None:
    pass


@dataclass(frozen=True, kw_only=True)
class Room:
    """What every arm of one evaluation shares. `count` is told how many answers are there.

    `judges` score only what is kept under a key in `graded`: nobody reads the other answers' scores. What is spent is
    written down for `purpose`; `cap_usd` is the day's cap on background calls, None where it binds none of these.
    """

    shop: Workshop
    task: str
    kept_under: str
    judges: Sequence[Judge] = ()
    graded: frozenset[str] = frozenset()
    count: Callable[[int], None] = _uncounted
    purpose: str = "evaluation"
    cap_usd: float | None = None

    def missing(self, key: str, exams: Sequence[Exam]) -> list[Exam]:
        """The exams that nobody has answered under this key yet; the others are counted."""
        known = evaluation_answers.c
        answered = select(known.exchange_id).where(known.dataset_id == self.kept_under, known.student_id == key)
        with self.shop.store.read() as connection:
            found = set(connection.execute(answered).scalars())
        left = [exam for exam in exams if exam.id not in found]
        self.count(len(exams) - len(left))
        return left

    def keep(self, key: str, exam: Exam, reply: Reply, price_name: str) -> None:
        answer = reply.answer if reply.error is None else None
        judges = self.judges if key in self.graded else ()
        found = compare(judges, Case(exam.request, exam.teacher, answer, truth=exam.truth))
        values = {
            "dataset_id": self.kept_under,
            "exchange_id": exam.id,
            "student_id": key,
            "output": "" if answer is None else written(answer),
            "error": reply.error,
            "duration_ms": reply.duration_ms,
            "cost_usd": cost_usd(price_name, reply.answer.usage, self.shop.settings.prices),
            "scores": found.student,
        }
        with self.shop.store.write() as connection:
            upsert(connection, evaluation_answers, [values], ["dataset_id", "exchange_id", "student_id"])

    def admit(self, upstream: str) -> None:
        """Wait while little of the upstream's rate limit is left.

        Raises UpstreamAwayError at the day's spend cap, Stopping when the worker has to end.
        """
        caps = self.shop.caps
        while rest_s := caps.rest_s(upstream):
            self.shop.pause(rest_s)
        why = caps.obstacle(self.task, upstream, self.cap_usd)
        if why is not None:
            raise UpstreamAwayError(f"upstream {upstream} may not be asked now: {why}")

    def spent(self, target: Target, reply: Reply) -> None:
        self.shop.caps.note_remaining(target.upstream, reply.remaining)
        self.shop.caps.write(self.task, self.purpose, target.upstream, target.model, reply.answer)


def side_by_side(lanes: Sequence[Callable[[], None]]) -> None:
    """All lanes to their end; then the first error is raised. What the others have answered is kept."""
    if not lanes:
        return
    with ThreadPoolExecutor(len(lanes), thread_name_prefix="arm") as pool:
        ended = [pool.submit(lane) for lane in lanes]
    for one in ended:
        one.result()


def lanes_of(room: Room, sat: Sequence[Sitting], papers: Papers) -> list[Callable[[], None]]:
    """One for this machine, whose cores all local students share, and one for each upstream."""
    lanes: dict[str, list[list[Sitting]]] = {}
    for sitting in sat:
        lane = lanes.setdefault(sitting.seat.upstream or "", [])
        same = [own for own in lane if own[0].seat == sitting.seat]
        if same:
            same[0].append(sitting)
        else:
            lane.append([sitting])
    return [partial(_in_turn, room, seats, papers) for seats in lanes.values()]


def _in_turn(room: Room, seats: Sequence[Sequence[Sitting]], papers: Papers) -> None:
    for own in seats:
        _examine(room, own, papers)


def _examine(room: Room, own: Sequence[Sitting], papers: Papers) -> None:
    """All sittings of one seat, whose server is asked for only when something is missing."""
    missing = {sitting.key: room.missing(sitting.key, papers[sitting.key]) for sitting in own}
    if not any(missing.values()):
        return
    seat = own[0].seat
    if isinstance(seat, Student) and seat.kind != "registered":
        _ask_here(room, seat, own, missing)
        return
    for sitting in own:
        ask_upstream(room, sitting.key, missing[sitting.key], _model_of(seat), sitting.body)


def _model_of(seat: Student | Contender) -> tuple[str, str]:
    """(upstream, model) of a seat at an upstream."""
    if isinstance(seat, Contender):
        return seat.upstream, seat.model
    return str(seat.upstream), str(seat.upstream_model)


def _ask_here(room: Room, seat: Student, own: Sequence[Sitting], missing: Papers) -> None:
    """A student that this machine serves. Its server draws as live traffic does: greedily another one answers."""
    left = [sitting for sitting in own if missing[sitting.key]]
    draws = sample_of(room.shop.store, seat).temperature > 0
    apart = [sitting for sitting in left if draws and sitting.role == "greedy"]
    live = [sitting for sitting in left if sitting not in apart]
    if live:
        server, wished = room.shop.served(seat)
        try:
            _ask_server(room, seat, server, live, missing)
        finally:
            if wished:
                unwant_if_idle(room.shop.store, seat.id)
    if apart:
        with room.shop.greedily(seat) as server:
            _ask_server(room, seat, server, apart, missing)


def _ask_server(room: Room, seat: Student, server: Server | None, own: Sequence[Sitting], missing: Papers) -> None:
    """Whatever a student answers is its answer."""
    target = student_target(room.shop.settings, seat, server)
    for sitting in own:
        for exam, reply in asked(room, missing[sitting.key], asking(room.shop, target, sitting.body)):
            room.keep(sitting.key, exam, reply, seat.name)
            room.count(1)


def ask_teacher(room: Room, exams: Sequence[Exam], teacher: tuple[str, str]) -> None:
    """The second answers of `teacher`, (upstream, model): its agreement with itself is the students' ceiling."""
    ask_upstream(room, TEACHER, room.missing(TEACHER, exams), teacher, dict)


def _unread(reply: Reply) -> Reply:
    return reply


def ask_upstream(
    room: Room,
    key: str,
    missing: Sequence[Exam],
    model: tuple[str, str],
    body: Callable[..., dict[str, object]],
    read: Callable[[Reply], Reply] = _unread,
) -> None:
    """What an upstream refuses is its model's error; while it is away nothing is kept, and it is asked again.

    `model`: (upstream, model). `read`: what a reply is taken for before it is kept.
    """
    target = upstream_target(room.shop, *model)
    for exam, reply in asked(room, missing, asking(room.shop, target, body, attempts=3), target.upstream):
        room.spent(target, reply)
        if reply.error is None or (reply.status >= 400 and reply.status not in RETRIED):
            room.keep(key, exam, read(reply), target.model)
        room.count(1)


def upstream_target(shop: Workshop, upstream: str, model: str) -> Target:
    """Raises RefusedError for an upstream that is not in the file, or has no worker key."""
    if upstream not in shop.settings.upstreams:
        raise RefusedError(f"no upstream {upstream!r} in stillhouse.toml")
    target = teacher_target(shop.settings, upstream, model)
    if target is None:
        raise RefusedError(f"upstream {upstream} has no worker key; set worker_key_env in stillhouse.toml")
    return target


def asking(
    shop: Workshop, target: Target, body: Callable[..., dict[str, object]], attempts: int = 1
) -> Callable[[Exam], Reply]:
    return lambda exam: shop.client.ask(target, body(exam.request), attempts=attempts)


def asked(
    room: Room, exams: Sequence[Exam], ask: Callable[[Exam], T], upstream: str | None = None, batch: int = BATCH
) -> Iterator[tuple[Exam, T]]:
    """What `ask` says of each exam, as it comes, AT_ONCE under way; each batch is admitted by `upstream`, if named.

    When one raises, those that have not begun are left, the others are still given out, and then its error is raised:
    what was paid for is kept. Raises Stopping, after those under way, when the worker has to end.
    """
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="asking") as pool:
        for start in range(0, len(exams), batch):
            room.shop.check()
            if upstream is not None:
                room.admit(upstream)
            yield from _given({pool.submit(ask, exam): exam for exam in exams[start : start + batch]})


def _given(under_way: Mapping[Future[T], Exam]) -> Iterator[tuple[Exam, T]]:
    trouble: BaseException | None = None
    for future in as_completed(under_way):
        if future.cancelled():
            continue
        error = future.exception()
        if error is None:
            yield under_way[future], future.result()
        elif trouble is None:
            trouble = error
            for other in under_way:
                other.cancel()
    if trouble is not None:
        raise trouble
