"""Owns the count that the loop goes by: how many rows of a task came since a time that a build would accept."""

from collections.abc import Iterator, Mapping

from sqlalchemy import select

from capture.datasets import Filters
from capture.datasets.filters import Candidate, Terms, reason_against
from capture.datasets.sources import BATCH, by_id, known_of
from capture.db import Store
from capture.graders import default_graders
from capture.settings import TaskSettings, UpstreamSettings
from capture.tables import exchanges
from students.turns import Fresh


def has_many(store: Store, name: str, since: float, count: int) -> bool:
    """Whether so many exchanges outside the holdout came after `since`; cheap, and asked before anything is counted."""
    own = exchanges.c
    newest = select(own.started_at).where(own.task == name, own.holdout.is_(False)).order_by(own.id.desc())
    with store.read() as connection:
        at = connection.execute(newest.offset(count - 1).limit(1)).scalar()
    return at is not None and at > since


def accepted(
    store: Store,
    name: str,
    task: TaskSettings,
    upstreams: Mapping[str, UpstreamSettings],
    span: tuple[float, float],
) -> Fresh:
    """Rows captured inside `span`, after its first and until its second time, that pass the task's own filters.

    Duplicates are counted: only a build tells them.
    """
    since, until = span
    allowed = frozenset(upstream for upstream, known in upstreams.items() if known.training_allowed)
    graders = default_graders(task)
    truth_graders = frozenset(grader for grader, one in graders.items() if one.against == "truth")
    terms = Terms(task.label, task.dataset.minimum_score, truth_graders, allowed)
    filters = Filters(until=until)
    count = 0
    for batch in _newest(store, name, since):
        with store.read() as connection:
            found = known_of(connection, batch)
        count += sum(
            one.candidate.started_at > since and reason_against(one.candidate, one.known, filters, terms) is None
            for one in found
        )
    return Fresh(since, until, count)


def _newest(store: Store, name: str, since: float) -> Iterator[list[Candidate]]:
    """Newest first, until a whole batch is older."""
    own = exchanges.c
    chosen = select(own.id, own.started_at).where(own.task == name, own.holdout.is_(False))
    before = "~"
    while True:
        with store.read() as connection:
            rows = connection.execute(chosen.where(own.id < before).order_by(own.id.desc()).limit(BATCH)).all()
            fresh = [row.id for row in rows if row.started_at > since]
            if not fresh:
                return
            yield by_id(connection, fresh)
        before = rows[-1].id
