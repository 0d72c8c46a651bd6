"""`stillhouse up`: gateway, worker, student server and console as child processes, kept alive and stopped together."""

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import psutil

from capture.errors import DiskError, OperationError
from capture.settings import Settings

RESTART_DELAYS_S = (0.5, 1, 2, 5, 10, 30)
STEADY_AFTER_S = 60
MISCONFIGURED = 2
"""The exit code of a process that cannot start as configured: starting it again cannot help."""


@dataclass(frozen=True)
class Process:
    """One process of the product: its name, its command, and how long it may take to stop."""

    name: str
    command: tuple[str, ...]
    stop_s: float = 15


@dataclass
class _Child:
    process: Process
    popen: subprocess.Popen[bytes]
    started_at: float
    restarts: int = 0
    due_at: float | None = field(default=None)


def processes(settings: Settings, config: Path | None) -> list[Process]:
    """What `up` runs, in the order in which it is started (and, reversed, stopped)."""
    common = ("--data", str(settings.data), *(("--config", str(config)) if config else ()))
    python = sys.executable
    return [
        Process("gateway", (python, "-m", "gateway", *common), stop_s=settings.gateway.drain_s + 5),
        Process("worker", (python, "-m", "students.worker", *common), stop_s=20),
        Process("students", (python, "-m", "students.server", *common)),
        Process("console", (python, "-m", "console.serve", *common)),
    ]


def ports(settings: Settings) -> dict[str, tuple[str, int]]:
    """The addresses that `up` listens on, each under the setting that names its port."""
    return {
        "gateway.port": (settings.gateway.host, settings.gateway.port),
        "gateway.metrics_port": (settings.gateway.metrics_host, settings.gateway.metrics_port),
        "console.port": (settings.console.host, settings.console.port),
    }


def check_ports(wanted: Mapping[str, tuple[str, int]]) -> None:
    """Raises OperationError for the first address that somebody else listens on. `wanted` maps a setting to it."""
    for setting, (host, port) in wanted.items():
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                raise OperationError(f"{host}:{port} is taken ({error.strerror}): free it or set {setting}") from error


class Supervisor:
    """Starts the processes, restarts what dies (with growing pauses), stops all of them when told."""

    def __init__(
        self, wanted: list[Process], logs: Path, environ: Mapping[str, str], say: Callable[[str], None]
    ) -> None:
        self._wanted = wanted
        self._logs = logs
        self._environ = dict(environ)
        self._say = say
        self._children: dict[str, _Child] = {}
        self._stop = threading.Event()

    def run(self) -> int:
        """Starts the processes and watches them until `stop` is called, from a signal handler or another thread.

        Then stops every child, as also when anything fails here. Returns 0, or the exit code of a child that cannot
        start as configured. Raises DiskError where a log cannot be written, OperationError where no process starts:
        at the first start alone, later ones are tried again.
        """
        try:
            self._start()
            code = 0
            while not (code or self._stop.wait(0.2)):
                code = next(filter(None, map(self._watch, self._children.values())), 0)
            return code
        finally:
            self._stop_all()

    def stop(self) -> None:
        self._stop.set()

    def pid(self, name: str) -> int:
        return self._children[name].popen.pid

    def _start(self) -> None:
        for process in self._wanted:
            if self._stop.is_set():
                return
            self._children[process.name] = _Child(process, self._spawn(process), time.monotonic())

    def _log(self, process: Process) -> Path:
        return self._logs / f"{process.name}.log"

    def _spawn(self, process: Process) -> subprocess.Popen[bytes]:
        log = self._log(process)
        try:
            self._logs.mkdir(parents=True, exist_ok=True)
            with log.open("ab") as out:
                return self._popen(process, out)
        except OSError as error:
            raise DiskError(f"{log}: {error.strerror}; the data folder needs room and must be writable") from error

    def _popen(self, process: Process, out: IO[bytes]) -> subprocess.Popen[bytes]:
        # A session of its own: Ctrl-C reaches us alone, and we stop the children in order.
        command, environ = process.command, self._environ
        try:
            return subprocess.Popen(
                command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=environ, start_new_session=True
            )
        except OSError as error:
            raise OperationError(f"{process.name} cannot be started: {error.strerror}") from error

    def _watch(self, child: _Child) -> int:
        """Starts it again when its time has come. Returns the exit code that ends everything, else 0."""
        code = child.popen.poll()
        if code is None:
            return 0
        now = time.monotonic()
        if child.due_at is None:
            why = last_line(self._log(child.process))
            if code == MISCONFIGURED:
                self._say(f"{child.process.name} cannot start as configured: {why}; stopping")
                return code
            if now - child.started_at > STEADY_AFTER_S:
                child.restarts = 0
            self._put_off(child, f"{child.process.name} ended with {code}: {why}")
        elif now >= child.due_at:
            self._start_again(child)
        return 0

    def _start_again(self, child: _Child) -> None:
        """What stands in the way of one process, a full disk for example, must not end the others."""
        child.restarts += 1
        try:
            child.popen = self._spawn(child.process)
        except OperationError as error:
            self._put_off(child, str(error))
        else:
            child.started_at, child.due_at = time.monotonic(), None

    def _put_off(self, child: _Child, why: str) -> None:
        delay = RESTART_DELAYS_S[min(child.restarts, len(RESTART_DELAYS_S) - 1)]
        child.due_at = time.monotonic() + delay
        self._say(f"{why}; again in {delay} s")

    def _stop_all(self) -> None:
        for child in reversed(self._children.values()):
            _terminate(child.popen, child.process.stop_s)


def _terminate(popen: subprocess.Popen[bytes], patience_s: float) -> None:
    """SIGTERM, then SIGKILL for it and for everything that it left behind."""
    try:
        family = psutil.Process(popen.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    popen.send_signal(signal.SIGTERM)
    try:
        popen.wait(patience_s)
    except subprocess.TimeoutExpired:
        popen.kill()
        popen.wait()
    for orphan in psutil.wait_procs(family, timeout=1)[1]:
        orphan.kill()


def last_line(log: Path) -> str:
    """The last line that a process wrote, for a message about its end; a log that is gone says nothing."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            lines = file.read().decode("utf-8", "replace").strip().splitlines()
    except OSError:
        lines = []
    return lines[-1][:300] if lines else "it wrote nothing"
