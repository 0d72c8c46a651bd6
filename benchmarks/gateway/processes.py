"""A peer's processes: started, found ready, their CPU and memory read, and ended."""

import os
import subprocess
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType

import psutil

from benchmarks.gateway.messages import request_body

READY_TIMEOUT_S = 90.0
SAMPLE_EVERY_S = 0.5


class NotReadyError(Exception):
    """A peer did not answer; the text says what it said last."""


class Running:
    """`with Running(command, environment, folder) as peer:`; its output lies in `folder`/log."""

    def __init__(self, command: list[str], environment: dict[str, str], folder: Path) -> None:
        self._log = folder / "log"
        with self._log.open("wb") as out:
            self._process = subprocess.Popen(
                command, env={**os.environ, **environment}, cwd=folder, stdout=out, stderr=out, start_new_session=True
            )
        self._stop = threading.Event()
        self._began = time.monotonic()
        self.memory: list[tuple[float, float]] = []  # (seconds since the start, MB)
        self._sampler = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> "Running":
        self._sampler.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._sampler.join()
        family = self._family()
        for one in family:
            one.terminate()
        for one in psutil.wait_procs(family, timeout=5)[1]:
            one.kill()
        self._process.wait(10)

    @property
    def pid(self) -> int:
        return self._process.pid

    def cpu_s(self) -> float:
        """User and system time of all its processes so far."""
        return sum(sum(one.cpu_times()[:2]) for one in self._family())

    def memory_mb(self) -> float:
        """Resident memory, summed over its processes (what they share counts in each)."""
        return float(sum(one.memory_info().rss for one in self._family())) / 1e6

    def wait_ready(self, port: int, headers: tuple[str, ...]) -> None:
        """Until a completion comes through it. Raises NotReadyError."""
        named = {name: value.strip() for name, _, value in (header.partition(":") for header in headers)}
        named["content-type"] = "application/json"
        url, last = f"http://127.0.0.1:{port}/v1/chat/completions", "no answer"
        deadline = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                asked = urllib.request.Request(url, request_body(stream=False), named)
                with urllib.request.urlopen(asked, timeout=10) as reply:
                    if b"parcel" in reply.read():
                        return
                    last = "an answer of its own"
            except urllib.error.HTTPError as error:
                last = f"status {error.code}: {error.read()[:200]!r}"
            except OSError as error:
                last = type(error).__name__
            time.sleep(0.2)
        said = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise NotReadyError(f"it did not come up ({last}; {' | '.join(said[-2:])[:200]})")

    def _family(self) -> list[psutil.Process]:
        try:
            parent = psutil.Process(self._process.pid)
            return [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _sample(self) -> None:
        while not self._stop.wait(SAMPLE_EVERY_S):
            try:
                self.memory.append((round(time.monotonic() - self._began, 1), round(self.memory_mb(), 1)))
            except psutil.NoSuchProcess:  # a child ended in between
                continue
