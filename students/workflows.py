"""Owns the durable workflows: one for each queued row, started once, going on after a crash where it was.

DBOS keeps their state in a database of its own (`workflows.db` in the data folder, or a schema of the PostgreSQL that
the store is in). A workflow's id is its row's id, so starting it twice is starting it once; its arguments are ids, in
portable JSON. Every step can be repeated: what it did before a crash it finds and goes on from.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import structlog
from dbos import DBOS, DBOSConfig, DBOSPortableJSONSerializer, SetWorkflowID
from sqlalchemy import ColumnElement, Table, select, true, update
from sqlalchemy.engine import make_url

from capture import datasets as dataset_room
from capture.errors import StillhouseError, StoreAwayError
from capture.settings import Settings
from capture.tables import datasets
from students import evaluation, fine_tuning, relabelling
from students.tables import evaluations, fine_tunes
from students.workshop import Workshop

log = structlog.get_logger(__name__)

VERSION = "1"
"""Pinned: a newer release recovers the workflows of an older one. Raised when the order of the steps changes."""

RETRY_S = 2.0
END_WITHIN_S = 8.0
Step = tuple[str, Callable[[str], None]]
KINDS: Mapping[str, Table] = {"dataset": datasets, "fine_tune": fine_tunes, "evaluation": evaluations}
GOING = ("running", "building")


class Workflows:
    """The durable workflows of one worker process. `launch` recovers what an earlier start left unfinished."""

    def __init__(self, shop: Workshop, executor: str = "worker-0") -> None:
        """`executor` names this replica for good: it recovers its own workflows and nobody else's."""
        self._shop = shop
        self._active = 0
        self._ended = threading.Condition()
        DBOS(config=_config(shop.settings, executor))
        steps: Mapping[str, Sequence[Step]] = {
            "dataset": (("build", self._build_dataset),),
            "fine_tune": tuple((name, self._repeated(step)) for name, step in fine_tuning.STEPS.items()),
            "evaluation": (("evaluate", self._repeated(evaluation.carry_out)),),
        }
        self._workflows = {kind: self._durable(kind, step) for kind, step in steps.items()}

    def launch(self) -> None:
        DBOS.launch()

    def close(self) -> None:
        """After `shop.stopping` was set: jobs under way leave at their next look, and stay unfinished on purpose."""
        with self._ended:
            self._ended.wait_for(lambda: not self._active, timeout=END_WITHIN_S)
        DBOS.destroy(destroy_registry=True)

    def take_over(self, executor: str) -> int:
        """Go on with what a replica that is gone left unfinished; how many workflows."""
        return len(DBOS._recover_pending_workflows([executor]))

    def start_queued(self) -> int:
        """Start the oldest queued row of each kind, where none of that kind is under way; how many were started.

        Fine-tunes wait for those of the same trainer alone: one at an upstream keeps nothing here from training.
        """
        lanes: list[tuple[str, Table, ColumnElement[bool]]] = [
            (kind, table, true()) for kind, table in KINDS.items() if kind != "fine_tune"
        ]
        lanes += [("fine_tune", fine_tunes, fine_tunes.c.trainer == trainer) for trainer in self._trainers()]
        return sum(self._start_next(*lane) for lane in lanes)

    def _trainers(self) -> Sequence[str]:
        unfinished = select(fine_tunes.c.trainer).where(fine_tunes.c.state.in_(("queued", *GOING)))
        with self._shop.store.read() as connection:
            return connection.execute(unfinished.distinct()).scalars().all()

    def _start_next(self, kind: str, table: Table, lane: ColumnElement[bool]) -> int:
        with self._shop.store.read() as connection:
            going = connection.execute(select(table.c.id).where(table.c.state.in_(GOING), lane).limit(1)).scalar()
            waiting = select(table.c.id).where(table.c.state == "queued", lane).order_by(table.c.created_at, table.c.id)
            queued = connection.execute(waiting.limit(1)).scalar()
        if going is not None:  # it has a workflow, unless the workflows' database was lost: then it gets a new one
            return self._start(kind, going)
        return 0 if queued is None else self._start(kind, queued)

    def _start(self, kind: str, row_id: str) -> int:
        if DBOS.get_workflow_status(row_id) is not None:
            return 0
        with SetWorkflowID(row_id):
            DBOS.start_workflow(self._workflows[kind], row_id)
        return 1

    def _durable(self, kind: str, steps: Sequence[Step]) -> Callable[[str], None]:
        """A workflow of repeatable steps, whose end is always written into its row."""

        def workflow(row_id: str) -> None:
            with self._counted():
                attempt(row_id)

        def attempt(row_id: str) -> None:
            try:
                for name, step in steps:
                    DBOS.run_step({"name": name}, step, row_id)
            except StillhouseError as error:
                self._shop.check()  # what a stopping worker broke off has not failed
                self._failed(kind, row_id, str(error))
            except Exception as error:
                self._shop.check()
                log.exception("workflow failed", kind=kind, row=row_id)
                self._failed(kind, row_id, f"{type(error).__name__}: {error}")

        return DBOS.workflow(name=kind, max_recovery_attempts=None)(workflow)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """While a workflow is under way in this process."""
        with self._ended:
            self._active += 1
        try:
            yield
        finally:
            with self._ended:
                self._active -= 1
                self._ended.notify_all()

    def _failed(self, kind: str, row_id: str, reason: str) -> None:
        """Write the reason into the row, as soon as the store is there."""
        table = KINDS[kind]
        unfinished = (table.c.id == row_id) & table.c.state.in_(("queued", *GOING))
        values: dict[str, Any] = {"state": "failed", "error": reason}
        if "ended_at" in table.c:
            values["ended_at"] = self._shop.clock()
        while True:
            try:
                with self._shop.store.write() as connection:
                    connection.execute(update(table).where(unfinished).values(values))
                return
            except StoreAwayError:
                self._shop.pause(RETRY_S)

    def _build_dataset(self, dataset_id: str) -> None:
        """One that is relabelled comes ready out of that, and is left alone by the build."""
        shop = self._shop
        self._patiently(lambda: relabelling.carry_out(shop, dataset_id))
        self._patiently(
            lambda: dataset_room.build(shop.store, dataset_id, shop.load_tasks(), shop.settings.upstreams, shop.clock)
        )

    def _repeated(self, job: Callable[[Workshop, str], None]) -> Callable[[str], None]:
        return lambda row_id: self._patiently(lambda: job(self._shop, row_id))

    def _patiently(self, job: Callable[[], object]) -> None:
        """Do a repeatable job; while the store is away, wait and begin again."""
        while True:
            self._shop.check()
            try:
                job()
                return
            except StoreAwayError as error:
                log.warning("store away, the job waits", error=str(error))
                self._shop.pause(RETRY_S)


def _config(settings: Settings, executor: str) -> DBOSConfig:
    url = f"sqlite:///{settings.data / 'workflows.db'}"
    if settings.database_url:
        url = make_url(settings.database_url).set(drivername="postgresql").render_as_string(hide_password=False)
    else:
        settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
        (settings.data / "workflows.db").touch(mode=0o600)
    return DBOSConfig(
        name="stillhouse",
        system_database_url=url,
        application_version=VERSION,
        executor_id=executor,
        serializer=DBOSPortableJSONSerializer(),
        log_level="WARNING",
    )
