"""Owns which session keys are none: one with too much of a task's traffic would decide a rollout alone."""

from collections import Counter

import structlog

WINDOW = 1000
HEAVY = 0.05

_log = structlog.get_logger(__name__)


class HeavyKeys:
    """Finds session keys with more than a twentieth of a task's traffic: each of their requests stands for itself, for
    the gateway that assigns it an arm and for the worker that makes a pair of it.

    Judged over windows of 1,000 requests a task and process; until the first is full every key is a session.
    """

    def __init__(self) -> None:
        self._counts: dict[str, Counter[str]] = {}
        self._totals: Counter[str] = Counter()
        self._heavy: dict[str, frozenset[str]] = {}

    def is_heavy(self, task: str, key: str) -> bool:
        """Counts one request of `key`, and tells what the last full window said of it."""
        counts = self._counts.setdefault(task, Counter())
        counts[key] += 1
        self._totals[task] += 1
        if self._totals[task] >= WINDOW:
            self._turn(task, counts)
        return key in self._heavy.get(task, ())

    def _turn(self, task: str, counts: Counter[str]) -> None:
        heavy = frozenset(key for key, count in counts.items() if count > HEAVY * WINDOW)
        if heavy - self._heavy.get(task, frozenset()):
            _log.warning("session_key_too_heavy", task=task, keys=len(heavy), treated="hashed per request")
        self._heavy[task] = heavy
        self._counts[task], self._totals[task] = Counter(), 0
