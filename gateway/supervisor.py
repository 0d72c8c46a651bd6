"""N gateway processes on one listening socket: started, started again when they die, stopped together."""

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Sequence

import structlog

RESTART_DELAYS_S = (0.2, 1.0, 2.0, 5.0, 10.0)
STEADY_AFTER_S = 30.0
POLL_S = 0.2
GRACE_S = 5.0  # beyond the drain

_log = structlog.get_logger("stillhouse.gateway")


class Supervisor:
    """Hands each process the socket and an index. All of them failing at their start ends it with status 1."""

    def __init__(self, command: Sequence[str], listener: socket.socket, processes: int, drain_s: float) -> None:
        self._command = list(command)
        self._listener = listener
        self._drain_s = drain_s
        self._running: dict[int, tuple[subprocess.Popen[bytes], float]] = {}
        self._failures = dict.fromkeys(range(processes), 0)
        self._due_at = dict.fromkeys(range(processes), 0.0)
        self._stop = threading.Event()

    def run(self) -> int:
        """Until SIGTERM or SIGINT; then the processes drain. Call it from the main thread."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop.set())
        while not self._stop.is_set():
            self._tend()
            if min(self._failures.values()) >= len(RESTART_DELAYS_S):
                _log.error("no_process_stays_up", processes=len(self._failures))
                return self._end(1)
            self._stop.wait(POLL_S)
        return self._end(0)

    def _tend(self) -> None:
        now = time.monotonic()
        for index in self._failures:
            running = self._running.get(index)
            if running is None:
                if now >= self._due_at[index]:
                    self._start(index, now)
            elif running[0].poll() is not None:
                self._died(index, now)
            elif now - running[1] > STEADY_AFTER_S:
                self._failures[index] = 0

    def _start(self, index: int, now: float) -> None:
        descriptor = self._listener.fileno()
        command = [*self._command, "--socket-fd", str(descriptor), "--index", str(index), "--parent", str(os.getpid())]
        self._running[index] = (subprocess.Popen(command, pass_fds=(descriptor,), start_new_session=True), now)

    def _died(self, index: int, now: float) -> None:
        process, _ = self._running.pop(index)
        count = self._failures[index]
        delay_s = RESTART_DELAYS_S[min(count, len(RESTART_DELAYS_S) - 1)]
        self._failures[index] = count + 1
        self._due_at[index] = now + delay_s
        _log.error("process_died", index=index, status=process.returncode, again_in_s=delay_s)

    def _end(self, status: int) -> int:
        """SIGTERM to all, time to drain, then SIGKILL."""
        processes = [process for process, _ in self._running.values()]
        for process in processes:
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + self._drain_s + GRACE_S
        for process in processes:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                _log.error("process_killed_after_drain", pid=process.pid)
                process.kill()
                process.wait()
        self._listener.close()
        return status
