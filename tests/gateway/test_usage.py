import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from capture.errors import DiskError
from gateway.usage import SLOTS, UsagePages, Used
from tests.fakes.processes import wait_until


def test_the_last_minute_is_kept_and_no_other() -> None:
    pages = UsagePages()
    pages.add("k", 10, requests=2, tokens=30, running=1)
    pages.add("k", 10, requests=1)
    assert pages.total("k", 10) == Used(3, 0, 30, 0, 1)
    assert pages.total("k", 11) == Used(0, 3, 0, 30, 1)
    pages.add("k", 11, requests=5)
    assert pages.total("k", 11) == Used(5, 3, 0, 30, 1)
    assert pages.total("k", 13) == Used(running=1)
    assert pages.total("other", 10) == Used()
    pages.close()


def test_processes_see_each_other_whoever_comes_first(tmp_path: Path) -> None:
    first = UsagePages(tmp_path, 0, 2)
    first.add("a", 1, requests=1)
    assert first.total("a", 1) == Used(requests=1)
    second = UsagePages(tmp_path, 1, 2)
    assert second.total("a", 1) == Used(requests=1)
    assert second.total("b", 1) == Used()
    second.add("a", 1, requests=2, running=1)
    first.add("b", 1, requests=7)
    assert first.total("a", 1) == Used(requests=3, running=1)
    assert second.total("b", 1) == Used(requests=7)
    first.close()
    second.close()


def _dies_with_one_running(folder: Path) -> None:
    UsagePages(folder, 1, 2).add("a", 1, requests=2, running=9)
    os.kill(os.getpid(), signal.SIGKILL)


def test_what_a_killed_process_had_running_counts_no_longer(tmp_path: Path) -> None:
    child = multiprocessing.get_context("spawn").Process(target=_dies_with_one_running, args=(tmp_path,))
    child.start()
    child.join(60)
    assert (tmp_path / "1.usage").exists()
    pages = UsagePages(tmp_path, 0, 2)
    assert pages.total("a", 1) == Used()
    pages.close()


def test_a_process_started_anew_brings_nothing_of_the_dead_one(tmp_path: Path) -> None:
    first, dead = UsagePages(tmp_path, 0, 2), UsagePages(tmp_path, 1, 2)
    dead.add("a", 1, requests=9, running=9)
    assert first.total("a", 1) == Used(requests=9, running=9)
    dead.close()
    anew = UsagePages(tmp_path, 1, 2)
    anew.add("a", 2, requests=1)
    wait_until(lambda: first.total("a", 2) == Used(requests=1), 10)
    first.close()
    anew.close()


def test_a_page_begun_anew_is_found_within_the_minute(tmp_path: Path) -> None:
    first, old = UsagePages(tmp_path, 0, 2), UsagePages(tmp_path, 1, 2)
    old.add("a", 1, running=1)
    assert first.total("a", 1) == Used(running=1)
    anew = UsagePages(tmp_path, 1, 2)
    wait_until(lambda: first.total("a", 1) == Used(), 10)
    for pages in (first, old, anew):
        pages.close()


def _count(folder: Path, index: int) -> None:
    pages = UsagePages(folder, index, 3)
    for _ in range(1000):
        pages.add("k", 1, requests=1)
    time.sleep(60)  # it is killed before


def test_real_processes_lose_no_count(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    children = [context.Process(target=_count, args=(tmp_path, index)) for index in (1, 2)]
    for child in children:
        child.start()
    pages = UsagePages(tmp_path, 0, 3)
    wait_until(lambda: pages.total("k", 1) == Used(requests=2000), 60)
    for child in children:
        child.kill()
        child.join(60)
    pages.close()


def test_keys_beyond_the_pages_slots_share_the_last(tmp_path: Path) -> None:
    pages = UsagePages(tmp_path, 0, 1)
    for number in range(SLOTS + 2):
        pages.add(f"k{number}", 1, requests=1)
    assert pages.total("k0", 1) == Used(requests=1)
    assert pages.total(f"k{SLOTS + 1}", 1) == Used(requests=3)
    pages.close()


def test_no_room_is_said_to_be_so(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match="limits' page"):
        UsagePages(tmp_path / "absent", 0, 1)
