"""What trainings at upstreams must not forget, in the store: the file that was uploaded, the job that was asked for."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import select, update

from capture.db import Store, insert_once
from capture.errors import NotFoundError
from students.tables import hosted_runs
from students.training.trainer import Artefact, TrainingPlan


@dataclass(frozen=True)
class HostedRun:
    """One row of hosted_runs. `asked_at` is set before a job is created, and stays while there may be one."""

    run: str
    upstream: str
    plan: TrainingPlan
    sha256: str | None
    file_id: str | None
    asked_at: float | None
    job_id: str | None
    last_event: str | None
    cancel_asked: bool
    result: Artefact | None

    @property
    def rows(self) -> Path:
        return Path(self.plan.rows[0])


class Memory:
    """Short transactions over hosted_runs."""

    def __init__(self, store: Store, upstream: str) -> None:
        self._store, self._upstream = store, upstream

    def begin(self, plan: TrainingPlan) -> None:
        """The run of a plan; one that was begun before stays as it is."""
        row = {
            "run": plan.name,
            "upstream": self._upstream,
            "plan": msgspec.to_builtins(plan),
            "cancel_asked": False,
        }
        with self._store.write() as connection:
            insert_once(connection, hosted_runs, row, ["run"])

    def has(self, run: str) -> bool:
        with self._store.read() as connection:
            return connection.execute(select(hosted_runs.c.run).where(hosted_runs.c.run == run)).first() is not None

    def load(self, run: str) -> HostedRun:
        """Raises NotFoundError."""
        with self._store.read() as connection:
            row = connection.execute(select(hosted_runs).where(hosted_runs.c.run == run)).one_or_none()
        if row is None:
            raise NotFoundError(f"no training {run!r} was begun at {self._upstream}")
        values = dict(row._mapping)
        values["plan"] = msgspec.convert(values["plan"], TrainingPlan)
        values["result"] = None if values["result"] is None else msgspec.convert(values["result"], Artefact)
        return HostedRun(**values)

    def change(self, run: str, **values: Any) -> None:
        with self._store.write() as connection:
            connection.execute(update(hosted_runs).where(hosted_runs.c.run == run).values(**values))

    def finish(self, run: str, artefact: Artefact) -> None:
        self.change(run, result=msgspec.to_builtins(artefact))

    def uploaded(self, sha256: str) -> str | None:
        """The file of this content that was uploaded before, by whichever run."""
        same = (hosted_runs.c.upstream == self._upstream) & (hosted_runs.c.sha256 == sha256)
        with self._store.read() as connection:
            query = select(hosted_runs.c.file_id).where(same, hosted_runs.c.file_id.is_not(None))
            return connection.execute(query.limit(1)).scalar()

    def is_claimed(self, job_id: str) -> bool:
        """Whether a run of ours has this job already."""
        mine = (hosted_runs.c.upstream == self._upstream) & (hosted_runs.c.job_id == job_id)
        with self._store.read() as connection:
            return connection.execute(select(hosted_runs.c.run).where(mine)).first() is not None
