"""Verbs over all exchanges that a filter finds: told first how many, done in batches, one line in the audit."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from capture import lineage, reviews, traffic
from capture.errors import DiskError, NotFoundError, RefusedError
from capture.traffic import TrafficFilter
from console.access import Desk, Role
from students.erasure import purge

BATCH = 200
MOST = 10_000
"""Of exchanges in one act: more than this is asked for in parts, by time."""

Verdict = Literal["accept", "reject"]


def review_all(desk: Desk, wanted: TrafficFilter, verdict: Verdict, expected: int) -> int:
    """Accepts or rejects every exchange that matches and has no such review yet; returns how many.

    `expected`: how many the person was shown. Raises RefusedError where more match by now, so that nobody judges what
    he never saw, and for more than MOST.
    """
    desk.demand(Role.REVIEWER, "reviewing")
    if verdict not in ("accept", "reject"):
        raise RefusedError(f"many exchanges at once are accepted or rejected, not {verdict!r}")
    ids = _ids(desk, wanted, expected)
    batches = (ids[start : start + BATCH] for start in range(0, len(ids), BATCH))
    done = sum(reviews.review_many(desk.store, batch, verdict, desk.actor.name, desk.clock) for batch in batches)
    desk.record("reviews.add_all", verdict, filter=_said(wanted), reviewed=done)
    return done


def erase_all(desk: Desk, wanted: TrafficFilter, expected: int) -> lineage.ErasureReport:
    """Deletes every exchange that matches, with its copies in datasets. Refuses as `review_all` does."""
    desk.demand(Role.OPERATOR, "erasing")
    if wanted == TrafficFilter():
        raise RefusedError("a filter that lets everything through erases nothing; narrow it first")
    ids = _ids(desk, wanted, expected)
    report = lineage.erase(desk.store, ids, None, desk.actor.name, desk.clock, [purge])
    desk.record("traffic.erase_all", f"{report.erased}", filter=_said(wanted), datasets=list(report.datasets))
    return report


def export_all(desk: Desk, wanted: TrafficFilter, file: Path) -> int:
    """Every exchange that matches, redacted as it is stored, one JSON object a line of a new file; returns how many.

    JSON and no table: a spreadsheet would act on a captured text that begins like a formula. Raises DiskError.
    """
    desk.demand(Role.OPERATOR, "exporting traffic")
    count = 0
    try:
        with file.open("x", encoding="utf-8") as target:
            for line in lines(desk, wanted):
                target.write(line + "\n")
                count += 1
    except OSError as error:
        raise DiskError(f"{file}: {error.strerror}") from error
    desk.record("traffic.export", file.name, filter=_said(wanted), rows=count)
    return count


def lines(desk: Desk, wanted: TrafficFilter) -> Iterator[str]:
    """The exchanges of a filter as JSON, newest first, read a batch at a time."""
    before = None
    while rows := traffic.list_exchanges(desk.store, wanted, before, BATCH):
        for row in rows:
            try:
                found = traffic.load_exchange(desk.store, row.id)
            except NotFoundError:  # erased since it was listed
                continue
            yield msgspec.json.encode(found).decode()
        before = rows[-1].id


def _ids(desk: Desk, wanted: TrafficFilter, expected: int) -> list[str]:
    rows = traffic.list_exchanges(desk.store, wanted, None, MOST + 1)
    if not rows:
        raise NotFoundError("no exchange passes this filter any more")
    if len(rows) > MOST:
        raise RefusedError(f"more than {MOST:,} exchanges match; narrow the filter, for example by time")
    if len(rows) > expected:
        raise RefusedError(f"{len(rows):,} exchanges match by now, {expected:,} were shown; look again")
    return [row.id for row in rows]


def _said(wanted: TrafficFilter) -> dict[str, object]:
    """What of the filter was set."""
    return {name: value for name, value in msgspec.to_builtins(wanted).items() if value not in (None, {})}
