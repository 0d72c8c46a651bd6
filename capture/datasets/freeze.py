"""Freezing a dataset: queue it, choose its rows, write them with their hash, and only then call it ready."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from capture.datasets import sources, writing
from capture.datasets.balance import Pick
from capture.datasets.card import Card, Contents, Split
from capture.datasets.catalog import load_card
from capture.datasets.conversation import UnusableError, target_of
from capture.datasets.filters import Filters, Terms
from capture.datasets.lines import Lines
from capture.datasets.row import Row
from capture.datasets.selection import Selection, label, row_parts, select_rows
from capture.datasets.sources import Found
from capture.db import Store, insert_once
from capture.errors import NotFoundError, RefusedError, StillhouseError
from capture.graders import default_graders
from capture.ids import new_id
from capture.settings import TaskSettings, UpstreamSettings
from capture.tables import datasets

_ATTEMPTS = 5


def queue_build(
    store: Store, task: str, filters: Filters, clock: Callable[[], float], dataset_id: str | None = None
) -> str:
    """Asks for the task's next dataset and returns its id. What comes later than now is not in it.

    Where one with this `dataset_id` was asked for before, nothing is done.
    """
    now = clock()
    if filters.until is None:
        filters = msgspec.structs.replace(filters, until=now)
    row = {
        "id": dataset_id or new_id("ds_"),
        "task": task,
        "state": "queued",
        "filters": msgspec.to_builtins(filters),
        "card": {},
        "created_at": now,
    }
    for attempt in range(_ATTEMPTS):
        try:
            with store.write() as connection:
                newest = connection.scalar(select(func.max(datasets.c.version)).where(datasets.c.task == task))
                insert_once(connection, datasets, {**row, "version": (newest or 0) + 1}, ["id"])
            break
        except IntegrityError:  # another process took the version
            if attempt == _ATTEMPTS - 1:
                raise
    return str(row["id"])


def build(
    store: Store,
    dataset_id: str,
    tasks: Mapping[str, TaskSettings],
    upstreams: Mapping[str, UpstreamSettings],
    clock: Callable[[], float],
) -> Card:
    """Builds a queued dataset, or one that a crash left half-built, and returns its card; a ready one is left alone.

    The same exchanges, feedback, reviews and scores give the same bytes and the same hash. Raises NotFoundError for an
    unknown dataset or task, RefusedError where terms forbid training and where too few rows are left; the dataset is
    then `failed`, with the reason.
    """
    card = load_card(store, dataset_id)
    if card.state == "ready":
        return card
    writing.begin(store, dataset_id)
    try:
        _build(store, card, tasks, upstreams, clock)
    except StillhouseError as error:
        if isinstance(error, NotFoundError | RefusedError):
            writing.fail(store, dataset_id, str(error))
        raise
    return load_card(store, dataset_id)


def _build(
    store: Store,
    card: Card,
    tasks: Mapping[str, TaskSettings],
    upstreams: Mapping[str, UpstreamSettings],
    clock: Callable[[], float],
) -> None:
    if card.task not in tasks:
        raise NotFoundError(f"no task {card.task!r}: was it taken out of stillhouse.toml?")
    task = tasks[card.task]
    filters = msgspec.convert(card.filters, Filters)
    terms = terms_of(task, filters, upstreams)
    threshold = filters.near_duplicate or task.dataset.near_duplicate
    selection = select_rows(store, card.task, filters, terms, threshold)
    _check(selection, card.name, task.dataset.minimum_rows if filters.minimum_rows is None else filters.minimum_rows)
    contents, digest = _write(store, card.id, selection, terms)
    contents.near_duplicate = threshold
    now = clock()
    with store.write() as connection:
        writing.finish(connection, card.id, contents, digest, now)


def terms_of(task: TaskSettings, filters: Filters, upstreams: Mapping[str, UpstreamSettings]) -> Terms:
    """What a build asks of a row. Raises RefusedError for a teacher whose terms forbid training, and for a filter that
    the task's graders cannot answer."""
    allowed = frozenset(name for name, upstream in upstreams.items() if upstream.training_allowed)
    if task.teacher.upstream not in allowed:
        raise RefusedError(
            f"upstreams.{task.teacher.upstream} has training_allowed = false: its answers may be captured and "
            "evaluated, not trained on; set it to true if the provider's terms allow it"
        )
    minimum = task.dataset.minimum_score if filters.minimum_score is None else filters.minimum_score
    graders = default_graders(task)
    if unknown := sorted(minimum.keys() - graders.keys()):
        raise RefusedError(f"minimum_score names {unknown[0]!r}; the task's graders are {', '.join(graders)}")
    truth_graders = frozenset(name for name, one in graders.items() if one.against == "truth")
    if filters.truth != "any" and not truth_graders:
        raise RefusedError('a filter on truth needs a grader with against = "truth"')
    return Terms(task.label, minimum, truth_graders, allowed)


def _check(selection: Selection, name: str, minimum: int) -> None:
    rows = len(selection.train)
    if rows >= max(1, minimum):
        return
    reasons = ", ".join(f"{reason} {count}" for reason, count in selection.train_drops.most_common())
    looked = f"of {selection.train_considered} exchanges outside the holdout; left out: {reasons or 'none'}"
    if not rows:
        raise RefusedError(f"{name}: no exchange passes the filters, {looked}")
    raise RefusedError(f"{name}: only {rows} training rows, {minimum} are needed, {looked}")


def _write(store: Store, dataset_id: str, selection: Selection, terms: Terms) -> tuple[Contents, str]:
    """Writes the rows, the train split first, in short transactions, and returns what they hold and their hash."""
    lines = Lines(dataset_id)
    splits: tuple[tuple[Split, list[Pick], Counter[str]], ...] = (
        ("train", selection.train, selection.train_drops),
        ("holdout", selection.holdout, selection.holdout_drops),
    )
    for split, picks, drops in splits:
        for batch in _batches(picks):
            written = _lines(store, batch, split, terms, lines, drops)
            with store.write() as connection:
                writing.insert_rows(connection, written)
    contents = lines.tally.contents()
    contents.considered = {"train": selection.train_considered, "holdout": selection.holdout_considered}
    contents.drops = dict(sorted(selection.train_drops.items()))
    contents.holdout_drops = dict(sorted(selection.holdout_drops.items()))
    return contents, lines.hash


def _lines(
    store: Store, batch: Sequence[Pick], split: Split, terms: Terms, lines: Lines, drops: Counter[str]
) -> list[dict[str, Any]]:
    with store.read() as connection:
        found = sources.by_id(connection, [pick.id for pick in batch])
        if gone := len(batch) - len(found):
            drops["erased"] += gone
        loaded = sources.with_bodies(connection, sources.known_of(connection, found))
        return [lines.line(split, row, one.candidate) for row, one in _rows(loaded, split, terms, drops)]


def _batches(picks: Sequence[Pick]) -> Iterator[Sequence[Pick]]:
    for start in range(0, len(picks), sources.BATCH):
        yield picks[start : start + sources.BATCH]


def _rows(batch: Iterable[Found], split: Split, terms: Terms, drops: Counter[str]) -> Iterator[tuple[Row, Found]]:
    """The rows of a batch; one that can be none any more, by what was said since it was chosen, is counted instead."""
    for one in batch:
        try:
            yield _row(one, split, terms), one
        except UnusableError as error:
            drops[error.reason] += 1


def _row(one: Found, split: Split, terms: Terms) -> Row:
    """In the holdout the target is what the teacher said, whatever a person made of it later: that is in `truth`."""
    candidate, mended = one.candidate, one.known.is_corrected and split == "train"
    request, target = row_parts(one, as_answered=not mended)
    return Row(
        exchange_id=candidate.id,
        request=request,
        target=target,
        label=label(one, terms.label) if mended else candidate.label,
        fingerprint=candidate.fingerprint,
        conversation=candidate.conversation,
        session=candidate.session,
        truth=one.known.truth,
        source="correction" if mended else "teacher",
        started_at=candidate.started_at,
        metadata=dict(candidate.metadata),
        probability=candidate.probability,
        original=_original(one) if mended else None,
    )


def _original(one: Found) -> dict[str, object] | None:
    """The answer that a correction replaced, where it was one at all."""
    try:
        return target_of(one.bodies[1].message) if one.bodies else None
    except UnusableError:
        return None
