"""A student's server as a process of its own, that can be made worse by a file and killed: `python -m … PORT FILE`."""

import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.fakes.chat_server import ChatServer

LABELS = ("card", "loan", "account", "transfer")


def label_of(text: str) -> str:
    return next(label for label in LABELS if label in text)


class Worse:
    """Reads a ticket's label out of it, and is wrong at the rate that a file says, by a hash of the ticket."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __call__(self, request: dict[str, Any]) -> str:
        text = request["messages"][-1]["content"]
        errs = random.Random(f"student {text}").random() < float(self._file.read_text())
        return json.dumps({"category": "other" if errs else label_of(text)})


class StudentProcess:
    """Listens on 127.0.0.1:`port` once `start` has returned."""

    def __init__(self, folder: Path, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}/v1"
        self._file = folder / "wrong"
        self._process: subprocess.Popen[bytes] | None = None
        self.errs_at(0.0)

    def errs_at(self, rate: float) -> None:
        fresh = self._file.with_suffix(".new")
        fresh.write_text(str(rate))
        fresh.replace(self._file)  # at once: a request may be reading it

    def start(self) -> None:
        line = [sys.executable, "-m", "tests.fakes.student_process", str(self.port), str(self._file)]
        self._process = subprocess.Popen(line, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"

    def kill(self) -> None:
        """SIGKILL, whatever is under way."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self._process.stdout is not None:
                self._process.stdout.close()
        self._process = None


@contextmanager
def student_process(folder: Path, port: int) -> Iterator[StudentProcess]:
    student = StudentProcess(folder, port)
    student.start()
    try:
        yield student
    finally:
        student.kill()


def main(port: int, file: Path) -> None:
    with ChatServer(Worse(file), port=port):
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            time.sleep(3600)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
