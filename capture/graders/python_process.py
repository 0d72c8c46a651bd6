"""Processes of `python` graders: one for each source, kept for many answers, ended when it oversteps its limits."""

import json
import math
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog

from capture.settings import PythonGraderSettings

_CHILD = Path(__file__).with_name("python_child.py")
_MOST_PROCESSES = 8
_ANSWERS_OF_ONE = 500  # then a fresh one: the processor time that it may use is counted over its life
_LONGEST_LINE = 64 * 1024

_log = structlog.get_logger(__name__)


class PythonProcesses:
    """Grades one answer at a time. `close` ends every process."""

    def __init__(self, settings: PythonGraderSettings) -> None:
        self._settings = settings
        self._running: dict[str, _Process] = {}
        self._lock = threading.Lock()

    def grade(self, source: str, sample: Mapping[str, Any], item: Mapping[str, Any]) -> float | None:
        """None where the code failed, returned no number, or was stopped: that is logged by its kind."""
        line = json.dumps({"sample": sample, "item": item}).encode() + b"\n"
        with self._lock:
            process = self._process(source)
            was_used = process.answers > 0
            said = process.ask(line, self._settings.wall_s)
            if said is None and was_used and not process.late:  # it may have died of all its answers together
                self._end(source)
                said = self._process(source).ask(line, self._settings.wall_s)
            if said is None:
                self._end(source)
                said = {"error": "stopped: over its limits of time or memory"}
        score = said.get("score")
        if isinstance(score, float) and math.isfinite(score):
            return score
        _log.warning("python grader gave no score", reason=str(said.get("error", "no score"))[:80])
        return None

    def close(self) -> None:
        with self._lock:
            for source in list(self._running):
                self._end(source)

    def _process(self, source: str) -> "_Process":
        known = self._running.get(source)
        if known is not None and known.answers < _ANSWERS_OF_ONE:
            return known
        if known is not None:
            self._end(source)
        while len(self._running) >= _MOST_PROCESSES:
            self._end(next(iter(self._running)))
        self._running[source] = _Process(source, self._settings)
        return self._running[source]

    def _end(self, source: str) -> None:
        self._running.pop(source).end()


class _Process:
    def __init__(self, source: str, settings: PythonGraderSettings) -> None:
        self.answers = 0
        self.late = False
        self._child = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_CHILD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={},
            cwd="/",
            bufsize=0,
        )
        task = {"source": source, "cpu_s": settings.cpu_s, "memory_bytes": settings.memory_mb * 1024 * 1024}
        self._first = json.dumps(task).encode() + b"\n"

    def ask(self, line: bytes, within_s: float) -> dict[str, Any] | None:
        """Its answer; None when it died, was late, or said something else."""
        deadline = time.monotonic() + within_s
        self.answers += 1
        data, self._first = self._first + line, b""
        try:
            found = self._exchange(memoryview(data), deadline)
            said = json.loads(found) if found is not None else None
        except (OSError, ValueError):
            return None
        return said if isinstance(said, dict) else None

    def _exchange(self, data: memoryview, deadline: float) -> bytes | None:
        """Writes and reads at once, so that neither side waits for ever for the other."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        into, out, found = self._child.stdin.fileno(), self._child.stdout.fileno(), b""
        os.set_blocking(into, False)
        while not found.endswith(b"\n"):
            left = deadline - time.monotonic()
            ready = select.select([out], [into] if data else [], [], max(0.0, left)) if left > 0 else ([], [], [])
            if not ready[0] and not ready[1]:
                self.late = True
                return None
            if ready[1]:
                data = data[os.write(into, data[:65536]) :]
            if ready[0]:
                piece = os.read(out, 65536)
                found += piece
                if not piece or len(found) > _LONGEST_LINE:
                    return None
        return found

    def end(self) -> None:
        self._child.kill()
        self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                pipe.close()
