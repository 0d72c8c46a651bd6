"""The training process, `python -m students.training.run PLAN.json`: one plan trained, its progress told in files."""

import fcntl
import signal
import sys
import threading
from pathlib import Path

import msgspec

from capture.errors import StillhouseError
from students.training.trainer import Progress, TrainingPlan

EVENTS, ERROR, LOCK, CANCEL = "events.jsonl", "error.json", "lock", "cancel"


class Failure(msgspec.Struct, frozen=True):
    """How a run ended when it was not done: the error's class in capture.errors, and its one line."""

    kind: str
    message: str


def main(path: Path) -> int:
    """0: done, or cancelled; 1: an error of ours, which lies in the run folder."""
    plan = msgspec.json.decode(path.read_bytes(), type=TrainingPlan)
    folder = Path(plan.run_folder)
    with (folder / LOCK).open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a twin that is still dying would write the same checkpoints
        try:
            _train(plan, folder)
        except StillhouseError as error:
            (folder / ERROR).write_bytes(msgspec.json.encode(Failure(type(error).__name__, str(error))))
            return 1
    return 0


def _train(plan: TrainingPlan, folder: Path) -> None:
    from students.training.loop import train  # torch takes seconds to import: not before the lock is ours

    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda _number, _frame: stopped.set())
    with (folder / EVENTS).open("ab") as events:

        def tell(progress: Progress) -> None:
            events.write(msgspec.json.encode(progress) + b"\n")
            events.flush()

        train(plan, tell, lambda: stopped.is_set() or (folder / CANCEL).exists())


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
