"""With which probability an exchange is kept where strata or caps are set: what it is like, and whose it is."""

from collections import Counter
from collections.abc import Iterable

from sqlalchemy import select

from capture import prompts
from capture.db import Store
from capture.exchange import Assignment, Exchange
from capture.rows import Opened, Rules, label_of
from capture.sampling import DAY_S, Traits, is_holdout, rate_of, thinned
from capture.settings import SamplingSettings
from capture.strata import language_of, length_of
from capture.tables import sampled

Owner = tuple[int, str]
"""A day since 1970 (UTC), and a hash of the task and the key or user."""

LOOKED_UP = 500
"""Owners in one query."""


class Selector:
    """Looks up in the store how many exchanges owners have had; what a batch adds is counted in the batch itself."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._before: dict[Owner, int] = {}

    def begin(self, owners: Iterable[Owner]) -> None:
        """A new batch, with exchanges of these owners: the store may know more by now. Raises StoreAwayError."""
        self._before = {}
        wanted = sorted(set(owners))
        for start in range(0, len(wanted), LOOKED_UP):
            days, names = zip(*wanted[start : start + LOOKED_UP], strict=True)
            theirs = sampled.c.day.in_(sorted(set(days))) & sampled.c.owner.in_(names)
            with self._store.read() as connection:
                for row in connection.execute(select(sampled).where(theirs)):
                    self._before[row.day, row.owner] = row.seen

    def probability(self, counts: Counter[Owner], exchange: Exchange, found: Opened, rules: Rules) -> float:
        """That of an exchange whose owners the batch began with. `counts`: how many of theirs came before it in it.

        The holdout's and the control arm's is the task's rate, whatever they are like and whoever asked.
        """
        if _is_apart(exchange, found, rules):
            return rules.sampling.rate
        probability = rate_of(rules.sampling, traits_of(exchange, found, rules))
        for owner, cap in owners_of(exchange, found, rules):
            counts[owner] += 1
            probability *= thinned(cap, self._before.get(owner, 0) + counts[owner])
        return probability


def looks_inside(sampling: SamplingSettings) -> bool:
    """Whether what is kept depends on bodies or owners."""
    return bool(sampling.strata or sampling.per_key or sampling.per_user)


def owners_of(exchange: Exchange, found: Opened, rules: Rules) -> list[tuple[Owner, int]]:
    """Whose exchange it is, as far as there are caps, with the cap of each; none of the holdout's and control's."""
    if _is_apart(exchange, found, rules):
        return []
    user = prompts.user_of(found.request) if rules.sampling.per_user else None
    named = user and rules.redactor.pseudonym(user)
    caps = (("key", exchange.key_id, rules.sampling.per_key), ("user", named, rules.sampling.per_user))
    day, task = int(exchange.started_at // DAY_S), exchange.task or ""
    return [((day, prompts.hashed("cap", f"{task}\0{kind}\0{name}")), cap) for kind, name, cap in caps if name and cap]


def _is_apart(exchange: Exchange, found: Opened, rules: Rules) -> bool:
    return is_holdout(found.conversation, rules.dataset) or exchange.assignment is Assignment.CONTROL


def traits_of(exchange: Exchange, found: Opened, rules: Rules) -> Traits:
    """What strata tell the exchange by, of its raw bodies."""
    return Traits(
        label=label_of(found.answer, rules.label),
        language=language_of(found.asked),
        length=length_of(found.asked),
        prompt_version=exchange.fingerprint or prompts.fingerprint(found.request),
    )
