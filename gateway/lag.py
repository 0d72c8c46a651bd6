"""How late the event loop is, and how many tasks it has: what a timer of a tenth of a second measures."""

import asyncio

from gateway.relay.counters import Histogram

INTERVAL_S = 0.1
KEPT = 100


class LagMeter:
    """The worst lag of the last ten seconds, in milliseconds, and how often it was how long since the start."""

    def __init__(self) -> None:
        self.all_ms = Histogram()
        self._recent_ms: list[float] = []
        self.tasks = 0

    @property
    def worst_ms(self) -> float:
        return max(self._recent_ms, default=0.0)

    async def run(self) -> None:
        """Measures until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + INTERVAL_S
            await asyncio.sleep(INTERVAL_S)
            self.note(max(0.0, (loop.time() - due) * 1000), len(asyncio.all_tasks()))

    def note(self, lag_ms: float, tasks: int) -> None:
        """One measurement."""
        self.all_ms.add(lag_ms)
        self._recent_ms = [*self._recent_ms[-KEPT + 1 :], lag_ms]
        self.tasks = tasks
