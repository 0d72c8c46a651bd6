"""Keeps the routing snapshot fresh: by the store, and by files that hold whatever the store does.

A thread for each looks every second and never stops at an error; a store that lets us wait holds up its own alone.
"""

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
        self._threads = [
            threading.Thread(target=self._run, args=(look, failed), name=name, daemon=True)
            for name, look, failed in (
                ("snapshot", self._look_at_store, self._failed),
                ("secrets", self.look_at_files, self._files_failed),
            )
        ]
        self._problem = ""  # why the files could not be read
        self._exchanging = threading.Lock()  # held while the current snapshot is exchanged for one made of it
        self.failures = 0
        self._asks_keys = settings.gateway.keys == "required"
        self._kept = KeptKeys(settings.data)
        self._secrets = self._read_secrets({})
        self._revoked = self._read_revoked()
        self._file = from_file(settings, self._secrets)
        self.current: Snapshot = self._first()

    def _first(self) -> Snapshot:
        """By the file alone; the keys are those that were seen last."""
        if not self._asks_keys:
            return self._file
        return self._by_files(replace(self._file, keys=self._kept.load(), knows_keys=False))

    def start(self) -> None:
        """Begins, and waits for the first look, so that the first request finds what the store says; 3 s at most."""
        for thread in self._threads:
            thread.start()
        self._looked.wait(FIRST_LOOK_S)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(STOP_S)

    @property
    def degraded(self) -> bool:
        """The store does not answer, or lets us wait: what is routed by is old, or the file alone."""
        current = self.current
        return self.failures > 0 or not current.from_store or self._clock() - current.read_at > STALE_AFTER_S

    def refresh(self) -> None:
        """One look at everything."""
        self.look_at_files()
        self._look_at_store()

    def look_at_files(self) -> None:
        """Upstreams' keys and `secrets/revoked`, whatever the store does. Raises OSError or UnicodeDecodeError."""
        secrets, revoked = self._read_secrets(self._secrets), self._read_revoked()
        with self._exchanging:
            self._secrets, self._revoked = secrets, revoked
            self.current = self._by_files(self.current)
        self._problem = ""

    def _look_at_store(self) -> None:
        """When it is away, the last good snapshot stays."""
        try:
            now = self._clock()
            if self._rounds % SLOW_EVERY == 1:
                self._slow = load_slow(self._store, self.current, now)
            loaded = load(self._store, self._file, self._slow, now)
        except (StillhouseError, SQLAlchemyError, ValidationError) as error:
            self._failed(error)
            return
        with self._exchanging:
            self.current = self._with_known_keys(self._by_files(loaded))
        self._rounds += 1
        if self._asks_keys:
            self._kept.save(loaded.keys)
        if self.failures:
            _log.info("store_back", failures=self.failures)
        self.failures = 0
        self._looked.set()

    def _by_files(self, snapshot: Snapshot) -> Snapshot:
        """With what the files say; the very keys where none of them was revoked."""
        live = {name: key for name, key in snapshot.keys.items() if not self._revoked & {key.id, key.prefix}}
        keys = snapshot.keys if len(live) == len(snapshot.keys) else live
        return replace(snapshot, secrets=self._secrets, keys=keys)

    def _with_known_keys(self, snapshot: Snapshot) -> Snapshot:
        """With the very keys of the last one where they are equal: requests remember by them whom they let in."""
        known = self.current.keys
        return replace(snapshot, keys=known) if snapshot.keys == known else snapshot

    def _failed(self, error: Exception) -> None:
        self._looked.set()
        self.failures += 1
        if self.failures == 1:
            _log.warning(
                "snapshot_not_refreshed", error=type(error).__name__, detail=str(getattr(error, "orig", error))[:200]
            )

    def _files_failed(self, error: Exception) -> None:
        problem = str(error)[:200]
        if problem != self._problem:
            _log.warning("revoked_keys_not_read", error=type(error).__name__, detail=problem)
        self._problem = problem

    def _run(self, look: Callable[[], None], failed: Callable[[Exception], None]) -> None:
        while True:
            try:
                look()
            except Exception as error:  # noqa: BLE001 -- the loop's edge: logged, and on it goes
                failed(error)
            if self._stop.wait(INTERVAL_S):
                return

    def _read_revoked(self) -> frozenset[str]:
        return revoked_here(self._settings.data) if self._asks_keys else frozenset()

    def _read_secrets(self, last: Mapping[str, str]) -> dict[str, str]:
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
