"""Owns how upstreams fare: what their latest exchanges say, and the gateway's breakers from its metrics port."""

from dataclasses import dataclass

import httpx2
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import and_, case, func, or_, select

from capture.db import Store
from capture.settings import Settings
from capture.tables import exchanges

RECENT = 5_000
"""How many of the newest exchanges are looked at, of all upstreams together."""

HOUR_S = 3600.0
ANSWER_S = 0.3
STATES = ("closed", "half open", "open")
CIRCUIT = "stillhouse_circuit_state"

UPSTREAMS_OWN = "upstream_"
"""What the cause of an exchange begins with where its upstream is to blame."""

NOT_ITS_FAULT = ("upstream_busy", "gateway_stopped", "internal")
"""Causes whose status of 500 and above is the gateway's own."""


@dataclass(frozen=True)
class Health:
    """An upstream's exchanges of the last hour, among the newest RECENT.

    `failed`: status 429, from 500, or cut off by it; what the client or the gateway did is none of its own. One that
    failed before another answered in its place is not seen: the exchange is the other's.
    """

    requests: int
    failed: int
    first_ms: float | None
    last_at: float


def health(store: Store, now: float) -> dict[str, Health]:
    """By upstream; of those without an exchange in the last hour nothing. `now`: Unix seconds."""
    columns = [exchanges.c[name] for name in ("upstream", "status", "cause", "first_ms", "started_at")]
    newest = select(*columns).order_by(exchanges.c.id.desc()).limit(RECENT).subquery()
    cause = func.coalesce(newest.c.cause, "")
    failing = or_(newest.c.status == 429, newest.c.status >= 500, cause.startswith(UPSTREAMS_OWN, autoescape=True))
    bad = and_(failing, cause.not_in(NOT_ITS_FAULT))
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
        with httpx2.Client(trust_env=False, timeout=ANSWER_S) as client:
            found = client.get(_metrics(settings)).raise_for_status()
        families = list(text_string_to_metric_families(found.text))
    except (httpx2.HTTPError, ValueError):
        return None
    samples = (sample for family in families for sample in family.samples if sample.name == CIRCUIT)
    return {sample.labels["upstream"]: STATES[min(2, int(sample.value))] for sample in samples}


def _metrics(settings: Settings) -> str:
    host = settings.gateway.metrics_host
    everywhere = host in ("0.0.0.0", "::")  # noqa: S104  asked, not bound
    here = "127.0.0.1" if everywhere else f"[{host}]" if ":" in host else host
    return f"http://{here}:{settings.gateway.metrics_port}/metrics"
