"""What became of every exchange of this install, for the metrics port: looked up when somebody asks, now and then."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import structlog
from sqlalchemy.exc import SQLAlchemyError

from capture.counters import DROPPED
from capture.db import Store
from capture.errors import StoreAwayError
from capture.reconcile import Balance, reconcile
from gateway.metrics import Numbers, Sample

FRESH_S = 10.0

_log = structlog.get_logger("stillhouse.gateway")


class Accounts:
    """The balances of all tasks as gauges, at most `FRESH_S` old; as last read while the store is away."""

    def __init__(self, store: Store, spool_folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._spool_folder = spool_folder
        self._clock = clock
        self._lock = threading.Lock()
        self._read_at = -FRESH_S
        self._numbers = Numbers()

    def numbers(self) -> Numbers:
        with self._lock:
            if self._clock() - self._read_at >= FRESH_S:
                self._read()
            return self._numbers

    def _read(self) -> None:
        self._read_at = self._clock()
        try:
            balances = reconcile(self._store, self._spool_folder, counted=False)
        except (StoreAwayError, SQLAlchemyError, OSError) as error:
            _log.warning("accounts_not_read", error=type(error).__name__)
            return
        found = (Sample("exchanges", (task, name), value) for task in balances for name, value in told(balances[task]))
        self._numbers = Numbers(tuple(found))


def told(balance: Balance) -> Iterator[tuple[str, int]]:
    """A balance by outcome: `seen` is the sum of the others, but for `expired`, which is a part of `stored`."""
    for name in ("seen", "pending", "stored", "sampled_out", "opted_out", "erased", "expired"):
        yield name, getattr(balance, name)
    for cause, value in sorted(balance.dropped.items()):
        yield DROPPED + cause, value
