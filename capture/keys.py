"""Gateway keys: made once and shown once, kept as HMAC-SHA256 digests under a pepper that lies beside the data."""

import hmac
import secrets
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from capture.db import Store
from capture.errors import DiskError, NotFoundError
from capture.ids import new_id
from capture.tables import exchanges, keys
from capture.write_once import write_once

PREFIX = "sh-"
REVOKED_FILE = "revoked"
SHOWN = len(PREFIX) + 6

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """What one key may ask for; None: no limit. Each gateway process holds its part of it."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None
    monthly_usd: float | None = None  # by calendar month in UTC; what an unknown price hides is not counted


@dataclass(frozen=True, slots=True)
class Key:
    """What is known of a key: never the key itself."""

    id: str
    name: str
    prefix: str
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
        return write_once(file, secrets.token_bytes(32))
    except OSError as error:
        raise DiskError(f"{file}: {error.strerror}; the data folder must be writable") from error


def create(
    store: Store,
    data: Path,
    name: str,
    tasks: Sequence[str],
    expires_at: float | None,
    clock: Clock,
    limits: KeyLimits = KeyLimits(),
) -> tuple[str, Key]:
    """A new key's text, which is kept nowhere, and what is known of it. `expires_at` in Unix seconds.

    The text is 256 random bits after `sh-`. Raises DiskError when the data folder's pepper cannot be used.
    """
    token = PREFIX + secrets.token_urlsafe(32)
    key = Key(new_id("key_"), name, token[:SHOWN], tuple(tasks), limits, clock(), expires_at, None)
    values = asdict(key) | {"tasks": list(tasks), "digest": digest_of(token, load_pepper(data))}
    with store.write() as connection:
        connection.execute(insert(keys).values(values))
    return token, key


def list_keys(store: Store) -> list[Key]:
    """All keys, oldest first, those revoked and expired too."""
    with store.read() as connection:
        return [_key(row) for row in connection.execute(select(keys).order_by(keys.c.id))]


def live_keys(connection: Connection) -> dict[str, Key]:
    """The keys that were not revoked, by digest."""
    return {row.digest: _key(row) for row in connection.execute(select(keys).where(keys.c.revoked_at.is_(None)))}


def revoke(store: Store, named: str, clock: Clock) -> Key:
    """Mark a key as revoked, from now on; twice is once. `named`: its id, its prefix or its name.

    Raises NotFoundError when that is no key, or more than one.
    """
    matches = (keys.c.id == named) | (keys.c.prefix == named) | (keys.c.name == named)
    with store.write() as connection:
        found = [_key(row) for row in connection.execute(select(keys).where(matches))]
        if len(found) != 1:
            wrong = "no key" if not found else "more than one key"
            raise NotFoundError(f"{wrong} named {named!r}; `stillhouse keys list` shows them")
        revoked = replace(found[0], revoked_at=found[0].revoked_at or clock())
        connection.execute(update(keys).where(keys.c.id == revoked.id).values(revoked_at=revoked.revoked_at))
        return revoked


def revoked_here(data: Path) -> frozenset[str]:
    """Ids and prefixes in `secrets/revoked`, one a line: the way to end a key while the store is away."""
    try:
        return frozenset((data / "secrets" / REVOKED_FILE).read_text(encoding="utf-8").split())
    except FileNotFoundError:
        return frozenset()


def spent_usd(connection: Connection, key_ids: Sequence[str], now: float) -> dict[str, float]:
    """What the stored exchanges of these keys cost in the calendar month of `now` (UTC), as far as prices are known."""
    month = datetime.fromtimestamp(now, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    first_id = f"{int(month.timestamp() * 1000):012x}"  # ids begin with their milliseconds
    query = select(exchanges.c.key_id, func.sum(exchanges.c.cost_usd)).group_by(exchanges.c.key_id)
    chosen = query.where(exchanges.c.id >= first_id, exchanges.c.key_id.in_(key_ids))
    return {str(key_id): cost or 0.0 for key_id, cost in connection.execute(chosen)} if key_ids else {}


def _key(row: Row[Any]) -> Key:
    limits = KeyLimits(**row.limits)
    return Key(row.id, row.name, row.prefix, tuple(row.tasks), limits, row.created_at, row.expires_at, row.revoked_at)
