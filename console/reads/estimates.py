"""Owns what a fine-tune on this machine would take: tokens by the dataset's card, time by the pace of the last ones."""

from dataclasses import dataclass

from sqlalchemy import select

from capture.datasets import Card
from capture.db import Store
from students.tables import fine_tunes

USUAL_TOKENS_PER_S = 280.0
"""Of the default base on two cores, where nothing has been trained yet."""


@dataclass(frozen=True)
class Estimate:
    """`tokens`, `seconds` None: unknown. `measured`: the speed is that of an earlier fine-tune of this base."""

    tokens: int | None
    seconds: float | None
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


def estimate(card: Card, epochs: float, tokens_per_s: float | None) -> Estimate:
    """`tokens_per_s`: as measured; None: the usual pace."""
    counted = card.tokens.get("train")
    if counted is None:
        return Estimate(None, None, tokens_per_s is not None)
    tokens = round((counted.input + counted.output) * epochs)
    return Estimate(tokens, tokens / (tokens_per_s or USUAL_TOKENS_PER_S), tokens_per_s is not None)
