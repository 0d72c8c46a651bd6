"""Whether this process lives, and how well."""

from fastapi import APIRouter, Request, Response

from gateway.answers import answer
from gateway.refresh import SnapshotKeeper

router = APIRouter()


@router.get("/healthz")
async def healthz() -> Response:
    """This process answers."""
    return answer({"status": "ok"})


@router.get("/readyz")
async def readyz(request: Request) -> Response:
    """Always 200: requests are served without the store too, `"degraded"` says that it is away."""
    keeper: SnapshotKeeper = request.app.state.snapshots
    away = keeper.degraded
    return answer({"status": "degraded" if away else "ok", "store": "away" if away else "ok"})
