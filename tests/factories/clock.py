"""Clocks that a test moves."""


class Clock:
    """Unix seconds, standing still: call it, and set or add to `now`."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Ticking(Clock):
    """Each look at it is a second later."""

    def __call__(self) -> float:
        self.now += 1
        return self.now
