"""Owns what the operations page shows: the spool, who is alive, the audit trail."""

import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from capture.db import Store
from capture.segments import listed
from capture.settings import Settings
from capture.tables import audit
from students.tables import leases, student_servers

ALIVE_S = 30.0
HIDDEN = "•••"
_PASSWORD = re.compile(r"(://[^:/]*:)[^@]*@(?:[^@/?]*@)*")
_SECRET = re.compile(r"(?i)((?:^|&)[^=&]*(?:pass|secret|token|key)[^=&]*=)[^&]*")
PROBE_S = 0.3


@dataclass(frozen=True)
class Spool:
    bytes: int
    segments: int
    folders: int


@dataclass(frozen=True)
class Process:
    """A process of this install; `seen_ago_s` None: it has never been seen."""

    name: str
    alive: bool
    seen_ago_s: float | None
    detail: str


@dataclass(frozen=True)
class AuditRow:
    id: str
    at: float
    who: str
    action: str
    subject: str
    detail: dict[str, Any]


def spool_depth(spool_folder: Path) -> Spool:
    """What lies on disk in every process's folder, shipped parts of open segments included."""
    folders = [folder for folder in sorted(spool_folder.glob("[!.]*")) if folder.is_dir()]
    sizes = [size for folder in folders for _, size in listed(folder)]
    return Spool(bytes=sum(sizes), segments=len(sizes), folders=len(folders))


def processes(store: Store, settings: Settings, now: float) -> list[Process]:
    """The gateway by its port, worker and student server by what they last wrote."""
    with store.read() as connection:
        ticked_at = connection.scalar(select(func.max(leases.c.ticked_at)))
        wanted = select(func.count(), func.max(student_servers.c.seen_at))
        served, seen_at = connection.execute(wanted.where(student_servers.c.wanted_at.is_not(None))).one()
    return [
        _gateway(settings),
        _seen("Worker", ticked_at, now, "ships, trains, decides"),
        _seen("Student server", seen_at, now, f"{served} wanted")
        if served
        else Process("Student server", True, None, "no student is wanted"),
    ]


def _gateway(settings: Settings) -> Process:
    host, port = settings.gateway.host, settings.gateway.port
    try:
        socket.create_connection((host if host != "0.0.0.0" else "127.0.0.1", port), PROBE_S).close()  # noqa: S104
    except OSError as error:
        return Process("Gateway", False, None, f"{host}:{port}: {error.strerror or 'no answer'}")
    return Process("Gateway", True, 0.0, f"{host}:{port} accepts connections")


def _seen(name: str, at: float | None, now: float, detail: str) -> Process:
    if not at:
        return Process(name, False, None, "has never run here")
    if at > now + ALIVE_S:
        return Process(name, False, None, f"last seen {at - now:.0f} s from now: set the machines' clocks")
    age_s = max(0.0, now - at)
    return Process(name, age_s <= ALIVE_S, age_s, detail)


def list_audit(store: Store, before_id: str | None = None, limit: int = 50) -> list[AuditRow]:
    """Newest first; `before_id` is the last row's id of the page before."""
    query = select(audit).order_by(audit.c.id.desc()).limit(limit)
    if before_id is not None:
        query = query.where(audit.c.id < before_id)
    with store.read() as connection:
        return [AuditRow(**row._mapping) for row in connection.execute(query)]


def hidden(settings: Settings) -> dict[str, Any]:
    """The settings in effect, JSON-ready, with every password in an address replaced."""
    shown = settings.model_dump(mode="json")
    if settings.database_url:
        shown["database_url"] = without_password(settings.database_url)
    for upstream in shown["upstreams"].values():
        upstream["base_url"] = without_password(upstream["base_url"])
    return shown


def without_password(url: str) -> str:
    """Before the host, as SQLAlchemy reads it, and among the parameters, where libpq takes one too.

    A password may hold `/` and `?`, but no `@`: what follows one up to the host is taken for a part of it all the same.
    """
    address, mark, query = _PASSWORD.sub(rf"\1{HIDDEN}@", url).partition("?")
    return address + mark + _SECRET.sub(rf"\1{HIDDEN}", query)
