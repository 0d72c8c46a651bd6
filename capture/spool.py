"""The spool: each process appends finished exchanges to segments in a folder of its own, before anyone else sees them.

The folder is locked (flock) for as long as its process lives, so that a reader tells the dead from the living.

What the `fsync` policies promise for an exchange whose `append` returned True:

* `never`     survives the death of the process (`kill -9`), not of the machine.
* `interval`  also survives a power cut, but for the last `FSYNC_INTERVAL_S` seconds; a thread syncs, no request waits.
* `always`    survives a power cut at once; every append waits for the disk.
"""

import errno
import fcntl
import os
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import structlog

from capture import segments
from capture.counters import DROPPED, OPTED_OUT, SEEN, CounterPage
from capture.errors import DiskError
from capture.ids import new_id
from capture.settings import Settings

Fsync = Literal["never", "interval", "always"]

LOCK_NAME = "lock"
FSYNC_INTERVAL_S = 0.5
UNBORN_S = 60

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SpoolDepth:
    """What lies in one process's folder, shipped parts of unfinished segments included."""

    bytes: int
    segments: int


class Spool:
    """The writing side; one a process, and one thread appends.

    `root` is the spool of all processes; this one's own folder is `self.folder`. The disk bound `limit_bytes` is on
    all folders together: the others' part is refreshed every `FSYNC_INTERVAL_S`, so that they may pass it by what they
    write meanwhile. Raises DiskError when the folder cannot be made.
    """

    def __init__(
        self,
        root: Path,
        *,
        segment_bytes: int = 8 * 1024 * 1024,
        limit_bytes: int = 2 * 1024 * 1024 * 1024,
        fsync: Fsync = "interval",
    ) -> None:
        self._root = root
        self._segment_bytes = segment_bytes
        self._limit_bytes = limit_bytes
        self._fsync: Fsync = fsync
        self.folder, self._lock = _own_folder(root)
        self._index = 0
        self._size = 0  # of the open segment
        self._appended = 0
        self._elsewhere = 0  # bytes under the root that `_appended` does not count
        self._retired: deque[int] = deque()
        self._clean = True
        self._damaged = False
        self._closing = threading.Event()
        try:
            self.counters = CounterPage(self.folder)
            self._descriptor, self._marker = self._next_segment()
        except OSError as error:
            self._abandon()
            raise DiskError(f"{root}: no room for a spool: free some space there ({error.strerror})") from error
        self.refresh()
        self._thread = threading.Thread(target=self._keep, name="spool", daemon=True)
        self._thread.start()

    def append(self, record: bytes, task: str | None = None) -> bool:
        """Counts `record` as seen for `task` and appends it; False when it was dropped (and counted with its cause)."""
        self.counters.add(task, SEEN)
        cause = self._append(record)
        if cause is None:
            return True
        self.counters.add(task, DROPPED + cause)
        return False

    def opt_out(self, task: str | None) -> None:
        """Counts an exchange whose client asked not to be captured."""
        self.counters.add(task, SEEN)
        self.counters.add(task, OPTED_OUT)

    def depth(self) -> SpoolDepth:
        sizes = [size for _, size in segments.listed(self.folder)]
        return SpoolDepth(sum(sizes), len(sizes))

    def refresh(self) -> None:
        """Counts again the bytes of all folders under the root: shipped and removed segments make room."""
        appended = self._appended
        self._elsewhere = sum(size for folder in folders(self._root) for _, size in segments.listed(folder)) - appended

    def close(self) -> None:
        """Syncs and lets go of the folder: from here on it is the shipper's. Idempotent."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._thread.join()
        try:
            self._sync()
        finally:
            os.close(self._descriptor)
            self.counters.close()
            os.close(self._lock)

    def _abandon(self) -> None:
        os.close(self._lock)
        with suppress(OSError):
            remove_folder(self.folder)

    def _append(self, record: bytes) -> str | None:
        size = segments.HEADER.size + len(record)
        if self._elsewhere + self._appended + size > self._limit_bytes:
            return "spool_full"
        try:
            if self._damaged or (self._size and self._size + size > self._segment_bytes):
                self._rotate()
            self._write(segments.framed(record, self._marker))
        except OSError as error:
            return "disk_full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "disk_error"
        self._size += size
        self._appended += size
        self._clean = False
        return None

    def _write(self, data: bytes) -> None:
        """All of `data` or, when the disk refuses, none of it."""
        try:
            written = os.write(self._descriptor, data)
            while written < len(data):
                written += os.write(self._descriptor, memoryview(data)[written:])
            if self._fsync == "always":
                os.fdatasync(self._descriptor)
        except OSError:
            self._damaged = True  # until the tail is cut; otherwise the next append starts a new segment
            with suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
                self._damaged = False
            raise

    def _rotate(self) -> None:
        retired = self._descriptor
        self._descriptor, self._marker = self._next_segment()
        self._retired.append(retired)
        self._size = 0
        self._damaged = False
        if self._fsync == "always":
            _sync_folder(self.folder)

    def _next_segment(self) -> tuple[int, bytes]:
        marker = os.urandom(segments.MARKER_BYTES)
        self._index += 1
        path = self.folder / segments.name(self._index, marker)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        return os.open(path, flags, 0o600), marker

    def _keep(self) -> None:
        while not self._closing.wait(FSYNC_INTERVAL_S):
            try:
                self.refresh()
                self._sync()
            except OSError as error:
                _log.error("spool_sync_failed", error=error.strerror)

    def _sync(self) -> None:
        """Syncs what was appended, retired segments first, and the folder that names them."""
        while self._retired:
            retired = self._retired[0]
            if self._fsync != "never":
                os.fsync(retired)
            self._retired.popleft()
            os.close(retired)
        if self._fsync == "never" or self._clean:
            return
        self._clean = True  # before the sync: what is appended during it makes it unclean again
        try:
            os.fsync(self._descriptor)
            _sync_folder(self.folder)
        except OSError:
            self._clean = False
            raise


def open_spool(settings: Settings) -> Spool:
    """This process's spool, by the `[capture]` settings. Raises DiskError."""
    capture = settings.capture
    return Spool(
        settings.spool_folder,
        segment_bytes=capture.segment_bytes,
        limit_bytes=capture.spool_bytes,
        fsync=capture.fsync,
    )


def folders(root: Path) -> list[Path]:
    """Every process's folder, oldest first."""
    if not root.is_dir():
        return []
    return sorted(path for path in root.iterdir() if not path.name.startswith(".") and path.is_dir())


def is_dead(folder: Path) -> bool:
    """True when the process that owned the folder has closed it or died."""
    try:
        descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def remove_folder(folder: Path) -> None:
    """Removes a dead process's folder with what is left in it, the lock last; another shipper may be doing the same."""
    with suppress(FileNotFoundError):
        for path in folder.iterdir():
            if path.name != LOCK_NAME:
                path.unlink(missing_ok=True)
        (folder / LOCK_NAME).unlink(missing_ok=True)
        folder.rmdir()


def remove_unborn(root: Path) -> None:
    """Removes folders whose process died before they got their final name, a minute ago or more."""
    for path in root.glob(".*"):
        with suppress(FileNotFoundError):  # another shipper may be doing the same
            if path.is_dir() and time.time() - path.stat().st_mtime > UNBORN_S and is_dead(path):
                remove_folder(path)


def _own_folder(root: Path) -> tuple[Path, int]:
    """Makes a locked folder under `root`; it gets its final name only once locked, so that no reader mistakes it."""
    name = new_id()
    fresh = root / f".{name}"
    try:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh.mkdir(mode=0o700)
        lock = os.open(fresh / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fresh.rename(root / name)
        _sync_folder(root)
    except OSError as error:
        raise DiskError(f"{root}: the spool cannot be made there: {error.strerror}") from error
    return root / name, lock


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
