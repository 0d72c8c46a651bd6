"""Owns the asking of an evaluation: this machine's students one after another, beside them every upstream at once."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial

from sqlalchemy import select

from capture.db import upsert
from capture.errors import RefusedError
from capture.prices import cost_usd
from students.asking import Contender
from students.caps import Caps
from students.clients import RETRIED, Reply, Target, student_target, teacher_target
from students.comparison import Case, Judge, compare
from students.exams import Exam
from students.pairs import written
from students.registry import unwant_if_idle
from students.sittings import Sitting
from students.tables import evaluation_answers
from students.workshop import Workshop

AT_ONCE = 8
TEACHER = "teacher"
"""The key under which the teacher's second answers are kept."""

Papers = Mapping[str, Sequence[Exam]]
"""Sitting key → the rows that it is examined on."""


@dataclass(frozen=True)
class Room:
    """What every arm of one evaluation shares. `count` is told how many answers are there."""

    shop: Workshop
    task: str
    kept_under: str
    judges: Sequence[Judge]
    count: Callable[[int], None]

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
        found = compare(self.judges, Case(exam.request, exam.teacher, answer, truth=exam.truth))
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

    def spent(self, purpose: str, target: Target, reply: Reply) -> None:
        caps = Caps(self.shop.store, self.shop.settings, self.shop.clock)
        caps.write(self.task, purpose, target.upstream, target.model, reply.answer)


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
    if isinstance(seat, Contender):
        for sitting in own:
            _ask_upstream(room, sitting.key, missing[sitting.key], (seat.upstream, seat.model), sitting.body)
        return
    server, wished = room.shop.served(seat)
    target = student_target(room.shop.settings, seat, server)
    try:
        for sitting in own:
            found = asked(room.shop, missing[sitting.key], asking(room.shop, target, sitting.body))
            for exam, reply in found:
                room.keep(sitting.key, exam, reply, seat.upstream_model or seat.name)
                room.count(1)
    finally:
        if wished:
            unwant_if_idle(room.shop.store, seat.id)


def ask_teacher(room: Room, exams: Sequence[Exam], teacher: tuple[str, str]) -> None:
    """The second answers of `teacher`, (upstream, model): its agreement with itself is the students' ceiling."""
    _ask_upstream(room, TEACHER, room.missing(TEACHER, exams), teacher, dict)


def _ask_upstream(
    room: Room, key: str, missing: Sequence[Exam], model: tuple[str, str], body: Callable[..., dict[str, object]]
) -> None:
    """What an upstream refuses is its model's error; while it is away nothing is kept, and it is asked again."""
    target = upstream_target(room.shop, *model)
    for exam, reply in asked(room.shop, missing, asking(room.shop, target, body, attempts=3)):
        room.spent("evaluation", target, reply)
        if reply.error is None or (reply.status >= 400 and reply.status not in RETRIED):
            room.keep(key, exam, reply, target.model)
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


def asked(shop: Workshop, exams: Sequence[Exam], ask: Callable[[Exam], Reply]) -> Iterator[tuple[Exam, Reply]]:
    """Answers as they come, AT_ONCE under way. Raises Stopping, after those under way, when the worker has to end."""
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="evaluation") as pool:
        for start in range(0, len(exams), AT_ONCE * 4):
            shop.check()
            under_way = {pool.submit(ask, exam): exam for exam in exams[start : start + AT_ONCE * 4]}
            for future in as_completed(under_way):
                yield under_way[future], future.result()
