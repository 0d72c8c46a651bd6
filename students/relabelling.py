"""Owns better targets: rows answered anew by a stronger teacher or several times, and what a student failed on."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec
from sqlalchemy import select

from capture.datasets import Filters, Row, load_card, rows
from capture.datasets.card import Split
from capture.datasets.conversation import UnusableError, target_of
from capture.datasets.derive import derive
from capture.datasets.filters import Relabel
from capture.db import Store
from capture.errors import NotFoundError, RefusedError
from capture.exchange import Answer
from capture.graders.of_task import reference_of
from capture.graders.sample import Sample
from capture.judges import TaskJudges
from capture.rows import label_of
from capture.settings import TaskSettings
from students.answering import Room, ask_upstream, asked
from students.asking import Contender
from students.clients import Reply
from students.comparison import Judge
from students.exams import Exam
from students.pairs import read_output
from students.panel import panel_of
from students.sittings import with_system
from students.tables import evaluation_answers, pairs, rollouts
from students.workshop import Workshop

CUT = ("length", "content_filter")
MOST_MISSES = 5000


def carry_out(shop: Workshop, dataset_id: str) -> None:
    """Build a dataset whose filters ask for relabelling. Repeatable: each answer is kept, and asked for once.

    Raises RefusedError for an upstream whose terms forbid training, UpstreamAwayError while it or a judge does not
    answer, and at the task's spend caps of the day.
    """
    card = load_card(shop.store, dataset_id)
    wanted = msgspec.convert(card.filters, Filters).relabel
    if wanted is None or card.state == "ready":
        return
    check(shop, wanted)
    task = shop.load_tasks().get(card.task)
    if task is None:
        raise NotFoundError(f"task {card.task!r} is gone")
    taught = [Exam(row, Answer(message=row.target), row.truth) for row in rows(shop.store, wanted.of, "train")]
    asked_anew = [exam for exam in taught if exam.row.source != "correction"]
    cap_usd = task.rollout.spend_cap_usd
    room = Room(shop=shop, task=card.task, kept_under=wanted.of, purpose="relabelling", cap_usd=cap_usd)
    keys = [key_of(wanted, number) for number in range(wanted.samples)]
    body = partial(with_system, system=wanted.system)
    for key in keys:
        missing = room.missing(key, asked_anew)
        ask_upstream(room, key, missing, (wanted.upstream, wanted.model), body, _whole)
    with TaskJudges(shop.store, shop.settings, (card.task, task), shop.caps, shop.clock) as models:
        chosen = _chosen(room, asked_anew, keys, panel_of(shop, card.task, task, models).judges)
    derive(shop.store, dataset_id, wanted.of, _rows(shop.store, wanted, chosen, task), shop.clock)


def check(shop: Workshop, wanted: Relabel) -> None:
    """Raises RefusedError for what could not be kept as a target."""
    known = shop.settings.upstreams.get(wanted.upstream)
    if known is None or not known.training_allowed:
        raise RefusedError(f"upstreams.{wanted.upstream} has training_allowed = false: its answers may not train")


def key_of(wanted: Relabel, number: int) -> str:
    """Under what the answers of one sample are kept."""
    return f"relabel:{Contender(wanted.upstream, wanted.model, wanted.system).key}:{number}"


def misses(store: Store, student_id: str, limit: int = MOST_MISSES) -> tuple[str, ...]:
    """Exchanges on which this student did worse than the teacher, or erred: in live pairs and in evaluations.

    Newest first. Those of the holdout are among them; a build takes none of those.
    """
    own = (
        select(pairs.c.exchange_id, pairs.c.differences, pairs.c.student_error)
        .join(rollouts, rollouts.c.id == pairs.c.rollout_id)
        .where(rollouts.c.student_id == student_id)
        .order_by(pairs.c.id.desc())
    )
    kept = evaluation_answers.c
    examined = select(kept.exchange_id, kept.scores, kept.error).where(kept.student_id == student_id)
    with store.read() as connection:
        live = [
            row.exchange_id
            for row in connection.execute(own)
            if row.student_error or any(value < 0 for value in row.differences.values())
        ]
        failed = [
            row.exchange_id
            for row in connection.execute(examined.order_by(kept.exchange_id.desc()))
            if row.error or any(value < 1 for value in row.scores.values())
        ]
    return tuple(dict.fromkeys([*live, *failed]))[:limit]


def best(candidates: Sequence[Answer], row: Row, judges: Sequence[Judge]) -> int:
    """The place of the candidate with the highest mean score; of equal ones the first.

    Graders against truth judge where one is known, graders without a reference always. Graders against the teacher
    score a candidate by its mean agreement with the others: what most say is kept.
    """
    totals = [_worth(candidates, at, row, judges) for at in range(len(candidates))]
    return max(range(len(candidates)), key=lambda at: (totals[at], -at))


def _worth(candidates: Sequence[Answer], at: int, row: Row, judges: Sequence[Judge]) -> float:
    found = []
    for judge in judges:
        score = partial(_score, judge, candidates[at], dict(row.request))
        if judge.needs_truth:
            reference = reference_of(row.truth, judge.label)
            values = [] if reference is None else [score(reference)]
        elif judge.needs_second:
            values = [score(other) for place, other in enumerate(candidates) if place != at]
        else:
            values = [score(None)]
        known = [value for value in values if value is not None]
        found += [sum(known) / len(known)] if known else []
    return sum(found) / len(found) if found else 0.0


def _score(judge: Judge, output: Answer, request: dict[str, Any], reference: Any) -> float | None:
    return judge.grader.score(Sample(output=output, reference=reference, request=request))


def _whole(reply: Reply) -> Reply:
    """An answer that was cut, or can be no target, is an error."""
    if reply.error is not None:
        return reply
    if reply.answer.finish_reason in CUT:
        return replace(reply, error="cut")
    try:
        target_of(reply.answer.message)
    except UnusableError as error:
        return replace(reply, error=error.reason)
    return reply


def _chosen(
    room: Room, exams: Sequence[Exam], keys: Sequence[str], judges: Sequence[Judge]
) -> Mapping[str, Answer | None]:
    """Exchange id → what was said better than what the row has; None where nothing was."""
    kept = [_kept(room.shop.store, room.kept_under, key) for key in keys]

    def choose(exam: Exam) -> Answer | None:
        said = [Answer(message=answers[exam.id]) for answers in kept if exam.id in answers]
        chosen = best([*said, exam.teacher], exam.row, judges)
        return None if chosen == len(said) else said[chosen]

    return {exam.id: answer for exam, answer in asked(room, exams, choose)}


def _rows(
    store: Store, wanted: Relabel, chosen: Mapping[str, Answer | None], task: TaskSettings
) -> Iterator[tuple[Split, Row]]:
    for row in rows(store, wanted.of, "train"):
        target = chosen.get(row.exchange_id)
        yield "train", row if target is None else _relabelled(row, target, wanted, task)
    for row in rows(store, wanted.of, "holdout"):
        yield "holdout", row


def _relabelled(row: Row, answer: Answer, wanted: Relabel, task: TaskSettings) -> Row:
    return msgspec.structs.replace(
        row,
        target=target_of(answer.message),
        label=label_of(answer, task.label),
        original=row.target,
        source="relabel",
        labelled_by=f"{wanted.upstream}/{wanted.model}",
    )


def _kept(store: Store, dataset_id: str, key: str) -> Mapping[str, dict[str, Any]]:
    own = evaluation_answers.c
    query = select(own.exchange_id, own.output).where(own.dataset_id == dataset_id, own.student_id == key)
    with store.read() as connection:
        found = connection.execute(query.where(own.error.is_(None)))
        return {row.exchange_id: read_output(row.output).message for row in found}
