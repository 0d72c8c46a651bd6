"""The wiring of one gateway process: what it opens, in which order, and what it lets go of at the end."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx2
from fastapi import FastAPI

from capture.db import Store, open_store
from capture.errors import ConfigError
from capture.keys import load_pepper
from capture.redact import load_secret
from capture.settings import GatewaySettings, Settings
from capture.spool import Spool, open_spool
from gateway import answers, feedback, files, fine_tuning, health, models, stored
from gateway.arms import Arms
from gateway.auth import Gate
from gateway.breaker import Breakers
from gateway.capacity import Capacity
from gateway.lag import LagMeter
from gateway.limits import Limiter
from gateway.metrics_server import Publisher
from gateway.refresh import SnapshotKeeper
from gateway.relay.context import STATE_KEY, Limits, open_relay
from gateway.relay.counters import Counters
from gateway.routing import Router
from gateway.run_folder import RunFolder
from gateway.tally import Tally
from gateway.usage import UsagePages
from gateway.waking import wake
from students.heavy_keys import HeavyKeys

if TYPE_CHECKING:
    from gateway.telemetry import Telemetry


@dataclass(frozen=True, slots=True)
class Place:
    """Which of how many gateway processes this one is."""

    index: int = 0
    processes: int = 1


@dataclass(frozen=True, slots=True)
class Opened:
    """What a process opens before it serves; the app's lifespan closes it."""

    store: Store
    spool: Spool
    redaction_secret: bytes
    pepper: bytes


def open_all(settings: Settings) -> Opened:
    """Opens the spool and the secrets; the store is not asked yet, it may be away. Raises DiskError."""
    pepper = load_pepper(settings.data) if settings.gateway.keys == "required" else b""
    secret = load_secret(settings.data)
    return Opened(open_store(settings.store_url), open_spool(settings), secret, pepper)


def create_app(
    settings: Settings,
    opened: Opened,
    environ: Mapping[str, str],
    place: Place = Place(),
    shared: RunFolder | None = None,
    clock: Callable[[], float] = time.time,
) -> FastAPI:
    """The app of one gateway process. Its lifespan starts what runs beside it, and puts the relay into the state.

    `shared` is what it has in common with the gateway's other processes; without it, it is the only one.
    """
    keeper = SnapshotKeeper(opened.store, settings, clock, environ)
    app = FastAPI(lifespan=_lifespan, docs_url=None, redoc_url=None, openapi_url=None, title="Stillhouse gateway")
    state = app.state
    state.settings, state.clock, state.shared = settings, clock, shared
    state.store, state.spool, state.snapshots = opened.store, opened.spool, keeper
    state.counters, state.tally, state.lag = Counters(), Tally(), LagMeter()
    policies = {name: upstream.breaker for name, upstream in settings.upstreams.items()}
    state.breakers = Breakers(policies, time.monotonic)
    state.usage = UsagePages(shared.path if shared else None, place.index, place.processes)
    state.redact = feedback.redaction(opened.store, lambda: keeper.current, opened.redaction_secret)
    state.router = Router(
        snapshots=keeper,
        gate=Gate(settings.gateway.keys, opened.pepper),
        limiter=Limiter(state.usage, clock),
        arms=Arms(Capacity(place.processes, time.monotonic), HeavyKeys(), state.tally, state.breakers),
        breakers=state.breakers,
        clock=clock,
        max_body_bytes=settings.gateway.max_body_bytes,
    )
    state.telemetry = _telemetry(settings, place)
    answers.install(app)
    for routes in (health.router, models.router, feedback.router, stored.router, files.router, fine_tuning.router):
        app.include_router(routes)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    state = app.state
    await asyncio.to_thread(state.snapshots.start)
    limits = relay_limits(state.settings.gateway)
    router = state.router if state.telemetry is None else state.telemetry.traced(state.router)
    relay = open_relay(router, state.spool, counters=state.counters, limits=limits)
    publisher = Publisher(state.shared, app) if state.shared is not None else None
    lag = asyncio.create_task(state.lag.run())
    waking = asyncio.create_task(wake(state.router.asked_for, state.store, state.clock))
    async with httpx2.AsyncClient(follow_redirects=False) as client:
        state.client = client
        state.upstream_models = models.UpstreamModels(client)
        try:
            yield {STATE_KEY: relay}
        finally:
            lag.cancel()
            waking.cancel()
            relay.close()
            if publisher is not None:
                await asyncio.to_thread(publisher.close)
            state.spool.close()
            state.usage.close()
            await asyncio.to_thread(state.snapshots.stop)
            state.store.close()
            if state.telemetry is not None:
                await asyncio.to_thread(state.telemetry.close)


def _telemetry(settings: Settings, place: Place) -> "Telemetry | None":
    """None, and nothing imported, where no OTLP endpoint is configured. Raises ConfigError without its packages."""
    endpoint = settings.gateway.otlp_endpoint
    if not endpoint:
        return None
    try:
        from gateway.telemetry import Telemetry
    except ImportError as error:
        raise ConfigError(
            "gateway.otlp_endpoint is set, but OpenTelemetry is not installed: pip install 'stillhouse[otel]'"
        ) from error
    return Telemetry(endpoint, settings.upstreams, place.index)


def relay_limits(gateway: GatewaySettings) -> Limits:
    """The relay's limits as `[gateway]` sets them."""
    return Limits(
        head_bytes=gateway.max_head_bytes,
        body_bytes=gateway.max_body_bytes,
        held_bytes=gateway.max_held_bytes,
        connections=gateway.max_connections,
        head_timeout_s=gateway.head_timeout_s,
        body_timeout_s=gateway.body_timeout_s,
        keep_alive_s=gateway.idle_timeout_s,
    )
