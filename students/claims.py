"""Owns the memory of who has spoken: one session, one word a day, as far as this process remembers."""

import threading
from datetime import UTC, datetime

MOST_CLAIMS = 100_000


class Claims:
    """Remembers the newest 100,000 keys that were taken. Thread-safe."""

    def __init__(self) -> None:
        self._taken: dict[tuple[str, ...], None] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._taken)

    def take(self, key: tuple[str, ...]) -> bool:
        """Whether nobody has taken it before."""
        with self._lock:
            if key in self._taken:
                return False
            self._taken[key] = None
            if len(self._taken) > MOST_CLAIMS:
                del self._taken[next(iter(self._taken))]
        return True

    def give_back(self, key: tuple[str, ...]) -> None:
        with self._lock:
            self._taken.pop(key, None)


def day_of(at: float) -> str:
    """The day in UTC, as 2026-11-28, of a time in Unix seconds."""
    return datetime.fromtimestamp(at, UTC).date().isoformat()
