"""The wiring of one gateway process: what it opens, in which order, and what it lets go of at the end."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
from fastapi import FastAPI

from capture.db import open_store
from capture.keys import load_pepper
from capture.settings import GatewaySettings, Settings
from capture.spool import open_spool
from gateway import answers, health, models
from gateway.arms import Arms
from gateway.auth import Gate
from gateway.capacity import Capacity, HeavyKeys
from gateway.lag import LagMeter
from gateway.limits import Limiter
from gateway.refresh import SnapshotKeeper
from gateway.relay.context import STATE_KEY, Limits, open_relay
from gateway.relay.counters import Counters
from gateway.routing import Router
from gateway.tally import Tally


@dataclass(frozen=True, slots=True)
class Place:
    """Which of how many gateway processes this one is."""

    index: int = 0
    processes: int = 1


def create_app(
    settings: Settings,
    place: Place = Place(),
    clock: Callable[[], float] = time.time,
    environ: Mapping[str, str] | None = None,
) -> FastAPI:
    """The app of one gateway process. What it needs is opened in its lifespan, inside the loop that serves.

    Raises DiskError (no room for the spool or the pepper) and StoreAwayError only from within that lifespan.
    """
    app = FastAPI(lifespan=_lifespan, docs_url=None, redoc_url=None, openapi_url=None, title="Stillhouse gateway")
    app.state.settings = settings
    app.state.clock = clock
    app.state.counters = Counters()
    app.state.tally = Tally()
    app.state.lag = LagMeter()
    app.state.store = open_store(settings.store_url)
    app.state.snapshots = SnapshotKeeper(app.state.store, settings, clock, os.environ if environ is None else environ)
    app.state.router = _router(app, settings, place, clock)
    answers.install(app)
    for routes in (health.router, models.router):
        app.include_router(routes)
    return app


def _router(app: FastAPI, settings: Settings, place: Place, clock: Callable[[], float]) -> Router:
    gateway = settings.gateway
    pepper = load_pepper(settings.data) if gateway.keys == "required" else b""
    return Router(
        snapshots=app.state.snapshots,
        gate=Gate(gateway.keys, pepper),
        limiter=Limiter(place.processes, time.monotonic),
        arms=Arms(Capacity(place.processes, time.monotonic), HeavyKeys(), app.state.tally),
        clock=clock,
        max_body_bytes=gateway.max_body_bytes,
    )


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    state = app.state
    await asyncio.to_thread(state.snapshots.start)
    spool = await asyncio.to_thread(open_spool, state.settings)
    state.spool = spool
    limits = relay_limits(state.settings.gateway)
    relay = open_relay(state.router, spool, counters=state.counters, limits=limits)
    lag = asyncio.create_task(state.lag.run())
    async with httpx2.AsyncClient(follow_redirects=False) as client:
        state.upstream_models = models.UpstreamModels(client)
        try:
            yield {STATE_KEY: relay}
        finally:
            lag.cancel()
            relay.close()
            spool.close()
            await asyncio.to_thread(state.snapshots.stop)
            state.store.close()


def relay_limits(gateway: GatewaySettings) -> Limits:
    """The relay's limits as `[gateway]` sets them."""
    return Limits(
        head_bytes=gateway.max_head_bytes,
        body_bytes=gateway.max_body_bytes,
        head_timeout_s=gateway.head_timeout_s,
        body_timeout_s=gateway.body_timeout_s,
        keep_alive_s=gateway.idle_timeout_s,
    )
