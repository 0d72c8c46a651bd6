"""Files written once: whole, private, the first one's for all."""

import stat
import threading
from pathlib import Path

import pytest

from capture.write_once import write_once


def test_the_first_content_stays(tmp_path: Path) -> None:
    file = tmp_path / "new" / "file"
    assert write_once(file, b"first") == b"first"
    assert write_once(file, b"second") == b"first"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert list(file.parent.iterdir()) == [file]


def test_of_many_at_once_all_get_the_same(tmp_path: Path) -> None:
    gate, got = threading.Barrier(8), []

    def make(number: int) -> None:
        gate.wait()
        got.append(write_once(tmp_path / "file", bytes([number]) * 100))

    threads = [threading.Thread(target=make, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(got) == {(tmp_path / "file").read_bytes()}
    assert len(got) == 8
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_a_folder_that_is_none_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError):
        write_once(tmp_path / "file" / "key", b"x")
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]
