"""Whether this process lives, and how well."""

from fastapi import APIRouter, Request, Response

from gateway.answers import answer
from gateway.breaker import Breakers, CircuitState
from gateway.refresh import SnapshotKeeper

router = APIRouter()


@router.get("/healthz")
async def healthz() -> Response:
    """This process answers."""
    return answer({"status": "ok"})


@router.get("/readyz")
async def readyz(request: Request) -> Response:
    """Always 200: requests are served without the store too, `"degraded"` says that it is away.

    `circuits` names the upstreams that this process leaves alone, with the state of their circuit.
    """
    keeper: SnapshotKeeper = request.app.state.snapshots
    breakers: Breakers = request.app.state.breakers
    away = keeper.degraded
    broken = {one.name: str(one.state) for one in breakers.circuits() if one.state is not CircuitState.CLOSED}
    said = {"status": "degraded" if away or broken else "ok", "store": "away" if away else "ok"}
    return answer(said | ({"circuits": broken} if broken else {}))
