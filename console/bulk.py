"""Verbs over all exchanges that a filter finds: told first how many, done in batches, one line in the audit.

New exchanges go on coming while somebody reads how many there are: what is counted and what is acted on both end at one
time (`at`, in Unix seconds: `traffic.end_of`), so that they are the same.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, TextIO

import msgspec

from capture import lineage, reviews, traffic
from capture.errors import DiskError, NotFoundError, RefusedError
from capture.traffic import TrafficFilter
from console.access import Desk, Role
from console.verbs import together
from students.erasure import Erased, purge

BATCH = 200
MOST = 10_000
"""Of exchanges in one act: more than this is asked for in parts, by time."""

Verdict = Literal["accept", "reject"]


def until(wanted: TrafficFilter, at: float | None) -> TrafficFilter:
    """The filter over what had begun by then; an end of its own that lies earlier stays."""
    ends = [time for time in (wanted.until, at) if time is not None]
    return msgspec.structs.replace(wanted, until=min(ends, default=None))


def review_all(
    desk: Desk, wanted: TrafficFilter, verdict: Verdict, expected: int, at: float | None = None
) -> reviews.Many:
    """Accepts or rejects every exchange that matches and has no such review yet, as `reviews.review_many` does.

    `expected`: how many the person was shown, of what had begun by `at`. Raises RefusedError where more match by now,
    so that nobody judges what he never saw, and for more than MOST.
    """
    desk.demand(Role.REVIEWER, "reviewing")
    if verdict not in ("accept", "reject"):
        raise RefusedError(f"many exchanges at once are accepted or rejected, not {verdict!r}")
    ids, done = _ids(desk, wanted, expected, at), reviews.Many()
    try:
        for batch in _batches(ids):
            done += reviews.review_many(desk.store, batch, verdict, desk.actor.name, desk.clock)
    finally:
        desk.record("reviews.add_all", verdict, filter=_said(wanted), matched=len(ids), **msgspec.structs.asdict(done))
    return done


def erase_all(desk: Desk, wanted: TrafficFilter, expected: int, at: float | None = None) -> Erased:
    """Deletes every exchange that matches, with its copies in datasets. Refuses as `review_all` does."""
    desk.demand(Role.OPERATOR, "erasing")
    if wanted == TrafficFilter():
        raise RefusedError("a filter that lets everything through erases nothing; narrow it first")
    ids = _ids(desk, wanted, expected, at)
    reports: list[lineage.ErasureReport] = []
    try:
        for batch in _batches(ids):
            reports += _erased(desk, batch)
    finally:
        whole = together(desk.store, reports)
        touched = {"datasets": list(whole.datasets), "students": list(whole.students)}
        desk.record("traffic.erase_all", f"{whole.erased}", filter=_said(wanted), matched=len(ids), **touched)
    return whole


def export_all(desk: Desk, wanted: TrafficFilter, file: Path) -> int:
    """Every exchange that matches, redacted as it is stored, one JSON object a line of a new file; returns how many.

    JSON and no table: a spreadsheet would act on a captured text that begins like a formula. Raises DiskError.
    """
    desk.demand(Role.OPERATOR, "exporting traffic")
    try:
        with file.open("x", encoding="utf-8") as target:
            return _written(desk, wanted, target)
    except OSError as error:
        raise DiskError(f"{file}: {error.strerror}") from error


def _written(desk: Desk, wanted: TrafficFilter, target: TextIO) -> int:
    count = 0
    try:
        for line in lines(desk, wanted):
            target.write(line + "\n")
            count += 1
    finally:
        desk.record("traffic.export", Path(target.name).name, filter=_said(wanted), rows=count)
    return count


def lines(desk: Desk, wanted: TrafficFilter) -> Iterator[str]:
    """The exchanges of a filter as JSON, newest first, read a batch at a time."""
    before = None
    while ids := traffic.ids_of(desk.store, wanted, before, BATCH):
        for one in ids:
            try:
                found = traffic.load_exchange(desk.store, one)
            except NotFoundError:  # erased since it was listed
                continue
            yield msgspec.json.encode(found).decode()
        before = ids[-1]


def _batches(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[start : start + BATCH] for start in range(0, len(ids), BATCH))


def _erased(desk: Desk, ids: Sequence[str]) -> list[lineage.ErasureReport]:
    """Nothing where somebody else has erased them all meanwhile."""
    try:
        return [lineage.erase(desk.store, ids, None, desk.actor.name, desk.clock, [purge])]
    except NotFoundError:
        return []


def _ids(desk: Desk, wanted: TrafficFilter, expected: int, at: float | None) -> list[str]:
    ids = traffic.ids_of(desk.store, until(wanted, at), None, MOST + 1)
    if not ids:
        raise NotFoundError("no exchange passes this filter any more")
    if len(ids) > MOST:
        raise RefusedError(f"more than {MOST:,} exchanges match; narrow the filter, for example by time")
    if len(ids) > expected:
        raise RefusedError(f"{len(ids):,} exchanges match by now, {expected:,} were shown; look again")
    return ids


def _said(wanted: TrafficFilter) -> dict[str, object]:
    """What of the filter was set."""
    return {name: value for name, value in msgspec.to_builtins(wanted).items() if value not in (None, {})}
