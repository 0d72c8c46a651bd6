"""Owns which session keys are none: one with too much of a task's traffic would decide a rollout alone."""

from collections import Counter
from collections.abc import Iterable

import structlog

WINDOW = 1000
HEAVY = 0.05
_MOST = HEAVY * WINDOW

_log = structlog.get_logger(__name__)


class HeavyKeys:
    """Finds session keys with more than a twentieth of a task's traffic: each of their requests stands for itself, for
    the gateway that assigns it an arm and for the worker that makes a pair of it.

    Judged over windows of 1,000 requests a task and process: a key is heavy as soon as it has more than its part of a
    whole window, and until the end of the next one.
    """

    def __init__(self) -> None:
        self._counts: dict[str, Counter[str]] = {}
        self._totals: Counter[str] = Counter()
        self._heavy: dict[str, frozenset[str]] = {}

    def session(self, task: str, key: str | None) -> str | None:
        """Counts one request, and gives back its session key; None where it has none, or one that is too heavy."""
        counts, heavy = self._counts.setdefault(task, Counter()), self._heavy.get(task, frozenset())
        self._totals[task] += 1
        if key is not None:
            counts[key] += 1
            if counts[key] > _MOST and key not in heavy:
                heavy |= {key}
                _log.warning("session_key_too_heavy", task=task, keys=len(heavy), treated="hashed per request")
        self._heavy[task] = heavy
        if self._totals[task] >= WINDOW:
            self._heavy[task] = _too_many(counts)
            self._counts[task], self._totals[task] = Counter(), 0
        return None if key in heavy else key


def heavy_of(window: Iterable[str | None]) -> frozenset[str]:
    """The session keys that are none, by one window: those of a task's WINDOW newest requests."""
    return _too_many(Counter(key for key in window if key is not None))


def _too_many(counts: Counter[str]) -> frozenset[str]:
    return frozenset(key for key, count in counts.items() if count > _MOST)
