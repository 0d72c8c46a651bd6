"""`stillhouse doctor`: says what is missing, one line each."""

import importlib.util
import shutil
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from sqlalchemy import func, select

from capture.db import Store
from capture.errors import StillhouseError
from capture.settings import Settings, secret
from students.tables import leases, student_servers

LOW_DISK_BYTES = 2 * 1024**3
SILENT_AFTER_S = 30
LOCAL_PACKAGES = ("torch", "transformers", "peft", "trl", "gguf")


@dataclass(frozen=True)
class Finding:
    """One line: how bad it is ("ok", "note", "missing"), what it is about, and what to do."""

    level: str
    subject: str
    text: str


def examine(settings: Settings, store: Store, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Everything that a process would need to work, looked at without changing anything."""
    yield _disk(settings)
    yield _store(store)
    for name in settings.upstreams:
        yield from _upstream(settings, name, environ)
    if not settings.upstreams:
        yield Finding("missing", "upstreams", "none: add [upstreams.NAME] to stillhouse.toml")
    if not settings.tasks:
        yield Finding(
            "note", "tasks", "none in stillhouse.toml: traffic passes through, and is captured without a task"
        )
    for name, task in settings.tasks.items():
        if not settings.upstreams[task.teacher.upstream].training_allowed:
            text = "its teacher's upstream has training_allowed = false: captured and evaluated, never trained on"
            yield Finding("note", f"tasks.{name}", text)
    yield _local()
    yield worker(store)


def _disk(settings: Settings) -> Finding:
    folder = settings.data if settings.data.exists() else settings.data.absolute().parent
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return Finding("missing", "data", f"{settings.data} cannot be used: {error.strerror}")
    level = "missing" if free < LOW_DISK_BYTES else "ok"
    return Finding(level, "data", f"{settings.data}: {free / 1024**3:.1f} GiB free")


def _store(store: Store) -> Finding:
    try:
        with store.read() as connection:
            connection.execute(select(func.count()).select_from(leases))
    except StillhouseError as error:
        return Finding("missing", "store", f"{error}: start it, or set DATABASE_URL")
    return Finding("ok", "store", "PostgreSQL answers" if not store.is_sqlite else "SQLite file is in order")


def _upstream(settings: Settings, name: str, environ: Mapping[str, str]) -> Iterator[Finding]:
    upstream = settings.upstreams[name]
    subject = f"upstreams.{name}"
    parts = urlsplit(upstream.base_url)
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((parts.hostname or "", port), timeout=upstream.connect_timeout_s).close()
        yield Finding("ok", subject, f"{upstream.base_url} can be reached")
    except OSError as error:
        yield Finding("missing", subject, f"{upstream.base_url} cannot be reached: {error}")
    if upstream.auth == "key" and not secret(upstream, environ):
        yield Finding("missing", subject, f"no key: set {upstream.api_key_env or upstream.api_key_file}")
    if not upstream.worker_key_env:
        yield Finding("note", subject, "no worker_key_env: shadow, pairs and judges are off")
    elif not secret(upstream, environ, worker=True):
        yield Finding("note", subject, f"{upstream.worker_key_env} is not set: shadow, pairs and judges are off")


def _local() -> Finding:
    absent = [name for name in LOCAL_PACKAGES if importlib.util.find_spec(name) is None]
    if absent:
        text = f"{', '.join(absent)} not installed: pip install torch==2.13.0, then pip install 'stillhouse[local]'"
        return Finding("note", "local training", text)
    return Finding("ok", "local training", "torch, transformers, peft and trl are installed")


def worker(store: Store) -> Finding:
    """Whether the controller has ticked lately."""
    with store.read() as connection:
        ticked_at = connection.execute(select(func.max(leases.c.ticked_at))).scalar()
    return _alive("worker", ticked_at, "`stillhouse worker`, or `stillhouse up`")


def students(store: Store) -> Finding:
    """Whether the student server keeps up what it was asked for."""
    with store.read() as connection:
        wanted = select(func.count(), func.min(student_servers.c.seen_at))
        count, seen_at = connection.execute(wanted.where(student_servers.c.wanted_at.is_not(None))).one()
    if not count:
        return Finding("ok", "student server", "no student is wanted")
    return _alive("student server", seen_at, "`stillhouse students serve`, or `stillhouse up`")


def _alive(subject: str, seen_at: float | None, remedy: str) -> Finding:
    if seen_at is None:
        return Finding("note", subject, f"has never run here: start {remedy}")
    age_s = time.time() - seen_at
    if age_s > SILENT_AFTER_S:
        return Finding("missing", subject, f"silent for {age_s:.0f} s: start {remedy}")
    return Finding("ok", subject, f"last seen {age_s:.0f} s ago")
