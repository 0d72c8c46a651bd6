"""Owns what a fine-tune would take: tokens by the dataset's card; time by the pace of the last ones, or the price."""

from dataclasses import dataclass

from sqlalchemy import select

from capture.datasets import Card
from capture.db import Store
from capture.settings import Settings
from capture.tasks import load_tasks
from students.tables import fine_tunes
from students.training.pricing import training_cost

USUAL_TOKENS_PER_S = 280.0
"""Of the default base on two cores, where nothing has been trained yet."""


@dataclass(frozen=True)
class Estimate:
    """`tokens`, `seconds`, `cost_usd` None: unknown. `measured`: the speed is that of an earlier one of this base."""

    tokens: int | None
    seconds: float | None
    measured: bool
    cost_usd: float | None = 0.0


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
    tokens = _tokens(card, epochs)
    seconds = None if tokens is None else tokens / (tokens_per_s or USUAL_TOKENS_PER_S)
    return Estimate(tokens, seconds, tokens_per_s is not None)


def by_task(store: Store, card: Card) -> Estimate | None:
    """On this machine, as the dataset's task would be trained now; None: that task is gone."""
    task = load_tasks(store).get(card.task)
    return None if task is None else estimate(card, task.training.epochs, pace(store, task.training.base))


def hosted(card: Card, epochs: float, base: str, settings: Settings) -> Estimate:
    """At an upstream, by the settings' price for training this base; its time is not known beforehand."""
    tokens = _tokens(card, epochs)
    cost = None if tokens is None else training_cost(base, tokens, settings.prices)
    return Estimate(tokens, None, False, cost)


def trainers(settings: Settings) -> list[str]:
    """The upstreams that may train: allowed to, and with a key of the worker's."""
    return [name for name, one in settings.upstreams.items() if one.training_allowed and one.worker_key_env]


def _tokens(card: Card, epochs: float) -> int | None:
    counted = card.tokens.get("train")
    return None if counted is None else round((counted.input + counted.output) * epochs)
