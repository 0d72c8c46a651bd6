"""One coarse timer for a whole process: time limits are looked at twice a second instead of armed per request."""

import asyncio
import logging
from typing import Protocol

_log = logging.getLogger("stillhouse.relay")


class Watched(Protocol):
    def check(self, now: float) -> None:
        """Ends what is overdue; `now` is the event loop's clock, seconds."""


class Sweep:
    """Calls `check` of everything that is watched, every `interval_s` seconds."""

    def __init__(self, loop: asyncio.AbstractEventLoop, interval_s: float = 0.5) -> None:
        self.watched: set[Watched] = set()
        self._loop = loop
        self._interval_s = interval_s
        self._timer = loop.call_later(interval_s, self._tick)

    def _tick(self) -> None:
        now = self._loop.time()
        for watched in list(self.watched):
            try:
                watched.check(now)
            except Exception:  # noqa: BLE001 - the edge of the loop
                _log.exception("a time limit could not be enforced")
        self._timer = self._loop.call_later(self._interval_s, self._tick)

    def stop(self) -> None:
        self._timer.cancel()
