"""`stillhouse doctor`: says what is missing, one line each."""

import importlib.util
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError

from capture.db import Store, open_store
from capture.errors import ConfigError, DiskError, OperationError, StillhouseError
from capture.migrations import is_current
from capture.settings import Settings, check_secret, login_secret, secret
from console.reads.operations import without_password
from console.supervise import check_ports, ports
from students import bases
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


def examine(settings: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Everything that a process would need to work, looked at without changing anything."""
    yield _disk(settings)
    found, opened = store(settings)
    yield found
    yield from _ports(settings)
    for name in settings.upstreams:
        yield from _upstream(settings, name, environ)
    if not settings.upstreams:
        yield Finding("missing", "upstreams", "none: add [upstreams.NAME] to stillhouse.toml")
    yield from _login(settings, environ)
    yield from _tasks(settings)
    yield _local()
    for name in sorted({*settings.fine_tuning.bases, *(task.training.base for task in settings.tasks.values())}):
        yield _base(settings, name)
    if opened:
        yield ask(opened, worker)


def store(settings: Settings) -> tuple[Finding, Store | None]:
    """How the store is, and the store where it can be read as it is: nothing is made, no table brought up to date."""
    if not settings.database_url and not settings.store_file.exists():
        return Finding("note", "store", f"{settings.store_file} is not there yet: the first start makes it"), None
    try:
        opened = open_store(settings.store_url)
    except DiskError as error:
        return Finding("missing", "store", str(error)), None
    try:
        current = is_current(opened)
    except (StillhouseError, DBAPIError) as error:
        opened.close()
        return _unreadable(opened, error), None
    if not current:
        opened.close()
        text = "its tables are of another version: `stillhouse db upgrade`, or any start, brings them up to date"
        return Finding("note", "store", text), None
    return Finding("ok", "store", "SQLite file is in order" if opened.is_sqlite else "PostgreSQL answers"), opened


def ask(opened: Store, look: Callable[[Store], Finding]) -> Finding:
    """What `look` finds in a store, or why the store cannot be read; closes it."""
    try:
        return look(opened)
    except (StillhouseError, DBAPIError) as error:
        return _unreadable(opened, error)
    finally:
        opened.close()


def _unreadable(opened: Store, error: StillhouseError | DBAPIError) -> Finding:
    if isinstance(error, StillhouseError):
        return Finding("missing", "store", f"{error}: start it, or set DATABASE_URL")
    anew = "put a backup in its place, or move it away: the next start makes an empty one"
    remedy = anew if opened.is_sqlite else "see to the rights of its user"
    return Finding("missing", "store", f"{opened.engine.url.database} cannot be read ({error.orig}): {remedy}")


def _disk(settings: Settings) -> Finding:
    data = settings.data.absolute()
    folder = next(place for place in (data, *data.parents) if place.exists())
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return Finding("missing", "data", f"{settings.data} cannot be used: {error.strerror}")
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        return Finding("missing", "data", f"{settings.data} cannot be used: nothing may be written in {folder}")
    level = "missing" if free < LOW_DISK_BYTES else "ok"
    return Finding(level, "data", f"{settings.data}: {free / 1024**3:.1f} GiB free")


def _ports(settings: Settings) -> Iterator[Finding]:
    for setting, address in ports(settings).items():
        try:
            check_ports({setting: address})
        except OperationError as error:
            yield Finding("note", setting, f"{error}; while `stillhouse up` runs, it is its own")
        else:
            yield Finding("ok", setting, f"{address[0]}:{address[1]} is free")


def _upstream(settings: Settings, name: str, environ: Mapping[str, str]) -> Iterator[Finding]:
    upstream = settings.upstreams[name]
    subject = f"upstreams.{name}"
    parts, shown = urlsplit(upstream.base_url), without_password(upstream.base_url)
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((parts.hostname or "", port), timeout=upstream.connect_timeout_s).close()
        yield Finding("ok", subject, f"{shown} can be reached")
    except (OSError, UnicodeError) as error:  # UnicodeError: a name that no host can have
        yield Finding("missing", subject, f"{shown} cannot be reached: {error}")
    try:
        check_secret(name, upstream, environ)
    except ConfigError as error:
        yield Finding("missing", subject, str(error))
    if not upstream.worker_key_env:
        yield Finding("note", subject, "no worker_key_env: shadow, pairs and judges are off")
    elif not secret(upstream, environ, worker=True):
        yield Finding("note", subject, f"{upstream.worker_key_env} is not set: shadow, pairs and judges are off")


def _login(settings: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    if settings.console.login is None:
        return
    try:
        login_secret(settings.console.login, environ)
    except ConfigError as error:
        yield Finding("missing", "console.login", str(error))
    else:
        yield Finding("ok", "console.login", "the client's secret is there")


def _tasks(settings: Settings) -> Iterator[Finding]:
    if not settings.tasks:
        text = "none in stillhouse.toml: traffic passes through, and is captured without a task"
        yield Finding("note", "tasks", text)
    for name, task in settings.tasks.items():
        if not settings.upstreams[task.teacher.upstream].training_allowed:
            text = "its teacher's upstream has training_allowed = false: captured and evaluated, never trained on"
            yield Finding("note", f"tasks.{name}", text)


def _base(settings: Settings, name: str) -> Finding:
    try:
        base = bases.find(name, allow_hub=settings.students.allow_hub)
    except StillhouseError as error:
        return Finding("missing", "base model", str(error))
    if bases.is_pulled(base, settings.models_folder):
        return Finding("ok", "base model", f"{name} lies here")
    return Finding(
        "note", "base model", f"{name} is not here yet: `stillhouse models pull {name}`, or the first fine-tune"
    )


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
    if age_s < -SILENT_AFTER_S:
        return Finding("missing", subject, f"last seen {-age_s:.0f} s from now: set the clocks of both machines")
    return Finding("ok", subject, f"last seen {max(0.0, age_s):.0f} s ago")
