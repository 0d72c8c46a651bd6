"""Owns the lease that makes one controller the leader, and the fencing token that refuses a stale one's writes."""

from dataclasses import dataclass

from sqlalchemy import Connection, insert, select, update
from sqlalchemy.exc import IntegrityError

from capture.db import Store
from capture.errors import OperationError
from students.tables import leases

AHEAD_S = 60.0
"""How far another host's clock may be ahead of this one's."""


class StaleLeaseError(OperationError):
    """Somebody else leads now; what was about to be written must not be."""


@dataclass(frozen=True)
class Lease:
    name: str
    holder: str
    token: int


def is_live(expires_at: float, now: float, ttl_s: float) -> bool:
    """Whether a lease of `ttl_s` has not run out, nor ends later than a sound clock can have written."""
    return now < expires_at <= now + ttl_s + AHEAD_S


def acquire(store: Store, name: str, holder: str, now: float, ttl_s: float) -> Lease | None:
    """The lease, fresh or prolonged to `now + ttl_s`; None while another holder's has not run out.

    The token rises with every change of holder, and when a holder lost its lease to time. A lease that ends later than
    a sound clock can have written would outlive its holder by as much as that clock is ahead: it is cut to `ttl_s` from
    now. Whoever lives prolongs it in time, whatever its own clock says.
    """
    try:
        with store.write() as connection:
            row = connection.execute(select(leases).where(leases.c.name == name).with_for_update()).one_or_none()
            if row is None:
                values = {"holder": holder, "token": 1, "expires_at": now + ttl_s, "ticked_at": 0.0}
                connection.execute(insert(leases).values(name=name, **values))
                return Lease(name, holder, 1)
            live = row.expires_at > now
            if live and row.holder != holder:
                if not is_live(row.expires_at, now, ttl_s):
                    connection.execute(update(leases).where(leases.c.name == name).values(expires_at=now + ttl_s))
                return None
            token = row.token if live else row.token + 1
            changed = {"holder": holder, "token": token, "expires_at": now + ttl_s}
            connection.execute(update(leases).where(leases.c.name == name).values(changed))
            return Lease(name, holder, token)
    except IntegrityError:  # two made the row at once, and the other was first
        return None


def was_last(store: Store, name: str, holder: str) -> bool:
    """Whether nobody has taken the lease since this holder did, be it run out or not. For what need not be fenced."""
    with store.read() as connection:
        return connection.execute(select(leases.c.holder).where(leases.c.name == name)).scalar() == holder


def fence(connection: Connection, lease: Lease) -> None:
    """Hold the lease's row until this transaction ends. Raises StaleLeaseError when the token is not the newest."""
    found = connection.execute(
        select(leases.c.token, leases.c.holder).where(leases.c.name == lease.name).with_for_update()
    ).one_or_none()
    if found is None or (found.token, found.holder) != (lease.token, lease.holder):
        raise StaleLeaseError(f"lease {lease.name} moved on from token {lease.token}; this controller leads no longer")


def mark_tick(connection: Connection, lease: Lease, now: float) -> None:
    """Write the controller's last tick, under the fence: the age of every routing snapshot is that tick's."""
    fence(connection, lease)
    connection.execute(update(leases).where(leases.c.name == lease.name).values(ticked_at=now))


def release(store: Store, name: str, holder: str) -> None:
    """Let the next holder lead at once; nothing happens when the lease is not this holder's any more."""
    with store.write() as connection:
        ours = (leases.c.name == name) & (leases.c.holder == holder)
        connection.execute(update(leases).where(ours).values(expires_at=0.0))
