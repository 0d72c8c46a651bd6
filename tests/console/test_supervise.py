"""`stillhouse up`: what dies is started again, what cannot start ends all, and nothing is left behind."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from capture.errors import DiskError, OperationError
from console.cli import run
from console.supervise import Process, Supervisor
from tests.factories.login import LOGIN
from tests.fakes.processes import family, free_port, wait_until

CONFIG = """
[gateway]
port = {gateway}
metrics_port = {metrics}
[console]
port = {console}
[upstreams.openai]
base_url = "http://127.0.0.1:9/v1"
"""


def process(name: str, code: str) -> Process:
    return Process(name, (sys.executable, "-c", code), stop_s=5)


SLEEPER = process("sleeper", "import time; time.sleep(600)")


class Running:
    """A supervisor at work in a thread; `said` are its lines."""

    def __init__(self, folder: Path, *wanted: Process) -> None:
        self.said: list[str] = []
        self.code: int | None = None
        self.supervisor = Supervisor(list(wanted), folder / "logs", os.environ, self.said.append)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        self.code = self.supervisor.run()

    def ended(self) -> int | None:
        self._thread.join(20)
        assert not self._thread.is_alive()
        return self.code

    def pids(self) -> list[int]:
        return [child.popen.pid for child in self.supervisor._children.values()]


def test_what_dies_is_started_again_and_stop_ends_all(tmp_path: Path) -> None:
    family_of_two = process(
        "parent",
        "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print('begun', flush=True); time.sleep(600)",
    )
    running = Running(tmp_path, SLEEPER, family_of_two)
    wait_until(lambda: len(running.pids()) == 2 and "begun" in (tmp_path / "logs" / "parent.log").read_text())
    first, parent = running.pids()
    grandchildren = psutil.Process(parent).children()
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: running.pids()[0] != first)
    second = running.pids()[0]
    running.supervisor.stop()
    assert running.ended() == 0
    assert running.said == ["sleeper ended with -9: it wrote nothing; again in 0.5 s"]
    assert len(grandchildren) == 1
    assert not any(psutil.pid_exists(pid) for pid in (second, parent))
    assert not psutil.wait_procs(grandchildren, timeout=5)[1]


def test_what_cannot_start_as_configured_ends_all_with_its_code(tmp_path: Path) -> None:
    wrong = process("wrong", "import sys; print('no upstream'); sys.exit(2)")
    running = Running(tmp_path, SLEEPER, wrong)
    assert running.ended() == 2
    assert running.said == ["wrong cannot start as configured: no upstream; stopping"]
    assert not any(psutil.pid_exists(pid) for pid in running.pids())


def test_when_one_cannot_be_started_the_earlier_are_stopped(tmp_path: Path) -> None:
    supervisor = Supervisor([SLEEPER, Process("none", ("/nowhere",))], tmp_path, os.environ, print)
    with pytest.raises(OperationError, match="none cannot be started: No such file or directory"):
        supervisor.run()
    assert not psutil.pid_exists(supervisor.pid("sleeper"))


def test_when_a_log_cannot_be_written_the_earlier_are_stopped(tmp_path: Path) -> None:
    (tmp_path / "second.log").mkdir()
    second = Process("second", SLEEPER.command)
    supervisor = Supervisor([SLEEPER, second], tmp_path, os.environ, print)
    with pytest.raises(DiskError, match=r"second\.log: Is a directory; the data folder needs room"):
        supervisor.run()
    assert not psutil.pid_exists(supervisor.pid("sleeper"))


def test_a_log_that_is_gone_or_cannot_be_opened_ends_nobody_else(tmp_path: Path) -> None:
    """Rotated away, then a disk that takes no file: it is tried again until there is room."""
    other = Process("other", SLEEPER.command, stop_s=5)
    running = Running(tmp_path, other, SLEEPER)
    wait_until(lambda: len(running.pids()) == 2)
    healthy, first = running.pids()
    log = tmp_path / "logs" / "sleeper.log"
    log.unlink()
    log.mkdir()
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: len(running.said) == 2)
    log.rmdir()
    wait_until(lambda: running.pids()[1] != first)
    assert running.pids()[0] == healthy
    assert psutil.pid_exists(healthy)
    running.supervisor.stop()
    assert running.ended() == 0
    assert running.said[:2] == [
        "sleeper ended with -9: it wrote nothing; again in 0.5 s",
        f"{log}: Is a directory; the data folder needs room and must be writable; again in 1 s",
    ]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("", "no upstream is configured"),
        (CONFIG.format(gateway=1, metrics=2, console=3) + LOGIN, "CONSOLE_CLIENT_SECRET"),
        (CONFIG.format(gateway=1, metrics=2, console=3) + 'auth = "key"\napi_key_file = "/nowhere"', "/nowhere"),
    ],
)
def test_up_configured_wrongly_makes_nothing(
    config: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "stillhouse.toml").write_text(config)
    data = tmp_path / "data"
    assert run(["up", "--config", str(tmp_path / "stillhouse.toml"), "--data", str(data)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert not data.exists()


@pytest.fixture
def terminal() -> Iterator[None]:
    """What is started hears when its terminal is closed, even where these tests run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_up_ends_with_its_children(number: signal.Signals, tmp_path: Path) -> None:
    """Ctrl-C, and the terminal that is closed."""
    config = tmp_path / "stillhouse.toml"
    config.write_text(CONFIG.format(gateway=free_port(), metrics=free_port(), console=free_port()))
    line = (sys.executable, "-m", "console.cli", "up", "--config", str(config), "--data", str(tmp_path / "data"))
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as up:
        wait_until(lambda: len(psutil.Process(up.pid).children()) == 4)
        children = family(up.pid)[:-1]
        up.send_signal(number)
        out, _ = up.communicate(timeout=60)
    assert (up.returncode, out.splitlines()[-1]) == (0, "stopped")
    assert not psutil.wait_procs(children, timeout=5)[1]
