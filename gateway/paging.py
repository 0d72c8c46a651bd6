"""Pages of the app's lists: how long a client wants them, and the provider's entries behind ours."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from fastapi import Request

from gateway.answers import RefusalError
from gateway.passing import list_beyond
from gateway.plan import Refusal

DIGITS = 9

Json = dict[str, Any]


def limit_of(given: str | None, usual: int, at_most: int) -> int:
    """How many entries a client wants on a page. Raises RefusalError (400)."""
    if given is None:
        return usual
    if not given.isascii() or not given.isdigit() or len(given) > DIGITS or not 1 <= int(given) <= at_most:
        raise RefusalError(Refusal(400, f"limit is a number from 1 to {at_most}.", param="limit"))
    return int(given)


async def with_providers(request: Request, own: Sequence[Json], limit: int) -> tuple[list[Json], bool]:
    """A page of at most `limit` entries, ours first, and whether more follow.

    `own` has one more than `limit` where there are more of ours; only behind the last of them is the provider asked.
    """
    data = list(own[:limit])
    if len(own) > limit:
        return data, True
    asked = {name: value for name, value in request.query_params.items() if name not in ("after", "limit")}
    left = limit - len(data)
    beyond = await list_beyond(request, urlencode({**asked, "limit": max(1, left)}))
    if beyond is None:
        return data, False
    return data + beyond["data"][:left], bool(beyond.get("has_more")) or len(beyond["data"]) > left
