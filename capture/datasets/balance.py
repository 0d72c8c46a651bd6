"""Caps and class balance: which of the rows that passed are left out so that none has too much say. Pure."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from capture.datasets.filters import Filters


@dataclass(frozen=True, slots=True)
class Pick:
    """A row that passed every filter."""

    id: str
    label: str | None
    key_id: str | None
    user: str | None
    session: str | None
    conversation: str
    fingerprint: str | None = None  # prompt version


def rank(seed: int, identity: str) -> bytes:
    """Where a row stands in an order that has nothing to do with time or content, the same whenever it is asked."""
    return hashlib.sha256(f"{seed}:{identity}".encode()).digest()


def capped(picks: Sequence[Pick], filters: Filters) -> tuple[list[Pick], Counter[str]]:
    """The rows within every cap, by id, and how many fell to which. Those in `filters.first` stay before
    others; which of the others do is up to `rank`."""
    drops: Counter[str] = Counter()
    first = frozenset(filters.first)
    kept: Iterable[Pick] = sorted(picks, key=lambda pick: (pick.id not in first, rank(filters.seed, pick.id)))
    caps: tuple[tuple[str, int | None, Callable[[Pick], str | None]], ...] = (
        ("key_cap", filters.per_key, lambda pick: pick.key_id),
        ("user_cap", filters.per_user, lambda pick: pick.user),
        ("session_cap", filters.per_session, lambda pick: pick.session),
        ("prompt_version_cap", filters.per_prompt_version, lambda pick: pick.fingerprint),
        ("label_cap", filters.per_label, lambda pick: pick.label),
    )
    for reason, limit, owner in caps:
        if limit is not None:
            kept = list(_first([(owner(pick), pick) for pick in kept], limit, reason, drops))
    kept = list(kept)
    if filters.balance is not None and kept:
        rarest = min(Counter(pick.label for pick in kept).values())
        limit = max(1, int(rarest * filters.balance))
        kept = list(_first([(pick.label or "", pick) for pick in kept], limit, "balance", drops))
    if filters.max_rows is not None:
        drops["max_rows"] += max(0, len(kept) - filters.max_rows)
        kept = kept[: filters.max_rows]
    return sorted(kept, key=lambda pick: pick.id), +drops


def _first(owned: Sequence[tuple[str | None, Pick]], limit: int, reason: str, drops: Counter[str]) -> Iterable[Pick]:
    """The first `limit` of each owner; rows without an owner have no cap."""
    seen: Counter[str] = Counter()
    for owner, pick in owned:
        if owner is not None and seen[owner] >= limit:
            drops[reason] += 1
            continue
        if owner is not None:
            seen[owner] += 1
        yield pick
