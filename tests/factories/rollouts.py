"""Students, their servers, rollouts and the controller's lease, put straight into a store."""

from typing import Any

from sqlalchemy import insert

from capture.db import Store
from capture.settings import RolloutSettings, ViewSettings
from students.tables import leases, rollouts, student_servers, students
from tests.factories.store import NOON


def add_student(store: Store, url: str | None = None, **overrides: Any) -> str:
    """A student of `triage`; with `url` its server is ready there (`state`, `capacity_per_s`, `wanted_at` are its)."""
    server = {name: overrides.pop(name, default) for name, default in SERVER.items()}
    known: dict[str, Any] = {
        "id": "st_1",
        "name": "ft:small:triage:1",
        "task": "triage",
        "kind": "local",
        "base": "small",
        "view": ViewSettings().model_dump(mode="json"),
        "fingerprints": [],
        "tools": False,
        "created_at": NOON,
    }
    row = known | overrides
    with store.write() as connection:
        connection.execute(insert(students).values(row))
        if url is not None:
            values = {"student_id": row["id"], "url": url, "served_model": "served-small", "seen_at": NOON}
            connection.execute(insert(student_servers).values(values | server))
    return str(row["id"])


SERVER: dict[str, Any] = {"state": "ready", "capacity_per_s": None, "wanted_at": NOON}


def add_rollout(store: Store, **overrides: Any) -> str:
    """A running rollout of `st_1` at a quarter."""
    known: dict[str, Any] = {
        "id": "ro_1",
        "task": "triage",
        "student_id": "st_1",
        "state": "running",
        "stage": 1,
        "share": 0.25,
        "policy": RolloutSettings().model_dump(mode="json"),
        "evidence": {},
        "fence": 1,
        "dry_run": False,
        "created_at": NOON,
        "stage_at": NOON,
    }
    row = known | overrides
    with store.write() as connection:
        connection.execute(insert(rollouts).values(row))
    return str(row["id"])


def tick(store: Store, at: float) -> None:
    """The controller ticked at `at`."""
    with store.write() as connection:
        row = {"name": "controller", "holder": "test", "token": 1, "expires_at": at + 30, "ticked_at": at}
        connection.execute(leases.delete())
        connection.execute(insert(leases).values(row))
