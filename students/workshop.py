"""Owns what the worker's long jobs share: the store, the settings, the tasks of now, and the wish to stop."""

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from capture.db import Store
from capture.errors import UpstreamAwayError
from capture.graders.means import Python
from capture.settings import Settings, TaskSettings
from students.caps import Caps
from students.clients import Client
from students.registry import Server, Student, server_of, want
from students.training import Trainer

SERVED_WITHIN_S = 300.0
POLL_S = 0.5


class Stopping(BaseException):
    """The worker stops: leave the job as it is, it goes on at the next start. No error: nothing may take it for one."""


def _nowhere(student: Student) -> AbstractContextManager[Server]:
    raise UpstreamAwayError(f"student {student.name} is served in one way alone here")


@dataclass
class Workshop:
    """Passed to every job. `stopping` is set when the worker has to end; `caps` bound all of its background calls."""

    store: Store
    settings: Settings
    client: Client
    load_tasks: Callable[[], Mapping[str, TaskSettings]]
    clock: Callable[[], float] = time.time
    stopping: threading.Event = field(default_factory=threading.Event)
    trainers: Mapping[str, Trainer] = field(default_factory=dict)
    models: Callable[[str], Path] = Path
    """The folder of a base by its name, fetched and checked where it was not yet."""
    greedily: Callable[[Student], AbstractContextManager[Server]] = field(default=_nowhere)
    """A second server of a local student, without chance in its sampling, for as long as the block runs."""
    python: Python | None = None
    """What runs a task's Python graders; None where the settings do not allow that."""
    caps: Caps = field(init=False)

    def __post_init__(self) -> None:
        self.caps = Caps(self.store, self.settings, self.clock)

    @property
    def data(self) -> Path:
        return self.settings.data

    def check(self) -> None:
        """Raises Stopping when the worker has to end."""
        if self.stopping.is_set():
            raise Stopping

    def pause(self, seconds: float) -> None:
        """Wait, or raise Stopping as soon as the worker has to end."""
        if self.stopping.wait(seconds):
            raise Stopping

    def served(self, student: Student, within_s: float = SERVED_WITHIN_S) -> tuple[Server | None, bool]:
        """Ask for a student to be served and wait until it is; and whether it was this wish that made it so.

        Students at an upstream need no server of ours (None). Raises UpstreamAwayError when it is not ready in time.
        """
        if student.kind == "registered":
            return None, False
        wished = want(self.store, student.id, self.clock)
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            server = server_of(self.store, student.id)
            if server is not None and server.ready:
                return server, wished
            self.pause(POLL_S)
        detail = server.detail if server and server.detail else "is `stillhouse students serve` running?"
        raise UpstreamAwayError(f"student {student.name} was not served within {within_s:.0f} s: {detail}")
