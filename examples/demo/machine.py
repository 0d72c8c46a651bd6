"""The processes of the demo: the stand-in teacher, and `stillhouse up`."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import httpx2

from capture.errors import OperationError
from console.supervise import check_ports, last_line
from examples.demo.world import Ports, World, config

START_S = 90


class Machine:
    """Everything that runs beside the demo, its files in `data`."""

    def __init__(self, world: World, ports: Ports, data: Path) -> None:
        self.ports, self.data = ports, data
        self.teacher = world.teacher(ports)
        self.config = data / "stillhouse.toml"
        self.environ = {**os.environ, "STILLHOUSE_CONFIG": str(self.config), "STILLHOUSE_DATA": str(data)}
        if self.teacher.command:
            self.environ[self.teacher.key_env] = "no-key-needed"
        self.gateway = f"http://127.0.0.1:{ports.gateway}"
        data.mkdir(parents=True, exist_ok=True)
        self.config.write_text(config(world, ports), encoding="utf-8")

    @property
    def key(self) -> str:
        """The teacher's key, as an app would have it."""
        try:
            return self.environ[self.teacher.key_env]
        except KeyError as error:
            raise OperationError(f"set {self.teacher.key_env} to the teacher's key") from error

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Starts all of it, waits until it answers, and stops it at the end."""
        ports = self.ports
        wanted = {"gateway": ports.gateway, "metrics": ports.metrics, "console": ports.console}
        if self.teacher.command:
            wanted["teacher"] = ports.teacher
        check_ports({f"the demo's --{name}-port": ("127.0.0.1", port) for name, port in wanted.items()})
        with contextlib.ExitStack() as stack:
            if self.teacher.command:
                stack.enter_context(self._process("teacher", self.teacher.command, self._teacher_answers))
            up = (sys.executable, "-m", "console.cli", "up", "--config", str(self.config), "--data", str(self.data))
            stack.enter_context(self._process("up", up, self._gateway_answers))
            yield

    @contextlib.contextmanager
    def _process(self, name: str, command: Sequence[str], answers: Callable[[], bool]) -> Iterator[None]:
        log = self.data / "logs" / f"{name}.log"
        log.parent.mkdir(exist_ok=True)
        with log.open("ab") as out:
            process = subprocess.Popen(command, stdout=out, stderr=out, env=self.environ, start_new_session=True)
        try:
            _wait_for(answers, process, name, log)
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(90)

    def _teacher_answers(self) -> bool:
        return _ok(f"http://127.0.0.1:{self.ports.teacher}/health")

    def _gateway_answers(self) -> bool:
        return _ok(f"{self.gateway}/readyz") and _ok(f"http://127.0.0.1:{self.ports.console}/_stcore/health")


def _ok(url: str) -> bool:
    try:
        return httpx2.get(url, timeout=2).status_code == 200
    except httpx2.HTTPError:
        return False


def _wait_for(answers: Callable[[], bool], process: "subprocess.Popen[bytes]", name: str, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while not answers():
        if process.poll() is not None:
            raise OperationError(f"{name} ended with {process.returncode}: {last_line(log)}")
        if time.monotonic() > deadline:
            raise OperationError(f"{name} did not answer within {START_S} s; see {log}")
        time.sleep(0.2)
