"""The form of spool segments, and how they are read: past damage, never past what is still being written.

A record is `marker (4 bytes) · length (u32) · CRC-32C over length and payload (u32) · payload`, little-endian. The
marker is drawn at random for each segment and stands in its file name (`0000000001-1f3a9c07.v1`): a payload cannot
contain a record that a reader, looking for the next one after damage, would take for real.
"""

import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from crc32c import crc32c

SUFFIX = ".v1"
MARKER_BYTES = 4
HEADER = struct.Struct("<4sII")

_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Chunk:
    """What was read of a segment from an offset on: whole records in order, and where to read on."""

    records: tuple[bytes, ...]
    end: int
    damaged: int  # stretches that were skipped because a frame or checksum was wrong
    torn_bytes: int  # a tail of a closed segment that was never completed
    finished: bool  # nothing is left, and nothing will be added


def name(index: int, marker: bytes) -> str:
    """A segment's file name: sortable by index, with the marker of its records."""
    return f"{index:010d}-{marker.hex()}{SUFFIX}"


def framed(record: bytes, marker: bytes) -> bytes:
    """A record as it stands in a segment with that marker."""
    return HEADER.pack(marker, len(record), crc32c(record, crc32c(_LENGTH.pack(len(record))))) + record


def listed(folder: Path) -> list[tuple[Path, int]]:
    """A folder's segments and their sizes in bytes, oldest first; none where the folder is gone."""
    try:
        entries = [entry for entry in os.scandir(folder) if entry.name.endswith(SUFFIX)]
    except FileNotFoundError:
        return []
    sizes: list[tuple[Path, int]] = []
    for entry in entries:
        try:
            sizes.append((folder / entry.name, entry.stat().st_size))
        except FileNotFoundError:  # shipped and removed meanwhile
            continue
    return sorted(sizes)


def read(segment: Path, offset: int, *, closed: bool, limit: int, limit_bytes: int) -> Chunk:
    """Up to `limit` records from `offset` on, of about `limit_bytes` (a single record may be larger).

    In an open segment an incomplete tail is left alone: it is being written. In a closed one it is cut (`torn_bytes`).
    """
    marker = bytes.fromhex(segment.name.removesuffix(SUFFIX).rpartition("-")[2])
    with segment.open("rb") as file:
        while True:
            file.seek(offset)
            data = file.read(limit_bytes)
            whole = len(data) < limit_bytes or file.read(1) == b""
            chunk = _Window(data, marker, whole, closed).chunk(offset, limit)
            if whole or chunk.end > offset:
                return chunk
            limit_bytes *= 4


@dataclass(frozen=True, slots=True)
class _Window:
    """A stretch of a segment; `whole` when it reaches the segment's end."""

    data: bytes
    marker: bytes
    whole: bool
    closed: bool

    def chunk(self, offset: int, limit: int) -> Chunk:
        records: list[bytes] = []
        at = damaged = torn = 0
        size = len(self.data)
        while len(records) < limit and at < size:
            end = self._record_end(at)
            if end:
                records.append(self.data[at + HEADER.size : end])
                at = end
                continue
            if self._unfinished(at) and not (self.whole and self.closed):
                break
            following = self._next_record(at)
            if following:
                damaged += 1
                at = following
                continue
            if self.whole and self.closed:
                torn = size - at
                at = size
            break
        return Chunk(tuple(records), offset + at, damaged, torn, self.closed and self.whole and at == size)

    def _record_end(self, at: int) -> int:
        """The end of the sound record at `at`; 0 when there is none."""
        start = at + HEADER.size
        if start > len(self.data):
            return 0
        marker, length, checksum = HEADER.unpack_from(self.data, at)
        if marker != self.marker or start + length > len(self.data):
            return 0
        payload = memoryview(self.data)[start : start + length]
        return int(start + length) if crc32c(payload, crc32c(_LENGTH.pack(length))) == checksum else 0

    def _unfinished(self, at: int) -> bool:
        """True when what stands at `at` may be a record whose end is not in this window."""
        start = at + HEADER.size
        if start > len(self.data):
            return True
        marker, length, _ = HEADER.unpack_from(self.data, at)
        return bool(marker == self.marker and start + length > len(self.data))

    def _next_record(self, at: int) -> int:
        """Where the first sound record after a damaged one begins; 0 when there is none."""
        following = self.data.find(self.marker, at + 1)
        while following >= 0:
            if self._record_end(following):
                return following
            following = self.data.find(self.marker, following + 1)
        return 0


def waiting(segment: Path, offset: int, decode: Callable[[bytes], str]) -> Iterator[str]:
    """`decode` of every whole record from `offset` on: what still waits to be shipped; nothing once it was removed."""
    while True:
        try:
            chunk = read(segment, offset, closed=False, limit=1000, limit_bytes=8 << 20)
        except FileNotFoundError:
            return
        yield from (decode(record) for record in chunk.records)
        if not chunk.records:
            return
        offset = chunk.end
