"""The spool: what append acknowledged is there after a crash; what it refused is counted, and leaves nothing behind."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from capture import segments
from capture.counters import read_page
from capture.errors import DiskError
from capture.settings import CaptureSettings, Settings
from capture.spool import LOCK_NAME, Spool, folders, is_dead, open_spool, remove_folder, remove_unborn


def contents(folder: Path) -> list[bytes]:
    """Every record of a folder, in order."""
    found: list[bytes] = []
    for path, _ in segments.listed(folder):
        chunk = segments.read(path, 0, closed=True, limit=10**9, limit_bytes=1 << 30)
        assert (chunk.damaged, chunk.torn_bytes) == (0, 0)
        found += chunk.records
    return found


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Writes beyond `size` bytes of a file fail, the last one short: a disk's refusal by the kernel's own hand."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("fsync", ["never", "interval", "always"])
def test_records_rotate_through_private_segments(tmp_path: Path, fsync: Any) -> None:
    spool = Spool(tmp_path / "spool", segment_bytes=1000, fsync=fsync)
    records = [bytes([number]) * 300 for number in range(20)] + [b"x" * 5000]
    assert all(spool.append(record, "triage") for record in records)
    assert spool.depth().segments == 8
    assert spool.depth().bytes == sum(map(len, records)) + len(records) * segments.HEADER.size
    spool.close()
    spool.close()
    assert contents(spool.folder) == records
    assert read_page(spool.folder) == {("triage", "seen"): len(records)}
    assert (tmp_path / "spool").stat().st_mode & 0o777 == 0o700
    assert spool.folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in spool.folder.iterdir()} == {0o600}


def test_the_living_are_told_from_the_dead(tmp_path: Path) -> None:
    first, second = Spool(tmp_path), Spool(tmp_path)
    assert first.folder != second.folder
    first.close()
    assert (is_dead(first.folder), is_dead(second.folder)) == (True, False)
    assert folders(tmp_path) == sorted([first.folder, second.folder])
    remove_folder(first.folder)
    assert folders(tmp_path) == [second.folder]
    second.close()


def test_the_bound_is_on_all_folders_together_and_shipping_makes_room(tmp_path: Path) -> None:
    other = Spool(tmp_path, limit_bytes=10_000)
    for _ in range(4):
        assert other.append(b"x" * 1000, "triage")
    spool = Spool(tmp_path, segment_bytes=1500, limit_bytes=10_000)
    kept = sum(spool.append(b"y" * 1000, "triage") for _ in range(10))
    assert kept == 5
    assert spool.counters.totals() == {("triage", "seen"): 10, ("triage", "dropped:spool_full"): 5}
    segments.listed(spool.folder)[0][0].unlink()
    spool.refresh()
    assert spool.append(b"y" * 900, "triage")
    spool.close()
    other.close()


def test_a_refused_write_leaves_no_trace_of_itself(tmp_path: Path) -> None:
    spool = Spool(tmp_path, segment_bytes=1 << 20, fsync="never")
    assert spool.append(b"a" * 600, "triage")
    with file_size_limit(1000):
        assert not spool.append(b"b" * 600, "triage")  # the kernel takes half of it
        assert spool.append(b"c" * 100, "triage")
    assert spool.append(b"d" * 600, None)
    spool.close()
    assert contents(spool.folder) == [b"a" * 600, b"c" * 100, b"d" * 600]
    assert read_page(spool.folder) == {
        ("triage", "seen"): 3,
        ("triage", "dropped:disk_error"): 1,
        ("", "seen"): 1,
    }


def test_a_full_disk_is_named_and_what_cannot_be_cut_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path, fsync="never")
    assert spool.append(b"a" * 100)
    descriptor = os.open("/dev/full", os.O_WRONLY)  # every write to it is ENOSPC, and it cannot be truncated
    monkeypatch.setattr(spool, "_descriptor", descriptor)
    assert not spool.append(b"b" * 100)
    assert spool.append(b"c" * 100)  # in a new segment
    spool.close()
    assert contents(spool.folder) == [b"a" * 100, b"c" * 100]
    assert read_page(spool.folder) == {("", "seen"): 3, ("", "dropped:disk_full"): 1}


def test_opting_out_is_counted_and_writes_nothing(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.opt_out("triage")
    assert spool.depth().bytes == 0
    assert spool.counters.totals() == {("triage", "seen"): 1, ("triage", "opted_out"): 1}
    spool.close()


def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from capture.spool import Spool\n"
        "spool = Spool(Path(sys.argv[1]), segment_bytes=5000)\n"
        "number = 0\n"
        "while True:\n"
        "    assert spool.append(b'%d:' % number + b'x' * (number % 977), 'triage')\n"
        "    sys.stdout.write(f'{number}\\n'); sys.stdout.flush()\n"
        "    number += 1\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": "."}
    )
    assert child.stdout is not None
    acknowledged = [child.stdout.readline() for _ in range(400)]
    child.send_signal(signal.SIGKILL)
    acknowledged += child.stdout.readlines()
    child.stdout.close()
    child.wait()
    (folder,) = folders(tmp_path)
    assert is_dead(folder)
    found = [int(record.partition(b":")[0]) for record in contents(folder)]
    last = int(acknowledged[-1])
    assert found[: last + 1] == list(range(last + 1))
    assert len(found) <= last + 2  # the one that was under way may be there
    assert read_page(folder)["triage", "seen"] in (last + 1, last + 2)


def test_a_folder_that_was_never_born_is_cleared_away(tmp_path: Path) -> None:
    old, young = tmp_path / ".old", tmp_path / ".young"
    for path in (old, young):
        path.mkdir()
        (path / LOCK_NAME).touch()
    os.utime(old, (0, 0))
    remove_unborn(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".young"]


def test_a_place_that_cannot_hold_a_spool_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("a file")
    with pytest.raises(DiskError, match="the spool cannot be made there"):
        Spool(tmp_path / "spool")


def test_no_room_for_the_counters_stops_the_start_and_leaves_nothing(tmp_path: Path) -> None:
    with file_size_limit(1000), pytest.raises(DiskError, match="free some space there"):
        Spool(tmp_path)
    assert list(tmp_path.glob("*")) == []


def test_settings_open_the_spool(tmp_path: Path) -> None:
    spool = open_spool(Settings(data=tmp_path, capture=CaptureSettings(spool_bytes=100)))
    assert spool.folder.parent == tmp_path / "spool"
    assert not spool.append(b"x" * 100)
    spool.close()
