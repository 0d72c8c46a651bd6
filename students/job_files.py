"""Owns the files of purpose fine-tune: their bytes in the data folder, their rows in the store, each key its own."""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Row, Select, delete, func, or_, select

from capture.db import Store
from capture.errors import DiskError, NotFoundError, RefusedError
from capture.ids import new_id
from capture.settings import FineTuningSettings
from students.job_lines import examine
from students.tables import files

FRESH = ".new"
"""The ending of a file that is still being uploaded."""
ABANDONED_S = 86_400.0


@dataclass(frozen=True)
class TrainingFile:
    """One row of files."""

    id: str
    key_id: str | None
    filename: str
    bytes: int
    sha256: str
    lines: int
    created_at: float
    expires_at: float | None


@dataclass(frozen=True)
class Upload:
    """A file that lies at `path`, complete, and whose it is; `lives_s` until it expires, None: never."""

    path: Path
    filename: str
    key_id: str | None
    lives_s: float | None = None


def folder_of(data: Path) -> Path:
    return data / "files"


def path_of(data: Path, file_id: str) -> Path:
    return folder_of(data) / f"{file_id}.jsonl"


def keep(store: Store, data: Path, upload: Upload, limits: FineTuningSettings, clock: Callable[[], float]) -> str:
    """Examines an upload, takes it into the folder and returns its id.

    Raises RefusedError for a line that is none (with its number) and for more bytes than the key may have; DiskError.
    """
    lines, size = examine(upload.path), upload.path.stat().st_size
    row = {
        "id": new_id("file-"),
        "key_id": upload.key_id,
        "filename": upload.filename,
        "bytes": size,
        "sha256": _hash(upload.path),
        "lines": lines,
        "created_at": clock(),
        "expires_at": None if upload.lives_s is None else clock() + upload.lives_s,
    }
    sweep(store, data, clock)
    place = path_of(data, str(row["id"]))
    try:
        upload.path.rename(place)
    except OSError as error:
        raise DiskError(f"{place} cannot be written: {error.strerror}") from error
    try:
        with store.write() as connection:
            own = select(func.coalesce(func.sum(files.c.bytes), 0)).where(_owned(upload.key_id))
            if connection.execute(own).scalar_one() + size > limits.total_bytes:
                raise RefusedError(f"Your files may have {limits.total_bytes} bytes together: delete some first.")
            connection.execute(files.insert().values(row))
    except BaseException:
        place.unlink(missing_ok=True)
        raise
    return str(row["id"])


def load_file(store: Store, file_id: str, key_id: str | None, now: float) -> TrainingFile:
    """Raises NotFoundError for a file that is not there, has expired, or is another key's."""
    with store.read() as connection:
        row = connection.execute(_living(key_id, now).where(files.c.id == file_id)).one_or_none()
    if row is None:
        raise NotFoundError(f"No such File object: {file_id}")
    return _file(row)


def list_files(
    store: Store, key_id: str | None, now: float, *, after: str | None, limit: int, newest_first: bool
) -> list[TrainingFile]:
    """At most `limit` of a key's files, those behind `after`."""
    query = _living(key_id, now).order_by(files.c.id.desc() if newest_first else files.c.id).limit(limit)
    if after is not None:
        query = query.where(files.c.id < after if newest_first else files.c.id > after)
    with store.read() as connection:
        return [_file(row) for row in connection.execute(query)]


def delete_file(store: Store, data: Path, file_id: str, key_id: str | None, now: float) -> None:
    """A job that has begun keeps what it read. Raises NotFoundError."""
    load_file(store, file_id, key_id, now)
    with store.write() as connection:
        connection.execute(delete(files).where(files.c.id == file_id))
    path_of(data, file_id).unlink(missing_ok=True)


def sweep(store: Store, data: Path, clock: Callable[[], float]) -> None:
    """Removes what has expired, and uploads that broke off long ago."""
    with store.write() as connection:
        gone = delete(files).where(files.c.expires_at <= clock()).returning(files.c.id)
        ids = list(connection.execute(gone).scalars())
    for file_id in ids:
        path_of(data, file_id).unlink(missing_ok=True)
    for path in folder_of(data).glob(f"*{FRESH}"):
        if time.time() - path.stat().st_mtime > ABANDONED_S:
            path.unlink(missing_ok=True)


def _owned(key_id: str | None) -> Any:
    return files.c.key_id.is_(None) if key_id is None else files.c.key_id == key_id


def _living(key_id: str | None, now: float) -> Select[Any]:
    """Without a key (keys are off) all belong to the one who asks."""
    query = select(files).where(or_(files.c.expires_at.is_(None), files.c.expires_at > now))
    return query if key_id is None else query.where(files.c.key_id == key_id)


def _file(row: Row[Any]) -> TrainingFile:
    return TrainingFile(**row._mapping)


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
