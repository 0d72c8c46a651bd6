"""Counters: exact, bounded, and still there when their process is not."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from capture.counters import FILE_NAME, CounterPage, read_page, totals

NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(additions=st.lists(st.tuples(NAMES, NAMES, st.integers(0, 1000)), max_size=60))
def test_a_page_says_what_was_added(tmp_path: Path, additions: list[tuple[str, str, int]]) -> None:
    (tmp_path / FILE_NAME).unlink(missing_ok=True)
    page = CounterPage(tmp_path)
    expected: dict[tuple[str, str], int] = {}
    for task, name, amount in additions:
        page.add(task, name, amount)
        expected[task, name] = expected.get((task, name), 0) + amount
    assert page.totals() == expected
    page.close()
    assert read_page(tmp_path) == expected


def test_a_page_is_private_and_its_blocks_are_set_aside(tmp_path: Path) -> None:
    CounterPage(tmp_path).close()
    status = (tmp_path / FILE_NAME).stat()
    assert status.st_mode & 0o777 == 0o600
    assert status.st_blocks * 512 >= status.st_size > 0


def test_more_tasks_than_slots_are_counted_under_no_task(tmp_path: Path) -> None:
    page = CounterPage(tmp_path)
    for number in range(3000):
        page.add(f"task-{number}", "seen")
        page.add(f"task-{number}", "dropped:spool_full")
    counted = page.totals()
    assert sum(value for (_, name), value in counted.items() if name == "seen") == 3000
    assert sum(value for (_, name), value in counted.items() if name == "dropped:spool_full") == 3000
    assert counted["", "seen"] > 0
    page.close()


def test_a_name_too_long_for_its_slot_is_cut_not_lost(tmp_path: Path) -> None:
    page = CounterPage(tmp_path)
    page.add("t" * 500, "seen", 3)
    ((_, value),) = page.totals().items()
    assert value == 3
    page.close()


def test_counts_survive_kill_9(tmp_path: Path) -> None:
    folder = tmp_path / "one"
    folder.mkdir()
    code = (
        "import sys, os, signal; from pathlib import Path; from capture.counters import CounterPage\n"
        "page = CounterPage(Path(sys.argv[1]))\n"
        "for _ in range(1234): page.add('triage', 'seen')\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, str(folder)], check=False, env={**os.environ, "PYTHONPATH": "."}
    )
    assert ended.returncode == -signal.SIGKILL
    assert totals(tmp_path) == {("triage", "seen"): 1234}


def test_totals_sum_the_folders_and_pass_over_unborn_ones(tmp_path: Path) -> None:
    for name, amount in (("a", 1), ("b", 2), (".c", 4)):
        (tmp_path / name).mkdir()
        page = CounterPage(tmp_path / name)
        page.add(None, "seen", amount)
        page.close()
    assert totals(tmp_path) == {("", "seen"): 3}
    assert totals(tmp_path / "missing") == {}
