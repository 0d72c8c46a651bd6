"""Segments: whatever is cut off or damaged, every other record is read, once and in order."""

from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from capture import segments

MARKER = b"\x01\x02\x03\x04"
RECORDS = st.lists(st.binary(min_size=0, max_size=300), max_size=20)
QUIET = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=200)


def written(folder: Path, data: bytes) -> Path:
    path = folder / segments.name(1, MARKER)
    path.write_bytes(data)
    return path


def read_all(path: Path, *, closed: bool, limit: int = 3, limit_bytes: int = 64) -> tuple[list[bytes], int, int]:
    """(records, damaged stretches, torn bytes), read in small chunks."""
    records: list[bytes] = []
    at = damaged = torn = 0
    while True:
        chunk = segments.read(path, at, closed=closed, limit=limit, limit_bytes=limit_bytes)
        records += chunk.records
        damaged += chunk.damaged
        torn += chunk.torn_bytes
        if chunk.finished or chunk.end == at:
            assert chunk.finished == closed
            return records, damaged, torn
        at = chunk.end


@QUIET
@given(records=RECORDS, closed=st.booleans(), limit_bytes=st.integers(1, 500))
def test_records_come_back_as_written(tmp_path: Path, records: list[bytes], closed: bool, limit_bytes: int) -> None:
    path = written(tmp_path, b"".join(segments.framed(record, MARKER) for record in records))
    assert read_all(path, closed=closed, limit_bytes=limit_bytes) == (records, 0, 0)


@QUIET
@given(records=RECORDS, cut=st.integers(0, 5000), limit_bytes=st.integers(1, 500))
def test_any_truncation_costs_only_the_record_it_cuts(
    tmp_path: Path, records: list[bytes], cut: int, limit_bytes: int
) -> None:
    data = b"".join(segments.framed(record, MARKER) for record in records)[:cut]
    whole = 0
    left = len(data)
    for record in records:
        size = segments.HEADER.size + len(record)
        if size > left:
            break
        left -= size
        whole += 1
    path = written(tmp_path, data)
    assert read_all(path, closed=False, limit_bytes=limit_bytes) == (records[:whole], 0, 0)
    assert read_all(path, closed=True, limit_bytes=limit_bytes) == (records[:whole], 0, left)


@QUIET
@given(
    records=st.lists(st.binary(min_size=1, max_size=200), min_size=1, max_size=15),
    hit=st.integers(0, 14),
    where=st.floats(0, 0.999),
    value=st.integers(1, 255),
    limit_bytes=st.integers(1, 800),
)
def test_a_flipped_byte_costs_only_the_record_it_is_in(
    tmp_path: Path, records: list[bytes], hit: int, where: float, value: int, limit_bytes: int
) -> None:
    hit %= len(records)
    frames = [bytearray(segments.framed(record, MARKER)) for record in records]
    frames[hit][int(where * len(frames[hit]))] ^= value
    path = written(tmp_path, b"".join(frames))
    found, damaged, torn = read_all(path, closed=True, limit_bytes=limit_bytes)
    assert found == records[:hit] + records[hit + 1 :]
    assert damaged == (hit < len(records) - 1)
    assert torn == (len(frames[hit]) if hit == len(records) - 1 else 0)


@QUIET
@given(data=st.binary(max_size=600), closed=st.booleans())
def test_noise_is_no_record(tmp_path: Path, data: bytes, closed: bool) -> None:
    found, _, _ = read_all(written(tmp_path, data), closed=closed)
    assert found == []


def test_zeros_that_a_power_cut_leaves_are_no_records(tmp_path: Path) -> None:
    path = written(tmp_path, segments.framed(b"one", MARKER) + bytes(4096))
    assert read_all(path, closed=True) == ([b"one"], 0, 4096)


def test_a_record_inside_a_payload_is_not_taken_for_one(tmp_path: Path) -> None:
    forged = segments.framed(b"forged", b"\x09\x09\x09\x09")  # its sender cannot know the marker
    outer = bytearray(segments.framed(b"x" * 50 + forged + b"y" * 50, MARKER))
    outer[20] ^= 1
    path = written(tmp_path, bytes(outer) + segments.framed(b"next", MARKER))
    assert read_all(path, closed=True) == ([b"next"], 1, 0)


def test_a_record_that_is_still_being_written_waits_even_if_records_seem_to_stand_in_it(tmp_path: Path) -> None:
    outer = segments.framed(segments.framed(b"inner", MARKER) * 3, MARKER)
    path = written(tmp_path, outer[:-1])
    assert read_all(path, closed=False) == ([], 0, 0)
    path.write_bytes(outer)
    assert read_all(path, closed=False) == ([segments.framed(b"inner", MARKER) * 3], 0, 0)


def test_waiting_counts_what_lies_beyond_an_offset(tmp_path: Path) -> None:
    first = segments.framed(b"one", MARKER)
    path = written(tmp_path, first + segments.framed(b"two", MARKER))
    assert list(segments.waiting(path, 0, bytes.decode)) == ["one", "two"]
    assert list(segments.waiting(path, len(first), bytes.decode)) == ["two"]
