"""The processes of the demo: the stand-in teacher, and `stillhouse up`."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import httpx2

from capture.errors import ConfigError, OperationError, RefusedError
from capture.settings import is_web_address
from console.supervise import check_ports, last_line
from examples.demo.folder import CONFIG
from examples.demo.world import Ports, World, config

START_S = 90

ELSEWHERE = ("DATABASE_URL", "OTEL_EXPORTER_OTLP_ENDPOINT")
"""Variables that an app's shell may have: the demo must not fill that database, nor report there."""


class Machine:
    """Everything that runs beside the demo, its files in `data`; nothing is written before `prepare`."""

    def __init__(self, world: World, ports: Ports, data: Path) -> None:
        self.ports, self.data = ports, data
        self.teacher = world.teacher(ports)
        self.config = data / CONFIG
        self.environ = {**_own(os.environ), "STILLHOUSE_CONFIG": str(self.config), "STILLHOUSE_DATA": str(data)}
        if self.teacher.command:
            self.environ[self.teacher.key_env] = "no-key-needed"
        self.gateway = f"http://127.0.0.1:{ports.gateway}"
        self._settings = config(world, ports)

    @property
    def key(self) -> str:
        """The teacher's key, as an app would have it. Raises ConfigError without one."""
        key = self.environ.get(self.teacher.key_env)
        if not key:
            raise ConfigError(f"set the environment variable {self.teacher.key_env} to the teacher's key")
        return key

    def check(self) -> None:
        """Raises ConfigError without the teacher's key or address, OperationError for a port that is taken."""
        ports = self.ports
        wanted = {"gateway": ports.gateway, "metrics": ports.metrics, "console": ports.console}
        if self.teacher.command:
            wanted["teacher"] = ports.teacher
        _ = self.key
        if not is_web_address(self.teacher.base_url):
            raise ConfigError(f"the teacher's URL {self.teacher.base_url!r} must look like https://host/v1")
        check_ports({f"the demo's --{name}-port": ("127.0.0.1", port) for name, port in wanted.items()})

    def check_teacher(self) -> None:
        """Raises RefusedError where another teacher answered what lies here, or nothing says which."""
        if not self.config.exists():
            return
        try:
            found = tomllib.loads(self.config.read_text(encoding="utf-8"))["tasks"]["triage"]["teacher"]["model"]
        except (ValueError, KeyError, TypeError) as error:
            raise RefusedError(
                f"{self.config} is not as the demo wrote it: delete {self.data}, or name another folder"
            ) from error
        if found != self.teacher.model:
            raise RefusedError(
                f"{self.data} holds an unfinished demo whose teacher is {found}: delete it, or name another folder"
            )

    def prepare(self) -> None:
        """Writes the settings that all of it runs by."""
        self.data.mkdir(parents=True, exist_ok=True)
        draft = self.config.with_name(f".{self.config.name}.new")
        try:
            draft.write_text(self._settings, encoding="utf-8")
            draft.replace(self.config)
        finally:
            draft.unlink(missing_ok=True)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Starts all of it, waits until it answers, and stops it at the end."""
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


def _own(environ: Mapping[str, str]) -> dict[str, str]:
    """Without what names another install."""
    return {
        name: value for name, value in environ.items() if not name.startswith("STILLHOUSE_") and name not in ELSEWHERE
    }


def _ok(url: str) -> bool:
    """Asked directly: to a proxy, this machine would be another."""
    try:
        return httpx2.get(url, timeout=2, trust_env=False).status_code == 200
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
