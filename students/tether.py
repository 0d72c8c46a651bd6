"""Child processes that cannot outlive this one: training and serving end with what started them, even by -9."""

import ctypes
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

_PR_SET_PDEATHSIG = 1
# Model libraries ask no hub; threads wait without spinning: on few cores, spinning ones keep the others from working
# (with two busy neighbours a training step took 7 times as long).
_ENV = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_WAIT_POLICY": "PASSIVE",
    "TRANSFORMERS_VERBOSITY": "error",
}


class Child:
    """A process in a session of its own, its output appended to a log file; it knows no model hub.

    Linux ends a tethered child when the *thread* that started it ends, so each child is started, and waited for, by a
    thread of its own.
    """

    def __init__(
        self,
        argv: Sequence[str],
        log: Path,
        env: Mapping[str, str] = MappingProxyType({}),
        folder: Path = Path("."),  # that it works in
    ) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        more = [f"{name}={value}" for name, value in {**_ENV, **env}.items()]
        self._line = (sys.executable, "-m", "students.tether", str(os.getpid()), str(folder), *more, "--", *argv)
        self._log = log
        self._error: OSError | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._started, self.ended = threading.Event(), threading.Event()
        threading.Thread(target=self._own, name="tether", daemon=True).start()
        self._started.wait()
        if self._error is not None:
            raise self._error

    @property
    def pid(self) -> int:
        return self._running().pid

    @property
    def returncode(self) -> int | None:
        """None while it runs; negative when a signal ended it."""
        return self._running().returncode if self.ended.is_set() else None

    def signal(self, number: signal.Signals) -> None:
        """For an ended child: nothing."""
        if not self.ended.is_set():
            self._running().send_signal(number)

    def stop(self, within_s: float) -> None:
        """SIGTERM, and SIGKILL when that is not heeded in time; returns when it has ended."""
        self.signal(signal.SIGTERM)
        if not self.ended.wait(within_s):
            self.signal(signal.SIGKILL)
            self.ended.wait()

    def _own(self) -> None:
        try:
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    self._line, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                )
        except OSError as error:
            self._error = error
            self._started.set()
            return
        self._started.set()
        self._process.wait()
        self.ended.set()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("the child was not started")
        return self._process


def main(parent: int, folder: str, env: Sequence[str], argv: Sequence[str]) -> None:
    """Tethers this process to its parent, then becomes `argv`, in `folder`. The tether outlasts the exec; so does
    NAME=VALUE."""
    for name, _, value in (entry.partition("=") for entry in env):
        os.putenv(name, value)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the tether held
        raise SystemExit(1)
    os.chdir(folder)
    os.execv(argv[0], list(argv))


if __name__ == "__main__":
    parting = sys.argv.index("--")
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3:parting], sys.argv[parting + 1 :])
