"""What a build would take and leave out, told quickly from the newest exchanges, before anything is built."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import func, select

from capture.datasets import sources
from capture.datasets.filters import Candidate, Filters, reason_against
from capture.datasets.freeze import terms_of
from capture.db import Store
from capture.settings import TaskSettings, UpstreamSettings
from capture.tables import exchanges

LOOKED_AT = 1_000


@dataclass(frozen=True)
class Preview:
    """Of the newest `looked` exchanges outside the holdout: how many pass, and why the others do not.

    Near-duplicates and texts like the holdout's are told by the build alone: they need the bodies. `total`: how many
    exchanges the task has in all, counted up to `COUNTED`.
    """

    looked: int
    passed: int
    drops: Mapping[str, int]
    total: int


COUNTED = 100_000


def preview(
    store: Store, name: str, task: TaskSettings, filters: Filters, upstreams: Mapping[str, UpstreamSettings]
) -> Preview:
    """How many would pass, and what would stop the others.

    Raises RefusedError where a build would be refused: by terms, or for a grader that the task does not have.
    """
    terms = terms_of(task, filters, upstreams)
    side = (exchanges.c.task == name, exchanges.c.holdout.is_(False))
    newest = select(exchanges.c.id).where(*side).order_by(exchanges.c.id.desc()).limit(LOOKED_AT)
    few = select(exchanges.c.id).where(exchanges.c.task == name).limit(COUNTED).subquery()
    drops: Counter[str] = Counter()
    seen: set[str] = set()
    passed = 0
    with store.read() as connection:
        candidates = sources.by_id(connection, list(connection.scalars(newest)))
        total = connection.scalar(select(func.count()).select_from(few)) or 0
        for found in sources.known_of(connection, candidates):
            reason = reason_against(found.candidate, found.known, filters, terms) or _again(found.candidate, seen)
            if reason:
                drops[reason] += 1
            else:
                passed += 1
                seen.add(found.candidate.content_hash)
    return Preview(len(candidates), passed, dict(drops.most_common()), total)


def _again(candidate: Candidate, seen: set[str]) -> str | None:
    return "duplicate" if candidate.content_hash in seen else None
