"""What the processes of one gateway have in common while they run: their numbers, and the pages of what keys used."""

import shutil
from pathlib import Path

import msgspec
import psutil

from capture.errors import DiskError
from gateway.metrics import Numbers, without_gauges


class RunFolder:
    """One gateway's folder, for as long as it runs; `close` removes it. Raises DiskError when it cannot be made."""

    def __init__(self, folder: Path) -> None:
        self.path = folder
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise DiskError(f"{folder}: {error.strerror}; the data folder must be writable") from error

    @classmethod
    def anew(cls, folder: Path) -> "RunFolder":
        """Without what a killed gateway of the same process id left there (in a container it is always the same)."""
        shutil.rmtree(folder, ignore_errors=True)
        return cls(folder)

    def read(self) -> list[Numbers]:
        """Every process's numbers; of those that have ended, what they counted."""
        found = []
        for file in sorted(self.path.glob("*.numbers")):
            try:
                numbers = msgspec.msgpack.decode(file.read_bytes(), type=Numbers)
            except (OSError, msgspec.DecodeError):
                continue
            found.append(numbers if psutil.pid_exists(int(file.stem)) else without_gauges(numbers))
        return found

    def close(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
