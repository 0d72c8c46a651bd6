"""How many bytes of bodies this process holds at once: one sum over all connections, with a bound."""

from gateway.relay.counters import Counters


class Held:
    """Whoever keeps bytes takes them here first and gives them back when they are let go."""

    __slots__ = ("_counters", "_limit")

    def __init__(self, counters: Counters, limit_bytes: int) -> None:
        self._counters = counters
        self._limit = limit_bytes

    def take(self, count: int) -> bool:
        """Counts them in any case; False when that makes too many."""
        self._counters.held_bytes += count
        return self._counters.held_bytes <= self._limit

    def give_back(self, count: int) -> None:
        self._counters.held_bytes -= count
