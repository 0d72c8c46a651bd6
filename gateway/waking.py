"""Tells the store which of the students that are served on demand were asked for: off the way of any request."""

import asyncio
from collections.abc import Callable

import structlog

from capture.db import Store
from students.registry import want_again

EVERY_S = 1.0

_log = structlog.get_logger("stillhouse.gateway")


async def wake(asked_for: set[str], store: Store, clock: Callable[[], float]) -> None:
    """Empties `asked_for` (ids) into the store each second, until it is cancelled; with the store away, later."""
    while True:
        await asyncio.sleep(EVERY_S)
        if not asked_for:
            continue
        ids = set(asked_for)
        try:
            await asyncio.to_thread(want_again, store, ids, clock)
        except Exception as error:  # noqa: BLE001 -- the loop's edge: logged, and tried again
            _log.warning("students_not_woken", error=type(error).__name__)
        else:
            asked_for -= ids
