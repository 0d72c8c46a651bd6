"""Counters that survive `kill -9` and a full disk: one preallocated page of slots per process, beside its spool.

The page is a file mapped into memory whose blocks are set aside when the process starts, so counting costs a
dictionary look-up and one store, and never fails. A slot is 256 bytes: value (u64), length of the name (u16, written
last, so that a half-made slot reads as free), then `task NUL name` in UTF-8.

`seen` counts what was about to be appended; `opted_out` what asked not to be captured; `dropped:CAUSE` what was lost.
"""

import mmap
import os
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

FILE_NAME = "counters"
SEEN = "seen"
OPTED_OUT = "opted_out"
DROPPED = "dropped:"

Key = tuple[str, str]  # (task or "", name)

_SLOT = 256
_SLOTS = 1024
_VALUE = struct.Struct("<Q")
_LENGTH = struct.Struct("<H")
_NAME_AT = _VALUE.size + _LENGTH.size
_NAME_BYTES = _SLOT - _NAME_AT
_SPARE = 32  # last slots, kept for names of an overflowing page counted under no task


class CounterPage:
    """This process's own counters. Not thread-safe: one thread counts."""

    def __init__(self, folder: Path) -> None:
        """Sets aside the page in `folder`; raises OSError when there is no room for it."""
        descriptor = os.open(folder / FILE_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, _SLOT * _SLOTS)
            self._page = mmap.mmap(descriptor, _SLOT * _SLOTS)
        finally:
            os.close(descriptor)
        self._at = {key: index * _SLOT for index, key, _ in _slots(self._page)}

    def add(self, task: str | None, name: str, amount: int = 1) -> None:
        """Counts `amount` for `task` (None: requests that no task matched)."""
        key = (task or "", name)
        at = self._at.get(key)
        if at is None:
            at = self._claim(key)
        _VALUE.pack_into(self._page, at, _VALUE.unpack_from(self._page, at)[0] + amount)

    def _claim(self, key: Key) -> int:
        if len(self._at) >= _SLOTS - _SPARE and key[0]:
            at = self._at.get(("", key[1]))
            return self._claim(("", key[1])) if at is None else at
        encoded = _encoded(key)
        at = len(self._at) * _SLOT
        self._page[at + _NAME_AT : at + _NAME_AT + len(encoded)] = encoded
        _LENGTH.pack_into(self._page, at + _VALUE.size, len(encoded))
        self._at[key] = at
        return at

    def totals(self) -> dict[Key, int]:
        return {key: value for _, key, value in _slots(self._page)}

    def close(self) -> None:
        self._page.flush()
        self._page.close()


def read_page(folder: Path) -> dict[Key, int]:
    """The counters of a spool folder, living or dead; empty when it has none."""
    try:
        page = (folder / FILE_NAME).read_bytes()
    except FileNotFoundError:
        return {}
    return {key: value for _, key, value in _slots(page)}


def totals(spool_folder: Path) -> dict[Key, int]:
    """The sum of the pages of every process's folder under `spool_folder` that has not been folded into the store."""
    return summed(read_page(folder) for folder in sorted(spool_folder.glob("[!.]*")))


def summed(parts: Iterator[Mapping[Key, int]]) -> dict[Key, int]:
    result: dict[Key, int] = {}
    for part in parts:
        for key, value in part.items():
            result[key] = result.get(key, 0) + value
    return result


def _slots(page: bytes | mmap.mmap) -> Iterator[tuple[int, Key, int]]:
    for index in range(len(page) // _SLOT):
        at = index * _SLOT
        (length,) = _LENGTH.unpack_from(page, at + _VALUE.size)
        if not 0 < length <= _NAME_BYTES:
            return
        task, _, name = page[at + _NAME_AT : at + _NAME_AT + length].decode("utf-8", "replace").partition("\0")
        yield index, (task, name), _VALUE.unpack_from(page, at)[0]


def _encoded(key: Key) -> bytes:
    name = key[1].encode()
    return key[0].encode()[: _NAME_BYTES - len(name) - 1] + b"\0" + name
