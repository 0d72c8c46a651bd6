"""Owns what a fine-tune would take: tokens by the dataset's card, time by the last ones, money by the price list."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import select

from capture.datasets import Card
from capture.db import Store
from capture.settings import PriceSettings
from students.tables import fine_tunes

USUAL_TOKENS_PER_S = 280.0
"""Of the default base on two cores, where nothing has been trained yet."""


@dataclass(frozen=True)
class Estimate:
    """`seconds`, `cost_usd` None: unknown. `measured`: the speed is that of an earlier fine-tune of this base."""

    tokens: int | None
    seconds: float | None
    cost_usd: float | None
    measured: bool


def pace(store: Store, base: str) -> float | None:
    """Tokens a second of the newest fine-tune of this base that came to its end."""
    done = (fine_tunes.c.base == base, fine_tunes.c.state == "succeeded")
    newest = select(fine_tunes).where(*done).order_by(fine_tunes.c.ended_at.desc()).limit(5)
    with store.read() as connection:
        for job in connection.execute(newest):
            if job.trained_tokens and job.started_at and job.ended_at and job.ended_at > job.started_at:
                return float(job.trained_tokens / (job.ended_at - job.started_at))
    return None


def estimate(
    card: Card, epochs: float, tokens_per_s: float | None, base: str, prices: Mapping[str, PriceSettings]
) -> Estimate:
    """A local training costs nothing but time; one of a base with a training price is paid by the token."""
    counted = card.tokens.get("train")
    tokens = None if counted is None else round((counted.input + counted.output) * epochs)
    price = prices[base].training if base in prices else None
    if tokens is None:
        return Estimate(None, None, None if price else 0.0, tokens_per_s is not None)
    cost = 0.0 if price is None else tokens * price / 1e6
    return Estimate(tokens, tokens / (tokens_per_s or USUAL_TOKENS_PER_S), cost, tokens_per_s is not None)
