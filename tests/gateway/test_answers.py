"""The app's own errors, whatever went wrong."""

import json

import httpx2
import pytest
from fastapi import FastAPI

from capture.errors import DiskError, NotFoundError, RefusedError, StoreAwayError
from gateway.answers import RefusalError, answer, install
from gateway.plan import Refusal

FAILURES = {
    "refusal": RefusalError(Refusal(409, "no", param="p", code="c", headers=((b"x-a", b"1"),))),
    "unknown": NotFoundError("no such thing"),
    "forbidden": RefusedError("not allowed"),
    "away": StoreAwayError("postgresql://user:secret@host"),
    "disk": DiskError("secret path"),
    "bug": ZeroDivisionError("secret prompt"),
}


@pytest.fixture
def client() -> httpx2.AsyncClient:
    app = FastAPI()
    install(app)

    @app.get("/{name}")
    async def fail(name: str) -> None:
        raise FAILURES[name]

    return httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app, raise_app_exceptions=False), base_url="http://gateway"
    )


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("refusal", 409, "c"),
        ("unknown", 404, "not_found"),
        ("forbidden", 400, "refused"),
        ("away", 503, "store_away"),
        ("disk", 500, "internal"),
        ("bug", 500, "internal"),
    ],
)
async def test_every_failure_has_openais_shape_and_keeps_secrets(
    client: httpx2.AsyncClient, name: str, status: int, code: str
) -> None:
    async with client:
        reply = await client.get(f"/{name}")
    error = reply.json()["error"]
    assert (reply.status_code, error["code"]) == (status, code)
    assert set(error) == {"message", "type", "param", "code"}
    assert "secret" not in reply.text
    assert reply.headers.get("x-a") == ("1" if name == "refusal" else None)
    assert ("retry-after" in reply.headers) == (name == "away")


async def test_a_wrong_method_says_which_are_right(client: httpx2.AsyncClient) -> None:
    async with client:
        reply = await client.post("/bug")
    assert (reply.status_code, reply.headers["allow"]) == (405, "GET")
    assert reply.json()["error"]["message"]


def test_answers_are_json() -> None:
    made = answer({"a": [1]}, 201)
    assert (made.status_code, json.loads(bytes(made.body)), made.media_type) == (201, {"a": [1]}, "application/json")
