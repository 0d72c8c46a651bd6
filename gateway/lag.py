"""How late the event loop is: what a timer of half a second measures."""

import asyncio

INTERVAL_S = 0.5
KEPT = 20


class LagMeter:
    """The worst lag of the last ten seconds, in milliseconds."""

    def __init__(self) -> None:
        self._recent_ms: list[float] = []

    @property
    def worst_ms(self) -> float:
        return max(self._recent_ms, default=0.0)

    async def run(self) -> None:
        """Measures until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + INTERVAL_S
            await asyncio.sleep(INTERVAL_S)
            self._recent_ms = [*self._recent_ms[-KEPT + 1 :], max(0.0, (loop.time() - due) * 1000)]
