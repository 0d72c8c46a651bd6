"""Keeps one student's server up: `transformers serve`, warmed up, measured, watched, and started again when it dies."""

import logging
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Literal

import psutil

from students import probing
from students.served import Report, ServedStudent, ServerState, Serving
from students.tether import Child

log = logging.getLogger(__name__)

POLL_S = 0.5
HEALTH_EVERY_S = 5.0
START_WITHIN_S = 180.0
STOP_WITHIN_S = 8.0
UNHEALTHY_AFTER = 6  # looks in a row, of 5 s each: a server that reads a long prompt on few cores is slow to answer
STEADY_AFTER_S = 60.0
RESTART_DELAYS_S = (0.5, 1, 2, 5, 10, 30)
_PAGE_TOKENS = 16  # small pages: a system prompt of 50 tokens is then read once, not once a request
_BATCH_TOKENS = 512


class Ports:
    """Hands out ports that nobody listens on, from the first one upwards."""

    def __init__(self, host: str, first: int) -> None:
        self._host, self._first = host, first
        self._taken: set[int] = set()
        self._lock = threading.Lock()

    def take(self) -> int:
        with self._lock:
            port = next(port for port in range(self._first, 65536) if port not in self._taken and self._free(port))
            self._taken.add(port)
            return port

    def give_back(self, port: int) -> None:
        with self._lock:
            self._taken.discard(port)

    def _free(self, port: int) -> bool:
        with socket.socket(socket.AF_INET6 if ":" in self._host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self._host, port))
            except OSError:
                return False
        return True


class _EndedError(Exception):
    """The server has to be given up; the line says why."""


@dataclass
class Keeper:
    """One student's server, kept up by a thread of its own until it is no longer wanted."""

    student: ServedStudent
    serving: Serving
    ports: Ports
    report: Report
    stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._keep, name=f"serving {self.student.id}")
        self._thread.start()

    def end(self) -> None:
        """Returns when the server's process has ended."""
        self.stop.set()
        self._thread.join()

    def _keep(self) -> None:
        delays = _delays()
        while not self.stop.is_set():
            started = time.monotonic()
            reason = self._serve()
            if self.stop.is_set():
                break
            if time.monotonic() - started > STEADY_AFTER_S:
                delays = _delays()
            delay_s = next(delays)
            self._tell(ServerState(self.student.id, "dead", detail=f"{reason}; starting again in {delay_s:g} s"))
            self.stop.wait(delay_s)
        self._tell(ServerState(self.student.id, "stopped"))

    def _serve(self) -> str:
        """One life of the server; returns why it ended."""
        port = self.ports.take()
        child = None
        try:
            output, above = self.serving.logs / f"{self.student.id}.log", self.student.folder.resolve().parent
            child = Child(command(self.student, self.serving, port), output, folder=above)
            self._live(child, self._state("starting", port, child.pid))
        except (_EndedError, OSError) as error:
            log.warning("student %s: %s", self.student.id, error)
            return str(error)
        finally:
            if child is not None:
                child.stop(STOP_WITHIN_S)
            self.ports.give_back(port)
        return "told to stop"

    def _live(self, child: Child, state: ServerState) -> None:
        self._tell(state)
        url, model = str(state.url), str(state.served_model)
        deadline = time.monotonic() + START_WITHIN_S
        while not probing.healthy(url, 2):
            self._check(child)
            if time.monotonic() > deadline:
                raise _EndedError(f"not up within {START_WITHIN_S:.0f} s")
            if self.stop.wait(POLL_S):
                return
        try:
            student = self.student
            sampling = {"temperature": student.temperature, "top_p": student.top_p}
            probing.warm_up(url, model, sampling, student.prompts)
            measured = probing.capacity(url, model, student.max_tokens, student.prompts)
        except probing.ProbeFailedError as error:
            self._check(child)
            raise _EndedError(str(error)) from error
        self._watch(child, replace(state, state="ready", capacity_per_s=measured))

    def _watch(self, child: Child, ready: ServerState) -> None:
        missed, look_at = 0, 0.0
        while not self.stop.is_set():
            self._check(child)
            if time.monotonic() >= look_at:
                missed = 0 if probing.healthy(str(ready.url), HEALTH_EVERY_S) else missed + 1
                if missed >= UNHEALTHY_AFTER:
                    raise _EndedError("it does not answer /health any more")
                self._tell(ready)
                look_at = time.monotonic() + HEALTH_EVERY_S
            child.ended.wait(POLL_S)

    def _check(self, child: Child) -> None:
        """Raises _EndedError for a process that has ended or has grown too large."""
        if child.ended.is_set():
            where = self.serving.logs / f"{self.student.id}.log"
            raise _EndedError(f"its process ended with {child.returncode}: see {where}")
        with suppress(psutil.NoSuchProcess):
            used_mb = psutil.Process(child.pid).memory_info().rss / 2**20
            if used_mb > self.serving.memory_mb:
                raise _EndedError(f"it took {used_mb:.0f} MB, more than students.memory_mb = {self.serving.memory_mb}")

    def _state(self, state: Literal["starting", "ready"], port: int, pid: int) -> ServerState:
        host = self.serving.advertise or self.serving.host
        url = f"http://{f'[{host}]' if ':' in host else host}:{port}/v1"
        return ServerState(self.student.id, state, url, served_model(self.student), pid)

    def _tell(self, state: ServerState) -> None:
        try:
            self.report(state)
        except Exception:
            log.exception("the state of student %s could not be reported", state.student_id)


def command(student: ServedStudent, serving: Serving, port: int) -> tuple[str, ...]:
    """The server's command line, for the folder above the student's: nothing is imported from there.

    Without the bounds, its cache would take most of the machine's memory.
    """
    return (
        *(sys.executable, "-P", "-m", "transformers.cli.transformers", "serve", served_model(student)),
        *("--device", serving.device, "--dtype", serving.dtype, "--host", serving.host, "--port", str(port)),
        *("--continuous-batching", "--cb-block-size", str(_PAGE_TOKENS)),
        *("--cb-num-blocks", str(serving.cache_tokens // _PAGE_TOKENS), "--cb-max-batch-tokens", str(_BATCH_TOKENS)),
        *("--log-level", "error"),
    )


def served_model(student: ServedStudent) -> str:
    """What a request's `model` must say, and what its answer says: the folder's name.

    The server is pinned to what it was started with, and repeats it to clients, who are to see no path of this machine.
    """
    return student.folder.resolve().name


def _delays() -> Iterator[float]:
    yield from RESTART_DELAYS_S
    while True:
        yield RESTART_DELAYS_S[-1]
