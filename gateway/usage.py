"""How much each key has used lately, counted by every gateway process and seen by all: pages of shared memory.

A process writes its own page alone and reads the others', so there is no lock; what two processes admit in the same
instant is all that can slip through. Counts are of the current and the last minute: a sliding window is their mix.
"""

import hashlib
import mmap
import os
import struct
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from capture.errors import DiskError

WINDOW_S = 60.0
LOOK_S = 1.0
SLOTS = 4096  # limited keys; those beyond share the last slot

_SLOT = struct.Struct("<16sqqqqqq")  # key, window, requests now and before, tokens now and before, running
_COUNT = struct.Struct("<q")  # of used slots; in the place of a first slot
_OWNER = struct.Struct("<q")  # the process's id; behind the count
_BYTES = _SLOT.size * (SLOTS + 1)


@dataclass(slots=True)
class Used:
    """One key's use. `…_before` is the last minute's."""

    requests: int = 0
    requests_before: int = 0
    tokens: int = 0
    tokens_before: int = 0
    running: int = 0


class UsagePages:
    """This process's page and those of the others; `folder` None: one process, memory of its own.

    Raises DiskError when the folder has no room for the page.
    """

    def __init__(self, folder: Path | None = None, index: int = 0, processes: int = 1) -> None:
        self._folder, self._index = folder, index
        self._own = mmap.mmap(-1, _BYTES) if folder is None else _made(_file(folder, index))
        self._others = [] if folder is None else [_Other(_file(folder, n)) for n in range(processes) if n != index]
        self._at: dict[str, int] = {}

    def add(self, key_id: str, window: int, *, requests: int = 0, tokens: int = 0, running: int = 0) -> None:
        """Counts for a key in this process."""
        at = self._at.get(key_id) or self._claim(key_id)
        name, *_ = _SLOT.unpack_from(self._own, at)
        used = _used_at(self._own, at, window)
        used.requests = max(0, used.requests + requests)  # undone in a later minute
        used.tokens = max(0, used.tokens + tokens)  # settled for less, or undone
        used.running += running
        values = (used.requests, used.requests_before, used.tokens, used.tokens_before, used.running)
        _SLOT.pack_into(self._own, at, name, window, *values)

    def total(self, key_id: str, window: int) -> Used:
        """What all processes counted for a key."""
        at = self._at.get(key_id)
        total = Used() if at is None else _used_at(self._own, at, window)
        for other in self._others:
            used = other.used(key_id, window)
            if used is not None:
                total.requests += used.requests
                total.requests_before += used.requests_before
                total.tokens += used.tokens
                total.tokens_before += used.tokens_before
                total.running += used.running
        return total

    def close(self) -> None:
        self._own.close()
        for other in self._others:
            other.close()

    def _claim(self, key_id: str) -> int:
        count: int = _COUNT.unpack_from(self._own, 0)[0]
        slot = min(count + 1, SLOTS)
        at = slot * _SLOT.size
        if slot > count:
            _SLOT.pack_into(self._own, at, _name(key_id), 0, 0, 0, 0, 0, 0)
            _COUNT.pack_into(self._own, 0, slot)  # last: a reader never looks at a half-made slot
        self._at[key_id] = at
        return at


class _Other:
    """Another process's page, opened when it is there; a process started anew begins a new file under the same name."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._page: mmap.mmap | None = None
        self._inode = 0
        self._at: dict[str, int] = {}
        self._searched: dict[str, int] = {}  # how many slots were searched in vain
        self._looked = 0.0  # monotonic seconds
        self._lives = False

    def used(self, key_id: str, window: int) -> Used | None:
        page = self._current()
        if page is None:
            return None
        at = self._at.get(key_id) or self._find(page, key_id)
        return None if at is None else _used_at(page, at, window)

    def close(self) -> None:
        if self._page is not None:
            self._page.close()

    def _current(self) -> mmap.mmap | None:
        """None while the process does not live: what it had running has ended. Looked at once a second."""
        now = time.monotonic()
        if self._page is None or now - self._looked >= LOOK_S:
            self._looked = now
            self._look()
            self._lives = self._page is not None and psutil.pid_exists(_OWNER.unpack_from(self._page, _COUNT.size)[0])
        return self._page if self._lives else None

    def _look(self) -> None:
        """Whether the file is another one."""
        try:
            inode = self._file.stat().st_ino
            if inode != self._inode:
                page = _opened(self._file)
                self.close()
                self._page, self._inode = page, inode
                self._at, self._searched = {}, {}
        except (OSError, ValueError):  # not there yet, or not of its full size yet
            return

    def _find(self, page: mmap.mmap, key_id: str) -> int | None:
        (count,) = _COUNT.unpack_from(page, 0)
        if self._searched.get(key_id) == count:
            return None
        name, at = _name(key_id), _SLOT.size
        while (at := page.find(name, at, (count + 1) * _SLOT.size)) >= 0:
            if at % _SLOT.size == 0:
                self._at[key_id] = at
                return at
            at += 1
        self._searched[key_id] = count
        return None


def _used_at(page: mmap.mmap, at: int, window: int) -> Used:
    _, then, requests, requests_before, tokens, tokens_before, running = _SLOT.unpack_from(page, at)
    if then == window:
        return Used(requests, requests_before, tokens, tokens_before, running)
    if then == window - 1:
        return Used(0, requests, 0, tokens, running)
    return Used(running=running)


def _name(key_id: str) -> bytes:
    return hashlib.blake2b(key_id.encode(), digest_size=16).digest()


def _file(folder: Path, index: int) -> Path:
    return folder / f"{index}.usage"


def _made(file: Path) -> mmap.mmap:
    """A new page under the old one's name: what died with its process is forgotten, `running` above all."""
    draft = file.with_suffix(".new")
    try:
        descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, _BYTES)
            page = mmap.mmap(descriptor, _BYTES)
        finally:
            os.close(descriptor)
        _OWNER.pack_into(page, _COUNT.size, os.getpid())
        draft.replace(file)
    except OSError as error:
        raise DiskError(f"{file}: no room for the limits' page: free some space there ({error.strerror})") from error
    return page


def _opened(file: Path) -> mmap.mmap:
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return mmap.mmap(descriptor, _BYTES, prot=mmap.PROT_READ)
    finally:
        os.close(descriptor)
