"""Keeps the routing snapshot fresh: a thread reads the store every second, and never stops at an error."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace

import structlog
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from capture.db import Store
from capture.errors import StillhouseError
from capture.keys import revoked_here
from capture.settings import Settings, secret
from gateway.kept_keys import KeptKeys
from gateway.snapshot import Slow, Snapshot, from_file, load, load_slow

INTERVAL_S = 1.0
FIRST_LOOK_S = 3.0
STOP_S = 5.0
STALE_AFTER_S = 10.0
SLOW_EVERY = 30  # rounds

_log = structlog.get_logger("stillhouse.gateway")


class SnapshotKeeper:
    """Holds the current snapshot; reading it is one attribute. Start it once, stop it at the end.

    `environ` is where upstreams' keys are looked for, each time anew.
    """

    def __init__(
        self, store: Store, settings: Settings, clock: Callable[[], float], environ: Mapping[str, str]
    ) -> None:
        self._store = store
        self._settings = settings
        self._clock = clock
        self._environ = environ
        self._slow = Slow()
        self._rounds = 0
        self._stop = threading.Event()
        self._looked = threading.Event()
        self._thread = threading.Thread(target=self._run, name="snapshot", daemon=True)
        self.failures = 0
        self._asks_keys = settings.gateway.keys == "required"
        self._kept = KeptKeys(settings.data)
        self._file = from_file(settings, self._secrets({}))
        self.current: Snapshot = self._first()

    def _first(self) -> Snapshot:
        """By the file alone; the keys are those that were seen last."""
        if not self._asks_keys:
            return self._file
        return self._without_revoked(replace(self._file, keys=self._kept.load(), knows_keys=False))

    def start(self) -> None:
        """Begins, and waits for the first look, so that the first request finds what the store says; 3 s at most."""
        self._thread.start()
        self._looked.wait(FIRST_LOOK_S)

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(STOP_S)

    @property
    def degraded(self) -> bool:
        """The store does not answer, or lets us wait: what is routed by is old, or the file alone."""
        current = self.current
        return self.failures > 0 or not current.from_store or self._clock() - current.read_at > STALE_AFTER_S

    def refresh(self) -> None:
        """One look at the store. When it is away, the last good snapshot stays, but for secrets and revoked keys."""
        secrets = self._secrets(self.current.secrets)
        try:
            now = self._clock()
            if self._rounds % SLOW_EVERY == 1:
                self._slow = load_slow(self._store, self.current, now)
            loaded = load(self._store, replace(self._file, secrets=secrets), self._slow, now)
            self.current = self._with_known_keys(self._without_revoked(loaded))
        except (StillhouseError, SQLAlchemyError, ValidationError) as error:
            self.current = self._without_revoked(replace(self.current, secrets=secrets))
            self._failed(error)
            return
        self._rounds += 1
        if self._asks_keys:
            self._kept.save(loaded.keys)
        if self.failures:
            _log.info("store_back", failures=self.failures)
        self.failures = 0

    def _without_revoked(self, snapshot: Snapshot) -> Snapshot:
        revoked = revoked_here(self._settings.data)
        if not revoked or not self._asks_keys:
            return snapshot
        live = {name: key for name, key in snapshot.keys.items() if not revoked & {key.id, key.prefix}}
        return replace(snapshot, keys=live)

    def _with_known_keys(self, snapshot: Snapshot) -> Snapshot:
        """With the very keys of the last one where they are equal: requests remember by them whom they let in."""
        known = self.current.keys
        return replace(snapshot, keys=known) if snapshot.keys == known else snapshot

    def _failed(self, error: Exception) -> None:
        self.failures += 1
        if self.failures == 1:
            _log.warning(
                "snapshot_not_refreshed", error=type(error).__name__, detail=str(getattr(error, "orig", error))[:200]
            )

    def _run(self) -> None:
        while True:
            try:
                self.refresh()
            except Exception as error:  # noqa: BLE001 -- the loop's edge: logged, and on it goes
                self._failed(error)
            self._looked.set()
            if self._stop.wait(INTERVAL_S):
                return

    def _secrets(self, last: Mapping[str, str]) -> dict[str, str]:
        """Each upstream's own key, read anew; one whose file cannot be read now, or is empty, keeps its last."""
        found = {}
        for name, upstream in self._settings.upstreams.items():
            if upstream.auth != "key":
                continue
            try:
                key = secret(upstream, self._environ)
            except (OSError, UnicodeDecodeError):
                key = None
            key = key or last.get(name)
            if key:
                found[name] = key
        return found
