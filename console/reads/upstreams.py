"""Owns how upstreams fare: what their latest exchanges say, and the gateway's breakers from its metrics port."""

from dataclasses import dataclass
from http.client import HTTPException
from urllib.error import URLError
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import case, func, or_, select

from capture.db import Store
from capture.settings import Settings
from capture.tables import exchanges

RECENT = 5_000
"""How many of the newest exchanges are looked at, of all upstreams together."""

HOUR_S = 3600.0
ANSWER_S = 0.3
STATES = ("closed", "half open", "open")
CIRCUIT = "stillhouse_circuit_state"


@dataclass(frozen=True)
class Health:
    """An upstream's exchanges of the last hour, among the newest RECENT. `failed`: status 429, from 500, or cut off."""

    requests: int
    failed: int
    first_ms: float | None
    last_at: float


def health(store: Store, now: float) -> dict[str, Health]:
    """By upstream; of those without an exchange in the last hour nothing. `now`: Unix seconds."""
    columns = [exchanges.c[name] for name in ("upstream", "status", "complete", "first_ms", "started_at")]
    newest = select(*columns).order_by(exchanges.c.id.desc()).limit(RECENT).subquery()
    bad = or_(newest.c.status == 429, newest.c.status >= 500, newest.c.complete.is_(False))
    failed = func.sum(case((bad, 1), else_=0))
    figures = (func.count(), failed, func.avg(newest.c.first_ms), func.max(newest.c.started_at))
    chosen = select(newest.c.upstream, *figures).where(newest.c.started_at >= now - HOUR_S).group_by(newest.c.upstream)
    with store.read() as connection:
        return {
            name: Health(many, int(lost), first, last) for name, many, lost, first, last in connection.execute(chosen)
        }


def circuits(settings: Settings) -> dict[str, str] | None:
    """State by upstream, or student, that has failed at least once; None where no gateway answers on this machine."""
    try:
        with urlopen(f"http://127.0.0.1:{settings.gateway.metrics_port}/metrics", timeout=ANSWER_S) as answer:
            text = answer.read().decode()
        families = list(text_string_to_metric_families(text))
    except (URLError, HTTPException, OSError, ValueError):
        return None
    samples = (sample for family in families for sample in family.samples if sample.name == CIRCUIT)
    return {sample.labels["upstream"]: STATES[min(2, int(sample.value))] for sample in samples}
