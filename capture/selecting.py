"""With which probability an exchange is kept where strata or caps are set: what it is like, and whose it is."""

from collections import Counter

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


class Selector:
    """Looks up in the store how many exchanges an owner has had; what a batch adds is counted in the batch itself."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._before: dict[Owner, int] = {}

    def begin(self) -> None:
        """A new batch: the store may know more by now."""
        self._before = {}

    def probability(
        self, owners: Counter[Owner], exchange: Exchange, found: Opened, settings: SamplingSettings, rules: Rules
    ) -> float:
        """The holdout's and the control arm's is the task's rate, whatever they are like and whoever asked."""
        conversation = prompts.conversation_key(exchange, found.request)
        if is_holdout(conversation, rules.dataset) or exchange.assignment is Assignment.CONTROL:
            return settings.rate
        probability = rate_of(settings, traits_of(exchange, found, rules))
        user = prompts.user_of(found.request)
        named = user and rules.redactor.pseudonym(user)
        for kind, name, cap in (("key", exchange.key_id, settings.per_key), ("user", named, settings.per_user)):
            if name and cap is not None:
                probability *= thinned(cap, self._number(owners, exchange, f"{kind}\0{name}"))
        return probability

    def _number(self, owners: Counter[Owner], exchange: Exchange, name: str) -> int:
        owner = int(exchange.started_at // DAY_S), prompts.hashed("cap", f"{exchange.task or ''}\0{name}")
        if owner not in self._before:
            mine = (sampled.c.day == owner[0]) & (sampled.c.owner == owner[1])
            with self._store.read() as connection:
                self._before[owner] = connection.scalar(select(sampled.c.seen).where(mine)) or 0
        owners[owner] += 1
        return self._before[owner] + owners[owner]


def traits_of(exchange: Exchange, found: Opened, rules: Rules) -> Traits:
    """What strata tell the exchange by, of its raw bodies."""
    asked = prompts.last_user_text(found.request)
    return Traits(
        label=label_of(found.answer, rules.label),
        language=language_of(asked),
        length=length_of(asked),
        prompt_version=exchange.fingerprint or prompts.fingerprint(found.request),
    )
