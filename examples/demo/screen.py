"""What the demo prints: acts, steps, progress with the time left; readable on a terminal and in a log alike."""

import sys
import time
from typing import TextIO


class Screen:
    """Plain lines. On a terminal progress rewrites its line; in a log it is repeated every `every_s` seconds."""

    def __init__(self, out: TextIO | None = None, every_s: float = 15) -> None:
        self.out = out or sys.stdout
        self._every_s = every_s
        self._started = time.monotonic()
        self._shown_at = 0.0
        self._width = 0

    def act(self, title: str) -> None:
        self.say(f"\n{title}\n{'─' * len(title)}")

    def say(self, text: str) -> None:
        """A line of its own, with the minutes since the start before it."""
        self._clear()
        stamp = "" if text.startswith("\n") else f"{self._clock()}  "
        print(stamp + text, file=self.out, flush=True)

    def progress(self, text: str, done: float, total: float, left_s: float | None) -> None:
        """How far a step is; `left_s` None: not known yet."""
        left = "" if left_s is None else f", about {minutes(left_s)} left"
        self.meanwhile(f"{text}: {done:.0f} of {total:.0f}{left}")

    def meanwhile(self, text: str) -> None:
        """What goes on; shown at most once in a while."""
        now = time.monotonic()
        terminal = self.out.isatty()
        if now - self._shown_at < (0.2 if terminal else self._every_s):
            return
        self._shown_at = now
        line = f"{self._clock()}  … {text}"
        if terminal:
            self._clear()
            self._width = len(line)
            print(line, end="\r", file=self.out, flush=True)
        else:
            print(line, file=self.out, flush=True)

    def _clear(self) -> None:
        if self._width:
            print(" " * self._width, end="\r", file=self.out)
            self._width = 0

    def _clock(self) -> str:
        return minutes(time.monotonic() - self._started)


class Estimate:
    """Time left by the pace so far."""

    def __init__(self, total: float) -> None:
        self._total = total
        self._started = time.monotonic()
        self._first: float | None = None

    def left_s(self, done: float) -> float | None:
        """None before there is a pace to judge by."""
        if self._first is None:
            self._first = done
        gained = done - self._first
        if gained <= 0:
            return None
        return (time.monotonic() - self._started) / gained * (self._total - done)


def minutes(seconds: float) -> str:
    """Minutes and seconds: 2:05."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
