"""The student server's wiring: keeps the wanted local students up and writes where they answer into the store.

`python -m students.server --config FILE --data FOLDER`.
"""

import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog
from sqlalchemy import select, update

from capture.db import Store, open_store
from capture.errors import StillhouseError, StoreAwayError
from capture.migrations import upgrade
from capture.settings import Settings
from students import bases
from students.entry import enter
from students.processor import dtype_on
from students.registry import Student, load_student
from students.samples import sample_of
from students.served import device_of
from students.serving import Report, ServedStudent, ServerState, Serving, serve_students
from students.tables import student_servers

log = structlog.get_logger(__name__)

STORE_RETRY_S = 2.0
TRY_AGAIN_S = 30.0


def run(settings: Settings, stopping: threading.Event, clock: Callable[[], float] = time.time) -> None:
    """Serve until `stopping` is set and every student's process has ended. A store that is away is waited for."""
    store = open_store(settings.store_url)
    while not stopping.is_set():
        try:
            upgrade(store)
            _forget_former(store)
            break
        except StoreAwayError as error:
            log.warning("store away at the start", error=str(error)[:200])
            stopping.wait(STORE_RETRY_S)
    own, device = settings.students, device_of(Path("/dev"))
    serving = Serving(
        logs=settings.data / "logs" / "students",
        host=own.host,
        advertise=own.advertise,
        first_port=own.first_port,
        memory_mb=own.memory_mb,
        device=device,
        dtype=dtype_on(device),
    )
    log.info("student server runs", host=own.host, first_port=own.first_port, device=serving.device)
    serve_students(Wanted(store, settings), reporting(store, clock), stopping, serving)
    store.close()
    log.info("student server stopped")


def _forget_former(store: Store) -> None:
    """No process outlives its student server: what the last one wrote is not so any more."""
    with store.write() as connection:
        connection.execute(update(student_servers).values(state="stopped", url=None, pid=None))


class Wanted:
    """The students that somebody wants served, looked up at each call; one that cannot be served says so."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store, self._settings = store, settings
        self._known: dict[str, ServedStudent] = {}
        self._refused: dict[str, float] = {}

    def __call__(self) -> Sequence[ServedStudent]:
        query = select(student_servers.c.student_id).where(student_servers.c.wanted_at.is_not(None))
        with self._store.read() as connection:
            ids = list(connection.execute(query).scalars())
        self._known = {student_id: known for student_id, known in self._known.items() if student_id in ids}
        return [served for student_id in ids if (served := self._served(student_id)) is not None]

    def _served(self, student_id: str) -> ServedStudent | None:
        if time.monotonic() < self._refused.get(student_id, 0.0):
            return None
        if student_id not in self._known:
            try:
                self._known[student_id] = self._look_up(load_student(self._store, student_id))
            except StoreAwayError:
                raise
            except StillhouseError as error:
                self._complain(student_id, str(error))
                return None
        return self._known[student_id]

    def _look_up(self, student: Student) -> ServedStudent:
        sample = sample_of(self._store, student)
        return ServedStudent(
            id=student.id,
            folder=self._folder(student),
            temperature=sample.temperature,
            top_p=sample.top_p,
            max_tokens=sample.max_tokens,
            prompts=sample.prompts,
        )

    def _folder(self, student: Student) -> Path:
        if student.folder is not None:
            return self._settings.data / student.folder
        own = self._settings
        return bases.pull(student.base, own.models_folder, allow_hub=own.students.allow_hub)

    def _complain(self, student_id: str, reason: str) -> None:
        log.warning("student cannot be served", student=student_id, reason=reason)
        self._refused[student_id] = time.monotonic() + TRY_AGAIN_S
        with self._store.write() as connection:
            row = update(student_servers).where(student_servers.c.student_id == student_id)
            connection.execute(row.values(state="dead", detail=reason))


def reporting(store: Store, clock: Callable[[], float]) -> Report:
    """Writes a server's state, and with it the sign of life; only a change of it is worth a log line."""
    known: dict[str, ServerState] = {}

    def report(state: ServerState) -> None:
        values = {
            "state": state.state,
            "url": state.url,
            "served_model": state.served_model,
            "pid": state.pid,
            "detail": state.detail,
            "seen_at": clock(),
        }
        if state.capacity_per_s is not None:
            values["capacity_per_s"] = state.capacity_per_s
        with store.write() as connection:
            row = update(student_servers).where(student_servers.c.student_id == state.student_id)
            connection.execute(row.values(values))
        if known.get(state.student_id) != state:
            log.info("student", student=state.student_id, state=state.state, detail=state.detail)
        known[state.student_id] = state

    return report


if __name__ == "__main__":
    sys.exit(enter("stillhouse students serve", run, None))
