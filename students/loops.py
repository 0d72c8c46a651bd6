"""Owns the worker's loops: each in a thread of its own, each going on after an error, all ending together."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

log = structlog.get_logger(__name__)

LONGEST_BACK_OFF_S = 30.0


@dataclass
class Loop:
    """Calls `turn` again and again. A turn that returns a number above 0 had work, and is called again at once."""

    name: str
    turn: Callable[[], int]
    every_s: float
    counts: Counter[str] = field(default_factory=Counter)

    def run(self, stopping: threading.Event) -> None:
        """Until `stopping`. An error is logged and counted, and the next turn waits longer after each one in a row."""
        failures = 0
        while not stopping.is_set():
            try:
                worked = self.turn()
                failures = 0
                self.counts["turns"] += 1
            except Exception as error:  # noqa: BLE001 -- the edge of the loop
                failures += 1
                worked = 0
                self.counts["errors"] += 1
                log.warning("turn failed", loop=self.name, error=f"{type(error).__name__}: {error}", in_a_row=failures)
            if not worked:
                stopping.wait(min(self.every_s * 2**failures, max(self.every_s, LONGEST_BACK_OFF_S)))


class Loops:
    """Starts and ends loops together."""

    def __init__(self, loops: list[Loop], stopping: threading.Event) -> None:
        self.loops, self._stopping = loops, stopping
        self._threads = [threading.Thread(target=one.run, args=(stopping,), name=one.name) for one in loops]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def join(self, within_s: float) -> list[str]:
        """Wait for all to end after `stopping` was set; the names of those that did not within the time."""
        self._stopping.set()
        deadline = time.monotonic() + within_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return [thread.name for thread in self._threads if thread.is_alive()]
