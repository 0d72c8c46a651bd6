"""Gateway keys: made once and shown once, kept as HMAC-SHA256 digests under a pepper that lies beside the data."""

import hmac
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import insert, select, update

from capture.db import Store
from capture.errors import DiskError, NotFoundError
from capture.ids import new_id
from capture.tables import keys

PREFIX = "sh-"
SHOWN = len(PREFIX) + 6

Clock = Callable[[], float]


class KeyLimits(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one key may ask for; None: no limit. Each gateway process holds its part of it."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None


@dataclass(frozen=True, slots=True)
class Key:
    """A key as it is kept: never the key itself."""

    id: str
    name: str
    prefix: str
    digest: str
    tasks: tuple[str, ...]  # names it may use; empty: all
    limits: KeyLimits
    created_at: float
    expires_at: float | None
    revoked_at: float | None

    def usable(self, now: float) -> bool:
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


def digest_of(token: str, pepper: bytes) -> str:
    """HMAC-SHA256 of a key, as hexadecimal digits."""
    return hmac.digest(pepper, token.encode("utf-8", "replace"), "sha256").hex()


def load_pepper(data: Path) -> bytes:
    """32 secret bytes from `secrets/pepper` in the data folder, made there (0600) at the first call.

    Raises DiskError when the file can neither be read nor written. Without this file every key is void.
    """
    file = data / "secrets" / "pepper"
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _write_once(file, secrets.token_bytes(32))
        return file.read_bytes()
    except OSError as error:
        raise DiskError(f"{file}: {error.strerror}; the data folder must be writable") from error


def create_key(
    store: Store,
    pepper: bytes,
    name: str,
    clock: Clock,
    *,
    tasks: Sequence[str] = (),
    limits: KeyLimits | None = None,
    expires_at: float | None = None,
) -> tuple[Key, str]:
    """A new key and its text, which is nowhere kept: 256 random bits after `sh-`. `expires_at` in Unix seconds."""
    token = PREFIX + secrets.token_urlsafe(32)
    key = Key(
        id=new_id("key_"),
        name=name,
        prefix=token[:SHOWN],
        digest=digest_of(token, pepper),
        tasks=tuple(tasks),
        limits=limits or KeyLimits(),
        created_at=clock(),
        expires_at=expires_at,
        revoked_at=None,
    )
    with store.write() as connection:
        connection.execute(insert(keys).values(_columns(key)))
    return key, token


def list_keys(store: Store) -> list[Key]:
    """All keys, oldest first, those revoked and expired too."""
    with store.read() as connection:
        return [_key(row) for row in connection.execute(select(keys).order_by(keys.c.id)).mappings()]


def revoke_key(store: Store, id_or_prefix: str, clock: Clock) -> Key:
    """Mark a key as revoked, from now on; twice is once. Raises NotFoundError when it names none, or more than one."""
    named = (keys.c.id == id_or_prefix) | (keys.c.prefix == id_or_prefix) | (keys.c.name == id_or_prefix)
    with store.write() as connection:
        found = [_key(row) for row in connection.execute(select(keys).where(named)).mappings()]
        if len(found) != 1:
            wrong = "no key" if not found else "more than one key"
            raise NotFoundError(f"{wrong} named {id_or_prefix!r}; `stillhouse keys list` shows them")
        revoked_at = found[0].revoked_at or clock()
        connection.execute(update(keys).where(keys.c.id == found[0].id).values(revoked_at=revoked_at))
        return replace(found[0], revoked_at=revoked_at)


def _write_once(file: Path, content: bytes) -> None:
    """Whole or not at all, and never over another process's: a hard link fails when the name is taken."""
    if file.exists():
        return
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    try:
        os.link(draft, file)
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def _columns(key: Key) -> dict[str, Any]:
    values = {name: getattr(key, name) for name in Key.__slots__}
    return values | {"tasks": list(key.tasks), "limits": msgspec.to_builtins(key.limits)}


def _key(row: Mapping[Any, Any]) -> Key:
    values = dict(row)
    return Key(**values | {"tasks": tuple(row["tasks"]), "limits": msgspec.convert(row["limits"] or {}, KeyLimits)})
